"""The ingestion stage: reads the source at one instant, writes what is new, and commits it as a batch."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from totes import permissions
from totes.config import SourceSettings
from totes.deadline import NEVER, Deadline
from totes.errors import BatchConflict, RunnerAtWork, SourceBusy, TablesLeftOut
from totes.failpoint import reach
from totes.ingestion.allowance import Allowance
from totes.ingestion.batch import Capture
from totes.ingestion.capture import advance_clock
from totes.ingestion.content import CapturedContent
from totes.ingestion.identity import Follow, Standing, standing
from totes.ingestion.known import KnownRows
from totes.ingestion.log.capture import Captured, LogCapture
from totes.ingestion.log.continuation import is_from_log
from totes.ingestion.log.seam import SeamOfLog
from totes.ingestion.log.session import LogSession, open_log
from totes.ingestion.log.slot import Slot
from totes.ingestion.objects import BatchLabel
from totes.ingestion.packets import PacketWriter
from totes.ingestion.pieces import PieceReader
from totes.ingestion.reading import TableReader
from totes.ingestion.source import Snapshot, open_snapshot
from totes.lake.cache import Cache
from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest, TableChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace
from totes.log import logger
from totes.progress import report
from totes.workers.protocol import Workers

_ATTEMPTS_MAX = 100
# How long a call that needs the source itself waits for another runner; other calls return at once.
_PATIENCE_SECONDS, _PAUSE_SECONDS = 600.0, 0.5
_log = logger(stage="ingest")


@dataclass(frozen=True)
class Ingested:
    """The result of a call of the stage; `batch` is None if nothing was new.

    `failure` has the tables that should have been captured and could not be; the others were. `captured` is the newest batch
    of the lake. `more` means that the source has more, for which the time was too short. `slot` is the slot after a capture
    from the log.
    """

    batch: int | None
    read_at: datetime
    changes: dict[str, TableChanges] = field(default_factory=dict)
    failure: TablesLeftOut | None = None
    captured: int = 0
    more: bool = False
    slot: Slot | None = None

    def following(self, manifest: IngestionManifest | None, changed: Iterable[str]) -> Ingested:
        """This result together with that of a batch that was captured from the log immediately before it."""
        if manifest is None:
            return self
        before = {name: manifest.tables[name] for name in changed}
        return replace(self, batch=self.batch or manifest.batch, changes=before | self.changes)


@dataclass(frozen=True)
class Ingestion:
    """A call of the stage: what to capture from where, and where to.

    Args:
        url: the source's PostgreSQL URL.
        source: which schema, tables and keys.
        journal: the ingestion lake's manifests.
        workspace: where the stage works; it hands the batch's rows off to the next stage.
        needed: the tables that models read; it is a failure if one cannot be captured.
        compression: zstd, gzip or none.
        workers: what reads tables of which all rows are new.
        inspect: called with the snapshot once all that it shows is captured, while it is still open.
        always: whether to commit a batch even if nothing is new, so that processing has one to work on.
        deadline: after an eighth of the time, no more rows are read by query; after half of it, nothing more is read from the
            log. What remains is left to the next call.
        follow: decides how the batch continues from the previous one.
    """

    url: str
    source: SourceSettings
    journal: Journal[IngestionManifest]
    workspace: Workspace
    needed: frozenset[str]
    compression: str
    workers: Workers
    inspect: Callable[[Snapshot], None] | None = None
    always: bool = False
    deadline: Deadline = NEVER
    follow: Follow = standing

    def run(self) -> Ingested:
        """Captures what was committed since the last batch as one batch; writes none if nothing is new.

        Any number of runners may call it at once, and it may be killed at any moment: a batch exists once its manifest
        does, and a runner that comes second starts over from the winner's batch. If another runner is reading the source for
        the same lake, the call returns without reading.

        Raises:
            SourceError: the source cannot be reached or read.
            SourceRefused: the source, or all its tables, cannot be captured.
            StoreError: the lake cannot be read or written.
            LakeDamaged: an object of the lake is missing or wrong.
        """
        waiting_ends = time.monotonic() + (_PATIENCE_SECONDS if self.inspect or self.always else 0)
        for _ in range(_ATTEMPTS_MAX):
            try:
                done = self._attempt()
            except SourceBusy as error:
                _log.info(f"{error.what}; starting over")
                continue
            except RunnerAtWork:
                while time.monotonic() < waiting_ends:
                    time.sleep(_PAUSE_SECONDS)
                    with suppress(RunnerAtWork, SourceBusy):
                        done = self._attempt()
                        break
                else:
                    return self._leave()
            if done:
                return done
        raise BatchConflict(f"other runners were first {_ATTEMPTS_MAX} times in a row", hint="Run it again")

    def _attempt(self) -> Ingested | None:
        """Captures a batch; returns None if another runner committed it first.

        Raises:
            RunnerAtWork: another runner is reading the source for this lake.
            SourceBusy: the batch has to start over.
        """
        with Cache.open(self.workspace, "ingestion", self.journal) as cache:
            known = KnownRows(cache, self.journal)
            started = datetime.now(UTC)
            if not known.catch_up(self.deadline):
                cache.store_summaries(self.deadline)
                return Ingested(None, started, captured=cache.batch, more=True)
            if self.source.capture == "query":
                return self._by_query(cache, known, started)
            try:
                done = self._by_log(cache, known, started)
                if done and self.inspect:
                    done = self._inspected(cache, known, started, self.inspect) or done
            except BatchConflict:
                return None
            cache.store_summaries(self.deadline)
            return done

    def _by_log(self, cache: Cache, known: KnownRows, started: datetime) -> Ingested | None:
        """Captures a batch from the log, and tables by query where that has to come next."""
        with open_log(self.url, self.source, _turn(self.journal.store)) as session:
            reach("ingest.log.opened")
            captured = self._from_log(session, cache, known, started)
            slot = session.slot()
        if captured.comparison is None or (captured.manifest and self.deadline.half_over()):
            return replace(self._ingested(captured, cache), slot=slot)
        done = self._by_query(cache, known, started, captured)
        return replace(done.following(captured.manifest, captured.changes), slot=slot) if done else None

    def _inspected(
        self,
        cache: Cache,
        known: KnownRows,
        started: datetime,
        inspect: Callable[[Snapshot], None],
    ) -> Ingested | None:
        """Captures from the log all that a snapshot sees, inspects that, and returns the batch, if there is one."""
        opened = open_snapshot(self.url, self.source, self.needed, _turn(self.journal.store))
        with opened as snapshot, open_log(self.url, self.source, None) as session:
            captured = self._from_log(session, cache, known, started, snapshot)
            if captured.comparison or captured.more:
                raise SourceBusy(
                    "there is more to capture before the source is inspected", hint="Run it again"
                )
            inspect(snapshot)
        return self._ingested(captured, cache) if captured.manifest else None

    def _from_log(
        self,
        session: LogSession,
        cache: Cache,
        known: KnownRows,
        started: datetime,
        at: Snapshot | None = None,
    ) -> Captured:
        if not cache.batch and self.journal.last():
            raise BatchConflict("another runner has captured the first batch")
        previous = self.journal.read(cache.batch) if cache.batch else None
        return LogCapture(
            session,
            self.source,
            self.journal.store,
            self.workspace,
            cache,
            known,
            self.journal,
            self.needed,
            self.compression,
            self.follow,
            always=self.always and at is None,
            deadline=self.deadline,
        ).run(previous, started, at)

    def _ingested(self, captured: Captured, cache: Cache) -> Ingested:
        manifest = captured.manifest
        return Ingested(
            manifest.batch if manifest else None,
            manifest.position.read_at if manifest else captured.read_at,
            {name: manifest.tables[name] for name in captured.changes} if manifest else {},
            TablesLeftOut.of(captured.failures),
            captured=cache.batch,
            more=captured.more or captured.comparison is not None,
        )

    def _by_query(
        self,
        cache: Cache,
        known: KnownRows,
        started: datetime,
        log: Captured | None = None,
    ) -> Ingested | None:
        """Captures a batch by query, from which capture from the log continues if there is a `log`."""
        seam = SeamOfLog(log, self.source.slot) if log else None
        report("connecting to the source")
        opened = open_snapshot(self.url, self.source, self.needed, _turn(self.journal.store))
        with opened as snapshot:
            reader = self._reader(snapshot)
            reach("ingest.opened")
            if not cache.batch and self.journal.last():
                return None  # another runner has captured the first batch meanwhile: do not read everything again
            previous = self.journal.read(cache.batch) if cache.batch else None
            carried = seam.limit(snapshot, previous) if seam else {}
            with self._capture(snapshot, reader, known, previous, carried=carried) as capture:
                capture.find()
                if not self.inspect or log:
                    snapshot.end()
                reach("ingest.read")
                report("writing the packets to the lake")
                always = self.always or (seam is not None and seam.is_news(capture, snapshot, previous))
                manifest = capture.manifest(started, always=always)
                if manifest and seam:
                    manifest = seam.recorded(manifest, snapshot)
            if manifest:
                try:
                    self.journal.commit(manifest)
                except BatchConflict:
                    reader.drop_all()
                    _log.info(
                        "another runner committed this batch first; starting over", batch=manifest.batch
                    )
                    return None
                cache.begin()
                capture.learn()
                cache.commit(manifest.batch, manifest.sha256())
                self.workspace.hand_off(manifest.sha256(), capture.handoffs())
            elif capture.saw_all and not seam:
                known.note_looked_through(capture.position)
            if self.inspect and not log:
                self.inspect(snapshot)
        cache.store_summaries(self.deadline)
        return Ingested(
            manifest.batch if manifest else None,
            capture.position.read_at if manifest else snapshot.position.read_at,
            {n: t for n, t in capture.tables.items() if t.upserts or t.deletes},
            TablesLeftOut.of(capture.failures),
            captured=cache.batch,
            more=capture.more,
        )

    def preview(self) -> tuple[IngestionManifest, TablesLeftOut | None]:
        """The manifest of the batch that `run` would commit with `always`, and the tables that could not be captured.

        The lake must have a batch. Nothing is written to it.
        """
        with Cache.open(self.workspace, "ingestion", self.journal) as cache:
            known = KnownRows(cache, self.journal)
            known.catch_up(NEVER)
            previous, started = self.journal.read(cache.batch), datetime.now(UTC)
            with (
                open_snapshot(self.url, self.source, self.needed) as snapshot,
                self._capture(snapshot, self._reader(snapshot), known, previous, dry=True) as capture,
            ):
                capture.find()
                snapshot.end()
                manifest = capture.manifest(started, always=True)
        assert manifest is not None
        return manifest, TablesLeftOut.of(capture.failures)

    @contextmanager
    def _capture(
        self,
        snapshot: Snapshot,
        reader: TableReader,
        known: KnownRows,
        previous: IngestionManifest | None,
        *,
        dry: bool = False,
        carried: Mapping[str, TableChanges] | None = None,
    ) -> Iterator[Capture]:
        """The capture of the next batch, wired up with what it reads from, compares with and writes to."""
        follows = Standing()
        if previous:
            seen = known.looked_through()
            follows = self.follow(previous.position, seen, snapshot.position, snapshot.server)
            if follows.why_compared is None and is_from_log(previous, carried or ()):
                follows = Standing(
                    follows.since, "the previous batch was captured from the log, without the rows' marks"
                )
        position = advance_clock(previous.position if previous else None, snapshot.position)
        last = previous.batch if previous else 0
        label = BatchLabel(last + 1, position.read_at, self.compression)
        store, connections = self.journal.store, self.source.connections
        with PacketWriter(self.workspace, store, label) as writer:
            pieces = PieceReader(
                self.workers, connections, snapshot, self.workspace, store, label, reader, writer
            )
            yield Capture(
                snapshot,
                known,
                reader,
                pieces,
                writer,
                position,
                previous,
                self.compression,
                Allowance(self.deadline, self.workspace.folder),
                follows,
                CapturedContent(self.journal, self.workspace, last),
                dry=dry,
                carried=carried,
            )

    def _reader(self, snapshot: Snapshot) -> TableReader:
        return TableReader(snapshot, self.workspace, self.source.connections)

    def _leave(self) -> Ingested:
        """Returns without reading the source, since another runner does; the result is the newest batch of the lake."""
        _log.info("another runner is capturing the source for this lake; leaving it to that one")
        newest = self.journal.newest()
        read_at = newest.position.read_at if newest else datetime.now(UTC)
        return Ingested(None, read_at, captured=newest.batch if newest else 0)


def _turn(store: Store) -> int:
    """The number of the advisory lock with which runners take turns: the same on all machines that share the lake.

    A folder is identified by its file system and inode, since the same path on another machine is another folder.
    """
    identity = store.url
    if not identity.startswith("s3://"):
        permissions.make_folders(Path(identity))  # the folder may have been removed since the lake was opened
        identity = f"{os.statvfs(identity).f_fsid}:{Path(identity).stat().st_ino}"
    digest = hashlib.sha256(f"totes {identity}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
