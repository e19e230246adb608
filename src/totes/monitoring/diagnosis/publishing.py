"""Checks the Iceberg catalog: that it can be opened, has this lake's tables, and that the lake still has what they name."""

from __future__ import annotations

import re

from totes.display import count
from totes.monitoring.diagnosis.check import Area
from totes.monitoring.diagnosis.settings import known_url
from totes.pipeline import Pipeline


def check_publishing(area: Area, pipeline: Pipeline) -> None:
    """Checks what `publish.iceberg` names, if anything; creates no file."""
    from totes.publishing.catalog import Catalog, catalog_errors
    from totes.publishing.stage import missing_objects, newest_published

    settings, journal = pipeline.settings, pipeline.processed_journal
    if not settings.publish.iceberg.get_secret_value():
        return
    url = known_url(settings.iceberg_url)
    if url is None:
        area.skip("catalog", "publish.iceberg is not known")
        return
    file = re.fullmatch("sql:sqlite:///(.+)", url)
    if file and not settings.path(file.group(1)).exists():
        area.ok("catalog", f"{settings.path(file.group(1))} is not there yet; the next load creates it")
        return
    with (
        area.checking("catalog", "asking the Iceberg catalog"),
        Catalog.open(settings, journal.store) as catalog,
        catalog_errors("asking the catalog"),
    ):
        batch = newest_published(journal, catalog)
        area.ok(
            "catalog",
            f"the tables of {catalog.namespace} are at batch {batch}"
            if batch
            else "nothing is published yet",
        )
        missing = missing_objects(journal, catalog)
        for name, number in missing.items():
            area.fail(
                "published objects",
                f"{name} names {count(number, 'object')} that the lake does not have any more: nobody can read it",
                "Restore them from a backup, or unzip their bundles: docs/concepts/lake.md#bundles",
            )
        if batch and not missing:
            area.ok("published objects", "the lake has every object that the tables name")
