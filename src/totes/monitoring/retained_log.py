"""How much of its log the source retains for the slot, how much it may retain, and how long that lasts at the present rate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from totes.config import Settings
from totes.cycle import Cycle
from totes.display import duration
from totes.errors import SourceError, TotesError
from totes.ingestion.identity import lsn_number
from totes.ingestion.log.session import LogSession, open_log
from totes.ingestion.log.slot import Slot
from totes.lake.journal import Journal, ingestion_journal
from totes.lake.manifest import IngestionManifest, Position
from totes.lake.store import Store
from totes.monitoring.health import LOG, Problem

NEXT_STEP = (
    "Find out what holds it back: a runner that is away or fails, or a transaction that has been open for long at the source"
    " (totes doctor shows both). Or raise max_slot_wal_keep_size, if the disk has room"
)
# Over a shorter time, a rate says little about the next hours.
_RATE_SECONDS_MIN = 600.0


@dataclass(frozen=True)
class Rate:
    """How much log the source has written per second, on average over a time that ended just now."""

    bytes_per_second: float
    over_seconds: float


@dataclass(frozen=True)
class RetainedLog:
    """What is known of the log that the source retains for a slot.

    `bytes` is how much it retains, None if there is no slot or if it was `lost`. `limit_bytes` is `max_slot_wal_keep_size`, and
    `room_bytes` how much more the source can write before it may remove what the slot needs; both are None without a limit.
    `unreachable` is why nothing is known.
    """

    slot: str
    bytes: int | None = None
    limit_bytes: int | None = None
    room_bytes: int | None = None
    lost: bool = False
    nears_limit: bool = False
    rate: Rate | None = None
    unreachable: str | None = None

    @property
    def lasts_seconds(self) -> float | None:
        """How long it takes until the limit is reached at the present rate; None if that is not known, or never."""
        if self.rate is None or self.room_bytes is None or not self.rate.bytes_per_second:
            return None
        return max(0, self.room_bytes) / self.rate.bytes_per_second

    def as_json(self) -> dict[str, object]:
        """The retained log as plain values."""
        return asdict(self) | {"lasts_seconds": self.lasts_seconds}

    def sentence(self) -> str:
        """All of it, for people."""
        if self.unreachable:
            return f"not known: {self.unreachable}"
        if self.lost:
            return f"the source has removed log that the slot {self.slot} needed; the next batch compares all rows."
        if self.bytes is None:
            return f"there is no slot {self.slot} yet; the next batch creates it."
        retained = f"the source retains {size(self.bytes)} for the slot {self.slot}"
        per_minute = ""
        if self.rate:
            over = duration(self.rate.over_seconds)
            per_minute = f"It wrote {size(self.rate.bytes_per_second * 60)} a minute in the last {over}"
        if self.limit_bytes is None:
            retained += ", and nothing but its disk limits that (max_slot_wal_keep_size is not set)."
            return f"{retained} {per_minute}." if per_minute else retained
        retained += f", of {size(self.limit_bytes)} at most (max_slot_wal_keep_size)."
        if self.lasts_seconds is None:
            return f"{retained} {per_minute}." if per_minute else retained
        return f"{retained} {per_minute}; at that rate, the rest lasts {duration(self.lasts_seconds)}."


def read_retained_log(settings: Settings) -> RetainedLog:
    """What the source retains at this moment. A source that is away is reported as such."""
    source = settings.source
    try:
        with open_log(settings.source_url(), source, None, ready=False) as session:
            return look(session, settings)
    except TotesError as error:
        return RetainedLog(source.slot, unreachable=str(error))


def look(session: LogSession, settings: Settings) -> RetainedLog:
    """What the source of an open session retains.

    Raises:
        SourceError: the source cannot be asked, or is a standby.
    """
    slot, (now, _) = session.slot(), session.position()
    if slot is None:
        return RetainedLog(settings.source.slot)
    return RetainedLog(
        slot.name,
        slot.kept_bytes,
        slot.limit_bytes,
        slot.room_bytes,
        slot.lost,
        slot.nears_limit,
        _rate(settings, now),
    )


def rate_between(then: Position, now: Position) -> Rate | None:
    """The rate between two positions of one server; None if they are not known to be that, in this order. No I/O."""
    seconds = (now.read_at - then.read_at).total_seconds()
    if then.system_identifier != now.system_identifier or not then.lsn or not now.lsn or seconds <= 0:
        return None
    written = lsn_number(now.lsn) - lsn_number(then.lsn)
    return Rate(written / seconds, seconds) if written >= 0 else None


def log_problem(settings: Settings, cycle: Cycle) -> dict[str, Problem | None]:
    """What is wrong with the retained log after a cycle, as health's subject `log`; empty if that is not known."""
    if "ingest" not in cycle.seconds or isinstance(cycle.failures.get("ingest"), SourceError):
        return {}
    slot = cycle.ingested.slot if cycle.ingested else None
    if slot is None:
        try:
            with open_log(settings.source_url(), settings.source, None, ready=False) as session:
                slot = session.slot()
        except TotesError:
            return {}
    return {LOG: problem_of(slot) if slot else None}


def problem_of(slot: Slot) -> Problem | None:
    """What is wrong with how much log is retained for a slot, and the next step; None if less than half of the limit is."""
    if not slot.nears_limit:
        return None
    if slot.lost or slot.limit_bytes is None:
        return f"the source has removed log that the slot {slot.name} needed", NEXT_STEP
    return (
        f"the source retains {size(slot.kept_bytes or 0)} of its log for the slot {slot.name}, half or more of the"
        f" {size(slot.limit_bytes)} that max_slot_wal_keep_size allows",
        NEXT_STEP,
    )


def _rate(settings: Settings, now: Position) -> Rate | None:
    """The rate since a batch ten minutes ago or longer, or since the first one; None if the lake cannot be read."""
    try:
        journal = ingestion_journal(Store.open(settings.lake.ingestion, settings.base, "lake.ingestion"))
        then = _earlier(journal, now.read_at)
    except TotesError:
        return None
    return rate_between(then.position, now) if then else None


def _earlier(journal: Journal[IngestionManifest], now: datetime) -> IngestionManifest | None:
    batch, step = journal.last(), 1
    found = journal.read(batch) if batch else None
    while found and batch > 1 and (now - found.position.read_at).total_seconds() < _RATE_SECONDS_MIN:
        batch, step = max(1, batch - step), 2 * step
        found = journal.read(batch)
    return found


def size(number: float) -> str:
    """A number of bytes in PostgreSQL's units, of 1,024."""
    shown, unit = float(number), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if shown < 1024:
            break
        shown, unit = shown / 1024, larger
    return f"{shown:,.0f} {unit}" if shown >= 100 or unit == "bytes" else f"{shown:,.1f} {unit}"
