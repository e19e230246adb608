"""Which part of a star a table becomes: a dimension, a fact or a bridge, each with the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from totes.scaffold.catalog import Reference, Table
from totes.scaffold.meaning import (
    is_bookkeeping,
    is_created,
    is_event_date,
    is_measure,
    is_named,
    is_of_people,
)
from totes.scaffold.words import listed, singular, words

# Tables that are called so hold what happens, and grow with it.
_EVENTS = {
    "appointment", "attempt", "booking", "charge", "claim", "click", "comment", "contract", "delivery", "donation", "enrollment",
    "enrolment", "event", "invoice", "line", "log", "measurement", "message", "movement", "notification", "order", "payment",
    "payout", "posting", "purchase", "reading", "receipt", "refund", "rental", "reservation", "result", "return", "review",
    "sale", "shipment", "subscription", "ticket", "trade", "transaction", "transfer", "view", "visit", "vote",
}  # fmt: skip


class Kind(Enum):
    """The parts of a star, by what their tables' names begin with."""

    DIMENSION = "dim"
    FACT = "fact"
    BRIDGE = "bridge"


@dataclass(frozen=True)
class Judgement:
    """What a table becomes, and why, as a sentence without its end."""

    kind: Kind
    reason: str


def judge(tables: dict[str, Table]) -> dict[str, Judgement]:
    """What each table becomes.

    A bridge links other tables and says nothing more. A fact refers to others and grows: it has dates of its own, or amounts,
    or is called like something that happens. All else is a dimension.
    """
    referrers: dict[str, list[str]] = {name: [] for name in tables}
    for table in tables.values():
        for reference in table.references:
            if reference.table in tables and reference.table != table.name:
                referrers[reference.table].append(table.name)
    return {name: _judged(table, referrers[name]) for name, table in tables.items()}


def _judged(table: Table, referrers: list[str]) -> Judgement:
    refers = _outgoing(table)
    targets = [reference.table for reference in refers]
    said = listed(list(dict.fromkeys(targets))) if targets else ""
    used = listed(sorted(set(referrers))) if referrers else ""
    if len(refers) > 1 and not referrers and not _beyond_links(table, refers):
        return Judgement(Kind.BRIDGE, f"it links {said} and says nothing more")
    links = {name for reference in refers for name in reference.columns}
    dates = [column.name for column in table.columns if is_event_date(column)]
    amounts = [one.name for one in table.columns if is_measure(one) and one.name not in links | {*table.key}]
    if _is_fact(table, refers, referrers, dates, amounts):
        has = [
            f"{what} ({listed(some, 3)})" for what, some in (("dates", dates), ("amounts", amounts)) if some
        ]
        reasons = [f"refers to {said}"] * bool(said) + [f"has {' and '.join(has)}"] * bool(has)
        return Judgement(Kind.FACT, f"it {' and '.join(reasons) or 'records what happens'}")
    if used:
        return Judgement(Kind.DIMENSION, f"{used} {'refer' if len(set(referrers)) > 1 else 'refers'} to it")
    return Judgement(
        Kind.DIMENSION, f"it says more of {said}" if said else "it stands alone, and has no dates"
    )


def _is_fact(
    table: Table, refers: list[Reference], referrers: list[str], dates: list[str], amounts: list[str]
) -> bool:
    is_event = singular(words(table.name)[-1]) in _EVENTS
    named = is_named(table)
    if not refers:
        created = any(is_created(column) for column in table.columns)
        return not referrers and (is_event or not named) and bool(dates or (is_event and created))
    if named and referrers:
        return False
    if is_event:
        return True
    if is_of_people(table) or any(set(one.columns) == set(table.key) for one in refers):
        return False
    return bool(dates) or (not named and not referrers and (bool(amounts) or len(refers) > 1))


def outgoing(table: Table, tables: dict[str, Table]) -> list[Reference]:
    """The references of a table to others of these, those aside that say who wrote the row."""
    return [reference for reference in _outgoing(table) if reference.table in tables]


def _outgoing(table: Table) -> list[Reference]:
    return [
        reference
        for reference in table.references
        if reference.table != table.name
        and not any(is_bookkeeping(table.column(name)) for name in reference.columns)
    ]


def _beyond_links(table: Table, refers: list[Reference]) -> list[str]:
    """The columns of a table that are neither links nor its own number nor bookkeeping."""
    links = {name for reference in refers for name in reference.columns}
    number = set(table.key) if len(table.key) == 1 else set()
    return [
        column.name
        for column in table.columns
        if column.name not in links | number and not is_bookkeeping(column)
    ]
