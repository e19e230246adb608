"""A project's own dashboards, as they are written by hand: files in `dashboards/`, beside its models.

`datasets.yaml` adds metrics and columns to the star's datasets, and datasets with a query of their own; every other file is
a dashboard with its charts. Charts and datasets have names here; identifiers and places on the page are made from these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from totes.dashboards.dataset import Dataset, Metric, title, within
from totes.dashboards.dataset import Field as DatasetField
from totes.errors import ConfigurationError

DATASETS = "datasets.yaml"
T = TypeVar("T", bound=BaseModel)
COLUMNS = 12  # a row of a dashboard is this wide


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnDesign(_Part):
    """A column of a query, or with an `expression` one that is made of others."""

    type: str
    label: str = ""
    description: str = ""
    expression: str = ""


class MetricDesign(_Part):
    """An aggregate; `within` are columns that have to have the same value in all rows, or there is no result."""

    expression: str
    label: str
    description: str = ""
    format: str = ",d"
    within: tuple[str, ...] = ()
    currency: bool = False


class DatasetDesign(_Part):
    """What a dataset of the star has besides, or with `sql` a dataset of its own. `{name}` is a table or view of the star."""

    sql: str = ""
    description: str = ""
    time: str = ""
    currency: str = ""
    columns: dict[str, ColumnDesign] = {}
    metrics: dict[str, MetricDesign] = {}


class ChartDesign(_Part):
    """A chart: `type` and `params` are Superset's."""

    title: str
    type: str
    dataset: str
    description: str = ""
    params: dict[str, Any] = {}


class FilterDesign(_Part):
    """A filter of a dashboard: on a column, with a value to begin with; without a column, on time."""

    label: str
    dataset: str = ""
    column: str = ""
    default: str = ""
    descending: bool = False
    description: str = ""
    without: tuple[str, ...] = ()


class RowDesign(_Part):
    """Charts side by side, each with its width of twelve; or a text."""

    height: int = 50
    charts: dict[str, int] = {}
    text: str = ""


class DashboardDesign(_Part):
    """A dashboard, from top to bottom."""

    title: str
    description: str = ""
    filters: tuple[FilterDesign, ...] = ()
    rows: tuple[RowDesign, ...]
    charts: dict[str, ChartDesign]


class _Datasets(_Part):
    datasets: dict[str, DatasetDesign] = Field(default_factory=dict)


def read_datasets(folder: Path) -> dict[str, DatasetDesign]:
    """The datasets of a project's `dashboards/`; none where there is no such folder or file.

    Raises:
        ConfigurationError: the file cannot be read, or is not what it has to be.
    """
    file = folder / DATASETS
    return _read(file, _Datasets).datasets if file.is_file() else {}


def read_dashboards(folder: Path) -> dict[str, DashboardDesign]:
    """The dashboards of a project, by the name of their file.

    Raises:
        ConfigurationError: a file cannot be read, or is not what it has to be.
    """
    files = sorted(file for file in folder.glob("*.yaml") if file.name != DATASETS)
    found = {file.stem: _read(file, DashboardDesign) for file in files}
    for name, dashboard in found.items():
        _check(folder / f"{name}.yaml", dashboard)
    return found


def designed(
    datasets: list[Dataset], designs: dict[str, DatasetDesign], relations: dict[str, str]
) -> list[Dataset]:
    """The star's datasets with what a project adds to them, and its own.

    Raises:
        ConfigurationError: a query names a table that the star does not have, or a name leads to nothing.
    """
    made = [_extended(dataset, designs.get(dataset.name)) for dataset in datasets]
    known = {dataset.name for dataset in datasets}
    for name, design in designs.items():
        if name in known:
            continue
        if not design.sql:
            raise ConfigurationError(
                f"{DATASETS} has {name}, which is no dataset of the star and has no query",
                hint=f"Give it sql, or name one of {', '.join(sorted(known)[:3])}, …",
            )
        try:
            sql = design.sql.strip().format_map(relations)
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigurationError(
                f"the query of {name} in {DATASETS} names {error}, which is no table of the star",
                hint="Write {table} or {table_current} for a table or its view",
            ) from error
        bare = Dataset(name, design.description, (), (), sql, design.time, design.currency)
        made.append(_extended(bare, design))
    return made


def _extended(dataset: Dataset, design: DatasetDesign | None) -> Dataset:
    if design is None:
        return dataset
    fields = tuple(
        DatasetField(name, column.type, column.label or title(name), column.description, column.expression)
        for name, column in design.columns.items()
    )
    metrics = tuple(
        Metric(name, within(one.expression, one.within), one.label, one.description, one.format, one.currency)
        for name, one in design.metrics.items()
    )
    return Dataset(
        dataset.name,
        design.description or dataset.description,
        dataset.fields + fields,
        dataset.metrics + metrics,
        dataset.sql,
        dataset.time,
        dataset.currency,
    )


def _check(file: Path, dashboard: DashboardDesign) -> None:
    """Makes sure that each chart stands in one row, and that a row is not too wide."""
    shown = [name for row in dashboard.rows for name in row.charts]
    if sorted(shown) != sorted(dashboard.charts):
        odd = sorted(set(shown) ^ set(dashboard.charts)) or sorted({n for n in shown if shown.count(n) > 1})
        raise ConfigurationError(
            f"{file}: {', '.join(odd)} is not in charts and in one row", hint="Name each chart in one row"
        )
    for number, row in enumerate(dashboard.rows, 1):
        if sum(row.charts.values()) > COLUMNS:
            raise ConfigurationError(f"{file}: row {number} is wider than {COLUMNS}", hint="Make it narrower")
    for one in dashboard.filters:
        if unknown := sorted(set(one.without) - set(dashboard.charts)):
            raise ConfigurationError(
                f"{file}: the filter {one.label} is without {unknown[0]}, which is no chart"
            )


def _read(file: Path, kind: type[T]) -> T:
    try:
        return kind.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ConfigurationError(f"{file}: {place}: {first['msg']}") from error
