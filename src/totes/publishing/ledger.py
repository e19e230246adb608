"""The published ledger: a table of one row, the newest batch that is in all tables. It is written after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from totes.failpoint import reach
from totes.lake.manifest import ProcessedManifest
from totes.publishing.catalog import (
    Catalog,
    outlived_snapshots,
    published_batch,
    recorded,
    remove_outlived,
)
from totes.star.declaration import LEDGER

if TYPE_CHECKING:
    from pyiceberg.schema import Schema


def advance(catalog: Catalog, manifest: ProcessedManifest) -> None:
    """Records that a batch is in all tables; does nothing if a later one is recorded.

    Raises:
        CommitFailedException: of PyIceberg, if somebody has committed meanwhile. Nothing was changed.
    """
    import pyarrow as pa
    from pyiceberg.table.update import RemoveSnapshotsUpdate

    table = catalog.table(LEDGER) or catalog.create(LEDGER, _schema())
    if published_batch(table) >= manifest.batch:
        return
    row = {"batch_id": manifest.batch, "manifest_sha256": manifest.sha256(), "read_at": manifest.read_at}
    rows = pa.Table.from_pylist([row], schema=table.schema().as_arrow())
    reach("publish.ledger.before")
    outlived = outlived_snapshots(table)
    with table.transaction() as transaction:
        write = transaction.overwrite if table.current_snapshot() else transaction.append
        write(rows, snapshot_properties=recorded(manifest))
        if outlived:
            expired = RemoveSnapshotsUpdate(snapshot_ids=[one.snapshot_id for one in outlived])
            transaction._apply((expired,))
    reach("publish.ledger.after")
    remove_outlived(table, outlived, rows=True)


def _schema() -> Schema:
    from pyiceberg.schema import Schema

    meanings = {
        "batch_id": ("long", "The newest batch that is in all tables."),
        "manifest_sha256": ("string", "The digest of its manifest in the processed lake."),
        "read_at": ("timestamp", "When it was read from the source, in UTC."),
    }
    fields = [
        {"id": number, "name": name, "type": kind, "required": False, "doc": meaning}
        for number, (name, (kind, meaning)) in enumerate(meanings.items(), start=1)
    ]
    return Schema.model_validate({"type": "struct", "fields": fields})
