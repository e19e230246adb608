"""Which part of a star a table becomes: a dimension, a fact or a bridge, each with the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from totes.scaffold.catalog import Reference, Table
from totes.scaffold.meaning import (
    is_bookkeeping,
    is_created,
    is_happening,
    is_measure,
    is_named,
    is_of_people,
)
from totes.scaffold.words import listed, singular, snake, words

# Tables that are called so hold what happens, and grow with it.
_EVENTS = {
    "appointment", "attempt", "booking", "charge", "claim", "click", "comment", "contract", "delivery", "donation", "enrollment",
    "enrolment", "event", "invoice", "line", "log", "measurement", "message", "movement", "notification", "order", "payment",
    "payout", "posting", "purchase", "reading", "receipt", "refund", "rental", "reservation", "result", "return", "review",
    "sale", "shipment", "subscription", "ticket", "trade", "transaction", "transfer", "view", "visit", "vote",
}  # fmt: skip

# How links are sorted.
_PLACES = {"ordinal", "place", "position", "rank", "sequence", "sort", "sort_order"}


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
    referrers: dict[str, set[str]] = {name: set() for name in tables}
    for table in tables.values():
        for reference in outgoing(table, tables):
            referrers[reference.table].add(table.name)
    traits = {name: _Traits.of(table, frozenset(referrers[name])) for name, table in tables.items()}
    return {name: _judged(name, traits) for name in tables}


@dataclass(frozen=True)
class _Traits:
    """What decides over a table: to what it refers, what refers to it, its dates and amounts, whether it has a name.

    `is_several` says that it brings several rows together, `is_keyed_by` that these are what identifies it, `is_link` that it
    says nothing else. `extends` is the table whose key is its own key too.
    """

    refers: tuple[str, ...]
    referrers: frozenset[str]
    dates: tuple[str, ...]
    amounts: tuple[str, ...]
    is_several: bool
    is_keyed_by: bool
    is_link: bool
    is_event: bool
    is_named: bool
    is_person: bool
    is_recorded: bool
    extends: str | None

    @classmethod
    def of(cls, table: Table, referrers: frozenset[str]) -> _Traits:
        """Those of a table."""
        references = _outgoing(table)
        links = {name for reference in references for name in reference.columns}
        others = [pair for pair in _of_any_kind(table) if not set(pair) & links]
        is_several = len(references) + len(others) > 1
        return cls(
            refers=tuple(dict.fromkeys(reference.table for reference in references)),
            referrers=referrers,
            dates=tuple(column.name for column in table.columns if is_happening(column)),
            amounts=tuple(
                one.name for one in table.columns if is_measure(one) and one.name not in links | {*table.key}
            ),
            is_several=is_several,
            is_keyed_by=is_several and set(table.key) <= links,
            is_link=is_several and not _beyond(table, links.union(*others)),
            is_event=singular(words(table.name)[-1]) in _EVENTS,
            is_named=is_named(table),
            is_person=is_of_people(table),
            is_recorded=any(is_created(column) for column in table.columns),
            extends=next((one.table for one in references if set(one.columns) == set(table.key)), None),
        )

    @property
    def grows(self) -> bool:
        """Whether a table that refers to others holds what happens, as far as its own columns tell."""
        if self.is_event or self.is_person:
            return self.is_event
        if self.is_named:
            return bool(self.dates) and not self.referrers
        return bool(self.dates or (self.amounts and self.is_keyed_by)) or (
            not self.referrers and bool(self.amounts or self.is_several)
        )


def _judged(name: str, traits: dict[str, _Traits]) -> Judgement:
    own = traits[name]
    said = listed(list(own.refers)) if own.refers else ""
    if own.is_link and not own.referrers:
        return Judgement(Kind.BRIDGE, f"it links {said}")
    if _is_fact(name, traits):
        has = [
            f"{what} ({listed(list(some), 3)})"
            for what, some in (("dates", own.dates), ("amounts", own.amounts))
            if some
        ]
        reasons = [f"refers to {said}"] * bool(said) + [f"has {' and '.join(has)}"] * bool(has)
        return Judgement(Kind.FACT, f"it {' and '.join(reasons) or 'records what happens'}")
    if own.referrers:
        verb = "refer" if len(own.referrers) > 1 else "refers"
        return Judgement(Kind.DIMENSION, f"{listed(sorted(own.referrers))} {verb} to it")
    return Judgement(
        Kind.DIMENSION, f"it says more of {said}" if said else "it stands alone, and has no dates"
    )


def _is_fact(name: str, traits: dict[str, _Traits], above: tuple[str, ...] = ()) -> bool:
    own = traits[name]
    if own.is_named and own.referrers:
        return False
    if not own.refers:
        is_record = not own.referrers and (own.dates or (own.is_event and own.is_recorded))
        return bool(
            (own.is_event or not own.is_named) and (is_record or (own.is_event and own.dates and own.amounts))
        )
    if own.extends and not own.is_event:
        known = own.extends in traits and name not in above
        return known and _is_fact(own.extends, traits, (*above, name))
    return own.grows


def outgoing(table: Table, tables: dict[str, Table]) -> list[Reference]:
    """The references of a table to others of these, except those that record who wrote the row."""
    return [reference for reference in _outgoing(table) if reference.table in tables]


def _outgoing(table: Table) -> list[Reference]:
    return [
        reference
        for reference in table.references
        if reference.table != table.name
        and not any(is_bookkeeping(table.column(name)) for name in reference.columns)
    ]


def _of_any_kind(table: Table) -> list[tuple[str, str]]:
    """The pairs of columns that refer to rows of several tables: which table, and which row."""
    by_name = {snake(column.name): column.name for column in table.columns}
    stems = [name.removesuffix("_type") for name in by_name if name.endswith("_type")]
    return [(by_name[f"{stem}_type"], by_name[f"{stem}_id"]) for stem in stems if f"{stem}_id" in by_name]


def _beyond(table: Table, links: set[str]) -> list[str]:
    """The columns of a table that are neither links nor its own number nor say how links are sorted."""
    number = set(table.key) if len(table.key) == 1 else set()
    return [
        column.name
        for column in table.columns
        if column.name not in links | number
        and not is_bookkeeping(column)
        and column.type != "boolean"
        and snake(column.name) not in _PLACES
    ]
