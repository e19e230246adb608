"""What a change of a model costs, and which changes a run makes by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from totes.lake.journal import Journal
from totes.lake.manifest import IngestionManifest
from totes.star.change import ModelChange
from totes.star.project import Project

# Chooses those of some changes, by model, that are made now.
Choice = Callable[[Mapping[str, ModelChange]], frozenset[str]]


class Cost(NamedTuple):
    """What is read from the ingestion lake: rows, as they were captured, and bytes, as they are stored."""

    rows: int
    bytes: int


def everything(changes: Mapping[str, ModelChange]) -> frozenset[str]:
    """Chooses all changes."""
    return frozenset(changes)


def closed(project: Project, changes: Mapping[str, ModelChange], chosen: frozenset[str]) -> frozenset[str]:
    """The chosen changes but those of models that refer to a changed one which is not chosen."""
    references = {model.name: set(model.references.values()) for model in project.models}
    while True:
        waiting = changes.keys() - chosen
        blocked = {name for name in chosen if references.get(name, set()) & waiting}
        if not blocked:
            return chosen
        chosen -= blocked


def without_loss(project: Project, ingestion: Journal[IngestionManifest], rows_max: int) -> Choice:
    """Chooses changes that lose nothing, and for which at most so many rows have to be read."""

    def choose(changes: Mapping[str, ModelChange]) -> frozenset[str]:
        harmless = {name: change for name, change in changes.items() if not change.loses}
        costs = rebuild_costs(project, ingestion, harmless)
        return frozenset(name for name in harmless if costs[name].rows <= rows_max)

    return choose


def rebuild_costs(
    project: Project, ingestion: Journal[IngestionManifest], changes: Mapping[str, ModelChange]
) -> dict[str, Cost]:
    """What each of some changes reads: all that was ever captured of the tables that are named in what is rebuilt."""
    named = {model.name: model for model in project.models}
    wanted = {
        name: frozenset[str]().union(
            *(named[one].relations for one in (name, *change.referrers) if one in named)
        )
        for name, change in changes.items()
    }
    read: dict[str, Cost] = {}
    for name, sums in ingestion.sums().tables.items() if wanted else ():
        before = read.get(name.lower(), Cost(0, 0))
        read[name.lower()] = Cost(before.rows + sums.rows, before.bytes + sums.bytes)
    costs = {}
    for name, relations in wanted.items():
        parts = [read[table.lower()] for table in relations if table.lower() in read]
        costs[name] = Cost(sum(part.rows for part in parts), sum(part.bytes for part in parts))
    return costs
