"""What has changed in a project's models since the star was last computed. A pure comparison: nothing is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from totes.lake.manifest import ModelChanges, OutputColumn
from totes.star.column import Column
from totes.star.model import IS_DELETED, Model
from totes.star.project import Project

if TYPE_CHECKING:
    from sqlglot import exp

Kind = Literal["new", "removed", "query", "columns", "key"]
_WHOLE_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}


@dataclass(frozen=True)
class ModelChange:
    """How a model differs from its table in the star.

    `kind` is the most far-reaching change: of the key, else of columns, else of the query alone. `renamed` and `retyped` map
    a column's present name to its previous name, and to its previous and present type. `loses` lists what applying the
    change would lose, `notes` what else changes. `referrers` are unchanged tables that are rebuilt too, because the new
    history of this table may have other rows for them to refer to.
    """

    name: str
    kind: Kind
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    retyped: dict[str, tuple[str, str]] = field(default_factory=dict)
    loses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    referrers: tuple[str, ...] = ()


def changes_of(
    project: Project,
    star: Mapping[str, ModelChanges],
    previous: Callable[[str], Model | None] = lambda _name: None,
) -> dict[str, ModelChange]:
    """The models that differ from the star as a manifest describes it, in load order, removed ones last.

    Args:
        project: the models.
        star: the star's tables.
        previous: gives a changed table's previous model, if that is known.
    """
    content = project.reference_content()
    compared = {model.name: _change(model, star.get(model.name), content) for model in project.models}
    found = {name: change for name, change in compared.items() if change}
    for name, change in found.items():
        model = project.model(name)
        if (
            model
            and model.referenced
            and name in star
            and star[name].query_sha256 != model.query_sha256(content)
        ):
            then = previous(name)
            if change.kind == "key" or then is None or not _same_rows(model, then, content):
                found[name] = replace(change, referrers=referrers_of(project, name, found))
    for name in sorted(star.keys() - compared.keys()):
        found[name] = ModelChange(name, "removed", loses=(f"the table {name}",))
    return found


def referrers_of(project: Project, name: str, changed: Container[str] = ()) -> tuple[str, ...]:
    """The tables that refer to a table, directly or through others, except those in `changed`."""
    reached, following = list[str](), [name]
    while following:
        target = following.pop()
        for model in project.models:
            if target in model.references.values() and model.name not in (*reached, name):
                reached.append(model.name)
                following.append(model.name)
    return tuple(found for found in reached if found not in changed)


def _same_rows(now: Model, then: Model, references: Container[str]) -> bool:
    """Whether two queries certainly give rows for the same keys, whatever the values of other columns.

    A LEFT JOIN never changes which rows there are.
    """
    if now.query_sha256({}) == then.query_sha256({}):  # a reference file has changed
        from sqlglot import exp

        [first, *_] = (table.name for table in now.query.find_all(exp.Table))
        return first not in references and not _chooses(now.query)
    return _row_clauses(now) == _row_clauses(then)


def _row_clauses(model: Model) -> list[str]:
    """The parts of a query that decide which rows it gives: its key's expressions, and its clauses.

    Joins count only if one of them, or a WHERE, can drop rows.
    """
    from totes.star.written import output_name

    query = model.query
    keys = [one.sql() for one in query.expressions if output_name(one) in model.primary_key]
    joins = query.args.get("joins") or [] if _chooses(query) else []
    clauses = [query.args.get("with_"), query.args.get("from_"), *joins, query.args.get("where")]
    return keys + [clause.sql() for clause in clauses if clause]


def _chooses(query: exp.Select) -> bool:
    joins = query.args.get("joins") or []
    return bool(query.args.get("where")) or any(join.side.upper() != "LEFT" for join in joins)


def _change(model: Model, before: ModelChanges | None, references: dict[str, bytes]) -> ModelChange | None:
    if before is None:
        return ModelChange(model.name, "new", added=tuple(column.name for column in model.columns))
    same_query = before.query_sha256 == model.query_sha256(references)
    if same_query and before.table_sha256 == model.table_sha256():
        return None
    added_here = {IS_DELETED} if before.soft_deletes else set()
    if before.kind == "versioned":
        added_here = {"valid_from", "valid_to", IS_DELETED, "batch_id"}
    then = {column.name: column for column in before.columns if column.name not in added_here}
    now = {column.name: column for column in model.columns}
    renamed = {
        name: column.was
        for name, column in now.items()
        if column.was in then and column.was not in now and name not in then
    }
    pairs = {name: then[renamed.get(name, name)] for name in now if renamed.get(name, name) in then}
    retyped = {
        name: (shown_type(pairs[name]), shown_type(now[name]))
        for name in pairs
        if shown_type(pairs[name]) != shown_type(now[name])
    }
    dropped = tuple(name for name in then if name not in now and name not in renamed.values())
    key = _key_change(model, before, renamed)
    added = tuple(name for name in now if name not in pairs)
    loses = [f"the column {name}" for name in dropped]
    loses += [
        f"values of {name} that {new} does not hold"
        for name, (_, new) in retyped.items()
        if not holds(now[name], pairs[name])
    ]
    stricter = [name for name in pairs if now[name].not_null and not pairs[name].not_null]
    referring = [name for name in pairs if now[name].references != pairs[name].references]
    loses += [f"rows in which {name} is NULL" for name in stricter]
    loses += [
        f"rows whose {name} is not in {now[name].references}" for name in referring if now[name].references
    ]
    notes = []
    if model.soft_deletes and not before.soft_deletes:
        notes.append("deleted rows stay, marked is_deleted")
    elif before.soft_deletes and not model.soft_deletes:
        notes.append("no table refers to it any more, so deleted rows are removed")
        loses.append("the rows marked is_deleted")
    notes += [f"{name} refers to {now[name].references or 'no table any more'}" for name in referring]
    notes += [
        f"{name} is {'' if now[name].not_null else 'no longer '}NOT NULL"
        for name in pairs
        if now[name].not_null != pairs[name].not_null
    ]
    declared = bool(
        added or dropped or renamed or retyped or notes or list(then.values()) != list(pairs.values())
    )
    if not same_query:
        notes.append("its query, or reference data that it reads")
    return ModelChange(
        model.name,
        "key" if key else "columns" if before.table_sha256 != model.table_sha256() and declared else "query",
        added,
        dropped,
        renamed,
        retyped,
        (*([key] if key else []), *loses),
        tuple(notes),
    )


def _key_change(model: Model, before: ModelChanges, renamed: dict[str, str]) -> str | None:
    """What a change of the key loses; None if the table's primary key and kind stay the same."""
    if model.versioned != (before.kind == "versioned"):
        return (
            "every version but the newest"
            if before.kind == "versioned"
            else "the primary key that others refer to"
        )
    present = tuple(renamed.get(name, name) for name in model.primary_key)
    previous = (before.surrogate,) if before.surrogate else before.key
    return None if present == previous else "the primary key that others refer to"


def holds(now: Column | OutputColumn, then: Column | OutputColumn) -> bool:
    """Whether the present type of a column holds every value of its previous type, unchanged."""
    if now.type == then.type == "VARCHAR":
        return now.length_max is None or (then.length_max is not None and now.length_max >= then.length_max)
    if now.type == then.type:
        return now.unbounded or not then.unbounded
    if now.type in _WHOLE_DIGITS and then.type in _WHOLE_DIGITS:
        return _WHOLE_DIGITS[now.type] > _WHOLE_DIGITS[then.type]
    wide, narrow = _digits(now.type), _digits(then.type)
    if wide and narrow and now.type not in _WHOLE_DIGITS:
        return all(available >= needed for available, needed in zip(wide, narrow, strict=True))
    return (then.type, now.type) == ("FLOAT", "DOUBLE")


def shown_type(column: Column | OutputColumn) -> str:
    """A column's type as a model declares it."""
    if column.unbounded:
        return "NUMERIC"
    return f"{column.type}({column.length_max})" if column.length_max else column.type


def _digits(kind: str) -> tuple[int, int] | None:
    """The number of digits before and after the decimal point; None for other types."""
    if kind in _WHOLE_DIGITS:
        return _WHOLE_DIGITS[kind], 0
    match = re.fullmatch(r"DECIMAL\((\d+), (\d+)\)", kind)
    return (int(match.group(1)) - int(match.group(2)), int(match.group(2))) if match else None
