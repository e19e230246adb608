"""One ingestion batch: read the source at one instant, write what is new, commit it by its manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from totes.config import SourceSettings
from totes.deadline import NEVER, Deadline
from totes.errors import BatchTaken, SourceRefused
from totes.failpoint import reach
from totes.ingestion.allowance import Allowance
from totes.ingestion.batch import Capture
from totes.ingestion.known import KnownRows
from totes.ingestion.reading import TableReader
from totes.ingestion.source import Snapshot, open_snapshot
from totes.lake.cache import Cache
from totes.lake.journal import ingestion_journal
from totes.lake.manifest import TableChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger

_ATTEMPTS_MAX = 100
_log = logger(stage="ingest")


@dataclass(frozen=True)
class Ingested:
    """What a call of the stage did; `batch` is None when there was nothing new.

    `failures` are tables that should have been captured and could not be: the others were. `captured` is the batch up to
    which all that the snapshot shows is in the lake. `more` says that the source holds more, for which there was no time.
    """

    batch: int | None
    read_at: datetime
    changes: dict[str, TableChanges] = field(default_factory=dict)
    failures: tuple[SourceRefused, ...] = ()
    captured: int = 0
    more: bool = False


def ingest(
    url: str,
    source: SourceSettings,
    store: Store,
    workspace: Workspace,
    *,
    needed: frozenset[str],
    compression: str,
    inspect: Callable[[Snapshot], None] | None = None,
    always: bool = False,
    deadline: Deadline = NEVER,
) -> Ingested:
    """Captures what was committed since the last batch, as one batch, or nothing when there is nothing.

    Safe to be called by any number of runners at once, and to be killed at any moment: a batch exists from the
    instant its manifest does, and a runner that comes second starts over from the winner's batch.

    Args:
        url: the source's PostgreSQL URL.
        source: which schema, tables and keys.
        store: the ingestion lake.
        workspace: where the stage works; the batch's rows stay at hand in it.
        needed: the tables that models read; they must be there and readable.
        compression: zstd, gzip or none.
        inspect: is called with the snapshot when all that it shows is captured, while it is still open.
        always: whether a batch is made also when there is nothing new, so that processing has one to work on.
        deadline: after an eighth of its time no more rows are read; the rest is the next call's.

    Raises:
        SourceError, SourceRefused, StoreError, LakeDamaged: as they say.
    """
    journal = ingestion_journal(store)
    for _ in range(_ATTEMPTS_MAX):
        with Cache.open(workspace, "ingestion", journal) as cache:
            known = KnownRows(cache, journal)
            started = datetime.now(UTC)
            if not known.catch_up(deadline):
                cache.store_checkpoint()
                return Ingested(None, started, captured=cache.batch, more=True)
            with open_snapshot(url, source, needed) as snapshot, TableReader(snapshot, workspace) as reader:
                reach("ingest.opened")
                previous = journal.read(cache.batch) if cache.batch else None
                allowance = Allowance(deadline, workspace.folder)
                capture = Capture(snapshot, known, reader, store, workspace, previous, compression, allowance)
                manifest = capture.run(started, always=always)
                if manifest:
                    try:
                        journal.commit(manifest)
                    except BatchTaken:
                        reader.drop_all()
                        _log.info(
                            "another runner committed this batch first; starting over", batch=manifest.batch
                        )
                        continue
                    cache.begin()
                    capture.learn()
                    cache.commit(manifest.batch, manifest.sha256())
                    workspace.hand_on(manifest.sha256(), capture.at_hand())
                elif capture.saw_all:
                    known.note_looked_through(snapshot.position)
                if inspect:
                    inspect(snapshot)
            cache.store_checkpoint()
            return Ingested(
                manifest.batch if manifest else None,
                capture.position.read_at if manifest else snapshot.position.read_at,
                {n: t for n, t in capture.tables.items() if t.upserts or t.deletes},
                tuple(capture.failures),
                captured=cache.batch,
                more=capture.more,
            )
    raise BatchTaken(f"other runners were first {_ATTEMPTS_MAX} times in a row", hint="Run it again")
