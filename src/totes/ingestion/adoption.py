"""Continues a lake's history on another database: after a major upgrade, a restore or a migration.

An adoption is one more batch: all rows are compared with what was captured, and only differences become changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from totes.errors import SourceRefused, TablesLeftOut
from totes.ingestion.identity import adopting
from totes.ingestion.stage import Ingestion
from totes.lake.manifest import IngestionManifest


@dataclass(frozen=True)
class Adoption:
    """The result of an adoption: the manifest of its batch, which is not committed after a dry run."""

    manifest: IngestionManifest
    committed: bool
    failure: TablesLeftOut | None = None

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """For each table, how many rows differ from what was captured, and how many do not."""
        return {
            name: {
                "upserts": table.upserts,
                "deletes": table.deletes,
                "unchanged": table.rows - table.upserts,
            }
            for name, table in self.manifest.tables.items()
        }


def adopt(ingestion: Ingestion, *, dry_run: bool) -> Adoption:
    """Compares all tables of a database with what was captured from another, and commits the differences as a batch.

    Args:
        ingestion: from the database that is to be adopted, into the lake with the history.
        dry_run: whether to compare only, without writing to the lake.

    Raises:
        NothingToAdopt: the source is the database that the lake follows already.
        SourceRefused: there is no history, or no table can be captured.
        SourceError: the source cannot be reached or read.
        StoreError: the lake cannot be read or written.
        LakeDamaged: an object of the lake is missing or wrong.
    """
    journal = ingestion.journal
    if not journal.last():
        raise SourceRefused(
            f"there is no history to continue: {journal.store.url} has no batch",
            hint="totes run starts one",
        )
    ingestion = replace(ingestion, always=True, follow=adopting)
    if dry_run:
        manifest, failure = ingestion.preview()
        return Adoption(manifest, committed=False, failure=failure)
    done = ingestion.run()
    return Adoption(journal.read(done.captured), committed=True, failure=done.failure)
