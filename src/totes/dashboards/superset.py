"""Superset's import format: a folder of YAML files with a database, datasets, charts and dashboards.

Their identifiers come from their names, so that another import of the same project updates what the first one made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import yaml

from totes.dashboards import page
from totes.dashboards.dataset import Dataset, Metric, unique
from totes.dashboards.design import ChartDesign, DashboardDesign
from totes.errors import ConfigurationError
from totes.warehouse.table import Dialect

_VERSION = "1.0.0"
_METADATA = {"version": _VERSION, "timestamp": "2026-01-01T00:00:00+00:00"}


@dataclass(frozen=True)
class Connection:
    """How Superset reaches the warehouse: an address of SQLAlchemy without a password, and arguments of its driver."""

    address: str
    arguments: dict[str, Any]
    dialect: Dialect
    schema: str


@dataclass
class Bundle:
    """The files of an import, of one project."""

    project: str
    connection: Connection
    files: dict[str, str] = field(default_factory=dict)

    def identify(self, kind: str, name: str) -> UUID:
        """The identifier of something in this project."""
        return uuid5(uuid5(NAMESPACE_URL, f"totes:{self.project}"), f"{kind}:{name}")

    def add(self, folder: str, name: str, document: dict[str, Any]) -> None:
        """Adds a file; Superset passes over names that begin with a dot or an underscore."""
        plain = re.sub(r"[^\w.-]+", "_", name).strip("._-")[:80] or "unnamed"
        existing = (path.removesuffix(".yaml") for path in self.files)
        self.files[f"{unique(f'{folder}/{plain}', existing)}.yaml"] = written(document)


def bundle(
    project: str,
    connection: Connection,
    datasets: Iterable[Dataset],
    dashboards: dict[str, DashboardDesign],
) -> dict[str, str]:
    """The files of an import, by their paths.

    Raises:
        ConfigurationError: a chart or a filter names a dataset, column or metric that is not there.
    """
    made = Bundle(project, connection)
    made.files["metadata.yaml"] = written(_METADATA)
    database = made.identify("database", project)
    made.add("databases", project, _database(project, connection, database))
    known = {dataset.name: dataset for dataset in datasets}
    for dataset in known.values():
        made.add("datasets/warehouse", dataset.name, _dataset(made, dataset, database))
    for name, design in dashboards.items():
        _check(name, design, known)
        uuids = {key: made.identify("chart", f"{name}/{key}") for key in design.charts}
        for key, chart in design.charts.items():
            made.add("charts", f"{name}_{key}", _chart(made, chart, uuids[key]))
        made.add("dashboards", name, _dashboard(made, name, design, uuids))
    return made.files


def _database(project: str, connection: Connection, uuid: UUID) -> dict[str, Any]:
    return {
        "database_name": project,
        "sqlalchemy_uri": connection.address,
        "cache_timeout": None,
        "expose_in_sqllab": True,
        "allow_run_async": False,
        "allow_ctas": False,
        "allow_cvas": False,
        "allow_dml": False,
        "allow_file_upload": False,
        "extra": {
            "allows_virtual_table_explore": True,
            "engine_params": {"connect_args": connection.arguments},
        },
        "impersonate_user": False,
        "uuid": str(uuid),
        "version": _VERSION,
    }


def _dataset(made: Bundle, dataset: Dataset, database: UUID) -> dict[str, Any]:
    return {
        "table_name": dataset.name,
        "main_dttm_col": dataset.time or None,
        "currency_code_column": dataset.currency or None,
        "description": dataset.description or None,
        "catalog": None,
        "schema": made.connection.schema,
        "sql": dataset.sql or None,
        "source_db_engine": made.connection.dialect,
        "filter_select_enabled": True,
        "normalize_columns": False,
        "always_filter_main_dttm": False,
        "uuid": str(made.identify("dataset", dataset.name)),
        "metrics": [_metric(metric, dataset) for metric in dataset.metrics],
        "columns": [
            {
                "column_name": field.name,
                "verbose_name": field.label,
                "description": field.description or None,
                "expression": field.expression or None,
                "type": field.type,
                "is_dttm": field.is_time,
                "is_active": True,
                "groupby": not field.is_measure,
                "filterable": True,
            }
            for field in dataset.fields
        ],
        "version": _VERSION,
        "database_uuid": str(database),
    }


def _metric(metric: Metric, dataset: Dataset) -> dict[str, Any]:
    made: dict[str, Any] = {
        "metric_name": metric.name,
        "verbose_name": metric.label,
        "description": metric.description or None,
        "expression": metric.expression,
        "d3format": metric.format,
    }
    if metric.currency and dataset.currency:
        made["currency"] = {"symbol": "AUTO", "symbolPosition": "prefix"}
    return made


def _chart(made: Bundle, chart: ChartDesign, uuid: UUID) -> dict[str, Any]:
    return {
        "slice_name": chart.title,
        "description": chart.description or None,
        "viz_type": chart.type,
        "params": {"viz_type": chart.type, **chart.params},
        "cache_timeout": None,
        "uuid": str(uuid),
        "version": _VERSION,
        "dataset_uuid": str(made.identify("dataset", chart.dataset)),
    }


def _dashboard(made: Bundle, name: str, design: DashboardDesign, uuids: dict[str, UUID]) -> dict[str, Any]:
    return {
        "dashboard_title": design.title,
        "description": design.description or None,
        "slug": f"{made.project}-{name}",
        "published": True,
        "uuid": str(made.identify("dashboard", name)),
        "position": page.position(design, uuids),
        "metadata": page.metadata(
            design,
            lambda dataset: made.identify("dataset", dataset),
            lambda label: made.identify("filter", f"{name}/{label}"),
        ),
        "version": _VERSION,
    }


def _check(name: str, design: DashboardDesign, datasets: dict[str, Dataset]) -> None:
    for where, dataset in [(f"the chart {key}", one.dataset) for key, one in design.charts.items()] + [
        (f"the filter {one.label}", one.dataset) for one in design.filters if one.column
    ]:
        if dataset not in datasets:
            raise ConfigurationError(
                f"{where} of the dashboard {name} is over {dataset}, which is no dataset",
                hint=f"The datasets are {', '.join(sorted(datasets))}",
            )
    for one in design.filters:
        if one.column and datasets[one.dataset].field(one.column) is None:
            raise ConfigurationError(
                f"the filter {one.label} of the dashboard {name} is on {one.column}, which {one.dataset} does not have"
            )


class _Writer(yaml.SafeDumper):  # type: ignore[misc]
    """Writes texts of several lines as such."""


def _text(writer: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value and not re.search(r"[ \t]+\n", value) else None
    return writer.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Writer.add_representer(str, _text)


def written(document: dict[str, Any]) -> str:
    """A document as YAML, its keys in the order in which they were given."""
    text: str = yaml.dump(document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=120)
    return text
