"""Decides whether the source is still the captured database, and whether marks can still be compared. No I/O.

A mark is a transaction id. PostgreSQL assigns ids a second time where history has forked: after a failover to a standby that
had not received everything, after a crash that lost commits, in a restored database. Then rows are compared by content.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from totes.errors import LakeOfAnotherSource, NothingToAdopt, SourceBehind, SourceError, SourceRefused
from totes.ingestion.server import Server
from totes.lake.manifest import Position

_EPOCH = 1 << 32
# A failover loses seconds. A source that is further back than this was restored from a backup, which totes adopt has to confirm.
_LOST_MAX = timedelta(hours=1)
_SEE_AND_ADOPT = (
    "totes adopt --dry-run shows what differs, and totes adopt continues this history from its present state"
)


class Standing(NamedTuple):
    """How a batch continues: the position since which rows may be new, or why all rows have to be compared."""

    since: Position | None = None
    why_compared: str | None = None


# Decides how a batch continues, given the previous batch's position, a later one at which nothing was new, and the present one.
Follow = Callable[[Position, Position | None, Position, Server], Standing]


def lsn_number(lsn: str) -> int:
    """A position of the write-ahead log, such as 0/16B3748, as a number of bytes."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(number: int) -> str:
    """A position of the write-ahead log as PostgreSQL writes it."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def standing(
    previous: Position, looked_through: Position | None, current: Position, server: Server
) -> Standing:
    """How a batch continues from the previous one's position, or from a later one at which nothing was new.

    Raises:
        LakeOfAnotherSource, SourceRefused, SourceBehind: as `why_compared`.
    """
    if looked_through:
        try:
            if why_compared(looked_through, current, server) is None:
                return Standing(looked_through)
        except (SourceError, SourceRefused):
            pass  # the previous batch's position decides whether that is an error
    return Standing(previous, why_compared(previous, current, server))


def adopting(previous: Position, _: Position | None, current: Position, server: Server) -> Standing:
    """How a batch continues on a source that would be refused otherwise.

    Raises:
        NothingToAdopt: it would not be refused.
        SourceBehind: it is a standby that has not received yet all that was captured.
    """
    try:
        why = why_compared(previous, current, server)
    except SourceRefused as error:
        return Standing(previous, f"{error.what}, and is adopted")
    then = f": {why}, so the next run compares all rows with what was captured" if why else ""
    raise NothingToAdopt(
        f"the source is the database that this lake follows{then}", hint="totes run continues with it"
    )


def why_compared(previous: Position, current: Position, server: Server) -> str | None:
    """Why all rows have to be compared by content; None if marks show which rows are new.

    Args:
        previous: the source's position when it was last read.
        current: its present position.
        server: what else the server reports.

    Raises:
        LakeOfAnotherSource: it is another cluster, or another database of the cluster.
        SourceRefused: it was restored to an earlier state, or is an old primary after a failover.
        SourceBehind: it is a standby that has not received yet all that was captured.
    """
    _check_database(previous, current)
    if server.standby:
        return _of_standby(previous, current, server)
    if current.timeline < previous.timeline:
        raise SourceRefused(
            f"the source is on timeline {current.timeline}, and this lake follows timeline {previous.timeline}: "
            "it is an old primary, and another server was promoted in its place",
            hint=f"Point source.url at the promoted server. To continue with this one, {_SEE_AND_ADOPT}",
        )
    if current.timeline > previous.timeline:
        return _of_promoted(previous, current, server)
    return _of_primary(previous, current, server)


def is_another(previous: Position, current: Position) -> bool:
    """Whether the source's cluster, database or timeline has changed, as far as both are known."""
    oids = (previous.database_oid, current.database_oid)
    return (
        previous.system_identifier != current.system_identifier
        or previous.timeline != current.timeline
        or (None not in oids and oids[0] != oids[1])
    )


def _check_database(previous: Position, current: Position) -> None:
    hint = (
        f"If it replaces the previous one, {_SEE_AND_ADOPT}. "
        "Otherwise point source.url at the database of this lake, or lake.ingestion and lake.processed at places of their own"
    )
    if previous.system_identifier != current.system_identifier:
        raise LakeOfAnotherSource(
            "the source is another database cluster than the one this lake was captured from", hint=hint
        )
    if None in (previous.database_oid, current.database_oid):
        if previous.database != current.database:
            raise LakeOfAnotherSource(
                f"the source is the database {current.database}, and this lake is of {previous.database}",
                hint=hint,
            )
    elif previous.database_oid != current.database_oid:
        raise LakeOfAnotherSource(
            f"the source is another database of the same cluster: {current.database} (OID {current.database_oid}), "
            f"and this lake is of {previous.database} (OID {previous.database_oid})",
            hint=hint,
        )


def _of_standby(previous: Position, current: Position, server: Server) -> str | None:
    wait = "Nothing is lost: run again when it has caught up, or point source.url at the primary"
    if current.timeline < previous.timeline:
        raise SourceBehind(
            f"the source is a standby on timeline {current.timeline} so far, and timeline {previous.timeline} was captured",
            hint=wait,
        )
    if _before(server.reached, previous.lsn):
        raise SourceBehind(
            f"the source is a standby that has replayed the log up to {server.reached}, and captured is everything up to "
            f"{previous.lsn}",
            hint=wait,
        )
    if previous.lsn is None and current.next_transaction < previous.horizon:
        raise SourceBehind("the source is a standby that is behind what was captured", hint=wait)
    if current.timeline > previous.timeline and not _same_process(previous, current):
        return f"the standby follows timeline {current.timeline}, and {previous.timeline} was captured"
    return _after_loss(previous, current) or _after_turn(previous, current)


def _of_promoted(previous: Position, current: Position, server: Server) -> str | None:
    """Decides for a primary on a later timeline."""
    next_one = current.timeline == previous.timeline + 1
    received = server.forked_at and previous.lsn and next_one and not _before(server.forked_at, previous.lsn)
    # Either it had received all that was captured, or it is the server that was read before.
    if received or _same_process(previous, current):
        return _after_loss(previous, current) or _after_turn(previous, current)
    without_transactions = current.next_transaction < previous.horizon
    older = without_transactions or _before(server.forked_at or server.reached, previous.lsn)
    lost = previous.read_at - server.replayed_until if server.replayed_until else timedelta()
    if (older and server.has_target) or (without_transactions and lost > _LOST_MAX):
        until = f" of {server.replayed_until:%Y-%m-%d %H:%M:%S}" if server.replayed_until else ""
        raise _restored(until)
    return f"the source is on timeline {current.timeline}, and {previous.timeline} was captured: a standby was promoted"


def _of_primary(previous: Position, current: Position, server: Server) -> str | None:
    """Decides for a primary on the same timeline as before."""
    if _before(server.reached, previous.flushed_lsn):
        raise _restored("")
    lost = _after_loss(previous, current)
    if lost:
        return lost
    if current.next_transaction < previous.horizon:
        raise _restored("")
    return _after_turn(previous, current)


def _after_loss(previous: Position, current: Position) -> str | None:
    """Why a crash may have lost what was captured, if so: it was not on disk yet, and the server was restarted."""
    if _before(previous.flushed_lsn, previous.lsn) and current.instance != previous.instance:
        return "the server was restarted, perhaps before all that was captured was on its disk"
    return None


def _same_process(previous: Position, current: Position) -> bool:
    """Whether it is the same server process as before, whose history cannot have forked."""
    started = [(position.instance or "").partition(" ")[0] for position in (previous, current)]
    return bool(started[0]) and started[0] == started[1]


def _after_turn(previous: Position, current: Position) -> str | None:
    if current.next_transaction - previous.horizon >= _EPOCH:
        return "more than 2^32 transactions have passed since the last batch"
    return None


def _restored(until: str) -> SourceRefused:
    return SourceRefused(
        f"the source is in an older state{until} than when it was last read: it was restored",
        hint=f"If this is intended, {_SEE_AND_ADOPT}. Otherwise point source.url at the database that was read before",
    )


def _before(lsn: str | None, other: str | None) -> bool:
    """Whether a position of the log is known to be before another."""
    return lsn is not None and other is not None and lsn_number(lsn) < lsn_number(other)
