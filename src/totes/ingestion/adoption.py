"""Going on with a lake's history on another database: after a major upgrade, a restore, a migration.

It is one more batch, for which the tables are compared with what was captured, row by row; only what differs is a change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from totes.errors import SourceRefused, TablesLeftOut
from totes.ingestion.identity import adopting
from totes.ingestion.stage import Ingestion
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import IngestionManifest


@dataclass(frozen=True)
class Adoption:
    """What was found when a database was adopted, or would be: as a batch that is committed, or one that is not."""

    manifest: IngestionManifest
    committed: bool
    failure: TablesLeftOut | None = None

    @property
    def tables(self) -> dict[str, dict[str, int]]:
        """How many rows of each table differ from what was captured, and how many do not."""
        return {
            name: {
                "upserts": table.upserts,
                "deletes": table.deletes,
                "unchanged": table.rows - table.upserts,
            }
            for name, table in self.manifest.tables.items()
        }


def adopt(ingestion: Ingestion, *, dry_run: bool) -> Adoption:
    """Compares all tables of a database with what was captured of another, and commits what differs as a batch.

    Args:
        ingestion: from the database that the history goes on with, into the lake that has it.
        dry_run: whether nothing is written to the lake.

    Raises:
        NothingToAdopt: the source goes on from what was captured by itself.
        SourceRefused: there is no history, or no table can be captured.
        SourceError, StoreError, LakeDamaged: as they say.
    """
    journal = ingestion_journal(ingestion.store)
    if not journal.last():
        raise SourceRefused(
            f"there is no history to go on with: {ingestion.store.url} has no batch",
            hint="totes run begins one",
        )
    ingestion = replace(ingestion, always=True, follow=adopting)
    if dry_run:
        manifest, failure = ingestion.preview()
        return Adoption(manifest, committed=False, failure=failure)
    done = ingestion.run()
    return Adoption(journal.read(done.captured), committed=True, failure=done.failure)
