"""The datasets of a star: each fact joined with what it refers to, now and in all its versions, and each dimension."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from totes import engine
from totes.dashboards import measure
from totes.dashboards.dataset import Dataset, Field, Metric, title, unique, within
from totes.star.column import Column
from totes.star.model import HISTORY_COLUMNS, IS_DELETED, Model
from totes.star.project import Project
from totes.warehouse.ddl import OWN_SCHEMAS, column_type
from totes.warehouse.table import Dialect

_CURRENT_HISTORY = ("valid_from",)


@dataclass
class _Draft:
    """A dataset on its way: what is selected, and from where."""

    model: Model
    fields: list[Field] = field(default_factory=list)
    selected: list[str] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    currency: str = ""

    def add(self, alias: str, column: str, made: Field) -> None:
        """Adds a column of a table under the name of its field."""
        source = engine.name(alias, column)
        self.selected.append(source if made.name == column else f"{source} AS {engine.name(made.name)}")
        self.fields.append(made)


def star_datasets(project: Project, dialect: Dialect, schema: str) -> list[Dataset]:
    """The datasets of a project's star, facts before dimensions.

    Args:
        project: the project.
        dialect: the warehouse's dialect, which types are written in.
        schema: the schema of its tables.
    """
    prefix = () if schema == OWN_SCHEMAS[dialect] else (schema,)
    models = {model.name: model for model in project.models}
    made: list[Dataset] = []
    for model in sorted(project.models, key=lambda one: not one.versioned):
        made.append(_current(model, models, prefix, dialect))
        if model.versioned:
            made.append(_versions(model, models, prefix, dialect))
    names: list[str] = []
    for number, dataset in enumerate(made):
        if dataset.sql and (name := unique(dataset.name, names)) != dataset.name:
            made[number] = Dataset(**{**vars(dataset), "name": name})
        names.append(made[number].name)
    return made


def relations(project: Project, dialect: Dialect, schema: str) -> dict[str, str]:
    """The SQL name of each table and each view of current rows, by its own name."""
    prefix = () if schema == OWN_SCHEMAS[dialect] else (schema,)
    names = [name for model in project.models for name in (model.name, f"{model.name}_current")]
    return {name: engine.name(*prefix, name) for name in names}


def _current(model: Model, models: dict[str, Model], prefix: tuple[str, ...], dialect: Dialect) -> Dataset:
    """The rows as they are now, each with what it refers to."""
    draft = _draft(model, models, dialect, _CURRENT_HISTORY, prefix)
    view = f"{model.name}_current"
    metrics = (_count("Number of rows", "Rows as they are now."), *_metrics(model))
    if not draft.joins:
        return Dataset(
            view, model.description, tuple(draft.fields), metrics, "", _time(draft), draft.currency
        )
    described = f"{_sentence(model.description)}Here as they are now, each with what it refers to."
    sql = _sql(draft, engine.name(*prefix, view))
    return Dataset(model.name, described, tuple(draft.fields), metrics, sql, _time(draft), draft.currency)


def _versions(model: Model, models: dict[str, Model], prefix: tuple[str, ...], dialect: Dialect) -> Dataset:
    """Every version of the rows. Sums over versions would count a row as often as it changed, so there are none."""
    draft = _draft(model, models, dialect, tuple(HISTORY_COLUMNS), prefix)
    deleted = engine.name(IS_DELETED)
    metrics = (
        _count("Number of versions", "Each row counts once for each version of it."),
        Metric(
            "deletions", f"SUM(CASE WHEN {deleted} THEN 1 ELSE 0 END)", "Deletions", "Rows that were deleted."
        ),
    )
    described = (
        f"{_sentence(model.description)}Here in every version. Those of one moment: valid_from is not after it, valid_to is"
        " empty or after it, and is_deleted is false."
    )
    sql = _sql(draft, engine.name(*prefix, model.name))
    return Dataset(
        f"{model.name}_versions", described, tuple(draft.fields), metrics, sql, "valid_from", draft.currency
    )


def _draft(
    model: Model,
    models: dict[str, Model],
    dialect: Dialect,
    history: tuple[str, ...],
    prefix: tuple[str, ...],
) -> _Draft:
    draft, described = _Draft(model, aliases=[model.name]), model.descriptions
    for column in model.columns:
        is_measure = measure.aggregate(column, model.primary_key) is not None
        made = Field(
            column.name, column_type(column, dialect), title(column.name), described.get(column.name, ""),
            is_measure=is_measure,
        )  # fmt: skip
        draft.add(model.name, column.name, made)
        if measure.is_currency(column) and not column.references:
            draft.currency = draft.currency or column.name
    if model.versioned:
        for name in history:
            draft.add(model.name, name, Field(name, HISTORY_COLUMNS[name], title(name), described[name]))
    for column, target in _joined(model, models):
        _join(draft, column, target, dialect, prefix)
    return draft


def _joined(model: Model, models: dict[str, Model]) -> Iterator[tuple[Column, Model]]:
    """The columns that refer to another table, each with that table; the calendar once, for the date that time is about."""
    first = next((column.name for column in model.columns if _is_day(column, models)), None)
    for column in model.columns:
        target = models.get(column.references or "")
        if target and (column.name == first or not _is_day(column, models)):
            yield column, target


def _is_day(column: Column, models: dict[str, Model]) -> bool:
    """Whether a column is a date that refers to a calendar, a table with one row a day."""
    target = models.get(column.references or "")
    return target is not None and column.type == "DATE" and len(target.primary_key) == 1


def _join(draft: _Draft, column: Column, target: Model, dialect: Dialect, prefix: tuple[str, ...]) -> None:
    """Adds what a row refers to. Rows that are deleted by now are joined too: they are what it referred to."""
    key = column.references_column or target.primary_key[0]
    role = re.sub(r"(?i)[_ ]?(id|key|sk)$", "", column.name) or target.name
    alias = unique(role, draft.aliases)
    draft.aliases.append(alias)
    relation, described = engine.name(*prefix, target.name), target.descriptions
    draft.joins.append(
        f"LEFT JOIN {relation} AS {engine.name(alias)}"
        f" ON {engine.name(alias, key)} = {engine.name(draft.model.name, column.name)}"
    )
    for other in target.columns:
        if other.name == key:
            continue
        existing = {made.name.lower() for made in draft.fields}
        said = other.name.lower().startswith(f"{role.lower()}_") and other.name.lower() not in existing
        name = other.name if said else unique(f"{role}_{other.name}", existing)
        made = Field(name, column_type(other, dialect), title(name), described.get(other.name, ""))
        draft.add(alias, other.name, made)
        if measure.is_currency(column) and measure.words(other.name)[-1:] == ["code"]:
            draft.currency = draft.currency or name


def _sql(draft: _Draft, relation: str) -> str:
    columns = ",\n    ".join(draft.selected)
    return "\n".join(
        [f"SELECT\n    {columns}\nFROM {relation} AS {engine.name(draft.model.name)}", *draft.joins]
    )


def _time(draft: _Draft) -> str:
    """The column that time ranges are about: the first date that refers to a calendar, or the first day or moment."""
    dates = [column.name for column in draft.model.columns if column.type == "DATE" and column.references]
    times = [made.name for made in draft.fields if made.is_time and made.name not in HISTORY_COLUMNS]
    since = [made.name for made in draft.fields if made.name in HISTORY_COLUMNS]
    return next(iter(dates + times + since), "")


def _metrics(model: Model) -> Iterator[Metric]:
    """A sum or an average of each amount; of money within one currency."""
    if model.referenced and not model.versioned:
        return  # the rows of a dimension are what others are counted by
    currencies = [column.name for column in model.columns if measure.is_currency(column)]
    for column in model.columns:
        if (aggregate := measure.aggregate(column, model.primary_key)) is None:
            continue
        money = bool(currencies) and measure.is_money(column)
        expression = within(f"{aggregate}({engine.name(column.name)})", currencies if money else ())
        label = f"{'Total' if aggregate == 'SUM' else 'Average'} {title(column.name)[:1].lower()}{title(column.name)[1:]}"
        note = "Empty where rows have several currencies: filter or group by the currency." if money else ""
        described = " ".join(part for part in (column.description or "", note) if part)
        decimals = measure.is_fractional(column) or aggregate == "AVG"
        name = f"{aggregate.lower()}__{column.name}"
        yield Metric(name, expression, label, described, ",.2f" if decimals else ",d", currency=money)


def _count(label: str, description: str) -> Metric:
    return Metric("count", "COUNT(*)", label, description)


def _sentence(text: str) -> str:
    """A description that another sentence can follow."""
    return f"{text.rstrip().rstrip('.')}. " if text.strip() else ""
