"""Decides whether and from where the log can be read on, and which tables have to be compared first. No I/O."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

from totes.ingestion.capture import contains_in_order
from totes.ingestion.catalog import SourceTable
from totes.ingestion.identity import lsn_number
from totes.ingestion.log.publication import Publication
from totes.ingestion.log.slot import Slot
from totes.lake.manifest import IngestionManifest, Position, SourceColumn


class Comparison(NamedTuple):
    """A batch by query that has to come before the log can be read on: why, and of which tables; None for all.

    Of transactions below `waits_for` the log may not have everything; see `may_be_missing`.
    """

    why: str
    tables: frozenset[str] | None = None
    waits_for: int | None = None


def why_unusable(
    previous: IngestionManifest | None, slot: Slot | None, name: str, noted: str | None
) -> str | None:
    """Why the log cannot be read on from a batch; None if it can.

    Args:
        previous: the newest batch.
        slot: the slot as it is.
        name: the slot's name in the settings.
        noted: how far the slot was advanced since, according to a note.
    """
    return next(_obstacles(previous, slot, name, noted), None)


def _obstacles(
    previous: IngestionManifest | None, slot: Slot | None, name: str, noted: str | None
) -> Iterator[str]:
    base = captured_until(previous.position, noted) if previous else None
    if previous is None:
        yield "nothing is captured yet"
    elif base is None:
        yield "the previous batch was captured by query"
    elif previous.position.log_slot != name:
        yield f"the previous batch was captured with the slot {previous.position.log_slot}"
    elif slot is None:
        yield f"the slot {name} is gone"
    elif slot.lost:
        yield f"the server has removed log that the slot {name} needed"
    elif slot.confirmed is None:
        yield f"the slot {name} is not complete"
    elif lsn_number(slot.confirmed) > lsn_number(base):
        yield f"the slot {name} was advanced to {slot.confirmed} by somebody else"


def captured_until(position: Position, noted: str | None = None) -> str | None:
    """The position up to which the log is captured, as of a batch; None if it was captured by query alone."""
    base = position.log_lsn or position.log_from
    return noted if base and noted and lsn_number(noted) > lsn_number(base) else base


def changed_tables(
    previous: IngestionManifest, tables: Mapping[str, SourceTable], publication: Publication
) -> dict[str, str]:
    """The tables that have to be compared before their log is read on, each with the reason."""
    found = {}
    for name, table in tables.items():
        before, now = previous.tables.get(name), table.description()
        if before is None:
            found[name] = "it was not captured so far"
        elif before.relation != now.relation:
            found[name] = "another table has its name now"
        elif before.partitions != now.partitions:
            found[name] = "its partitions have changed"
        elif before.key != now.key or not _are_alike(before.columns, now.columns):
            found[name] = "its columns have changed"
        elif before.published not in (None, publication.tables[name].version):
            found[name] = "its publication has changed, or it was rewritten"
    return found | dict.fromkeys(previous.tables.keys() - tables.keys(), "it is gone")


def _are_alike(before: tuple[SourceColumn, ...], now: tuple[SourceColumn, ...]) -> bool:
    """Whether columns are the same, but for labels that were added to an enum."""
    if len(before) != len(now):
        return False
    same = all(a.model_copy(update={"labels": b.labels}) == b for a, b in zip(before, now, strict=True))
    return same and all(contains_in_order(b.labels, a.labels) for a, b in zip(before, now, strict=True))


def is_from_log(previous: IngestionManifest, but: Container[str] = ()) -> bool:
    """Whether rows were captured from the log since they were last compared, so that their marks are not known."""
    position = previous.position
    tables = [table for name, table in previous.tables.items() if name not in but]
    return position.log_lsn is not None or (
        position.log_from is not None and any(table.seam is None for table in tables)
    )


def may_be_missing(waits_for: int | None, seen: str) -> bool:
    """Whether changes of a transaction may be in neither the log nor a snapshot.

    A transaction's commit is in the log shortly before others see it; with a synchronous standby that can take long. If it was
    committed before the slot began, and the snapshot does not see it, it is lost. So is what a transaction did to a table
    before that was published, if it has not ended by the time of the snapshot. Either had begun by then.

    Args:
        waits_for: the first transaction id that was not assigned yet at a time when the slot and the publication were there.
        seen: a later snapshot, in PostgreSQL's text form.
    """
    return waits_for is None or int(seen.split(":", maxsplit=1)[0]) < waits_for


def waiting_tables(previous: IngestionManifest, seen: str) -> dict[str, str]:
    """The tables that have to be compared again since a transaction has ended for which they wait, each with the reason.

    Args:
        previous: the newest batch.
        seen: the present snapshot.
    """
    return {
        name: "a transaction that was open when it was published has ended"
        for name, table in previous.tables.items()
        if table.waits_for is not None
        and table.seam is not None
        and _unseen(seen, table.waits_for) != _unseen(table.seam.snapshot, table.waits_for)
    }


def _unseen(seen: str, below: int) -> tuple[int, frozenset[int]]:
    """Which transactions below an id a snapshot does not see: those from the first number on, and the others."""
    _, following, running = seen.split(":")
    return min(int(following), below), frozenset(
        int(each) for each in running.split(",") if each and int(each) < below
    )
