"""A dashboard as Superset places and filters it: rows of charts, and the filters beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from totes.dashboards.design import COLUMNS, DashboardDesign, FilterDesign

_ROOT, _GRID, _HEADER = "ROOT_ID", "GRID_ID", "HEADER_ID"


def position(design: DashboardDesign, uuids: Mapping[str, UUID]) -> dict[str, Any]:
    """Where each part of a dashboard is.

    Args:
        design: the dashboard.
        uuids: the identifiers of its charts, by name.
    """
    rows = [f"ROW-{number}" for number in range(1, len(design.rows) + 1)]
    placed: dict[str, Any] = {
        "DASHBOARD_VERSION_KEY": "v2",
        _ROOT: {"type": "ROOT", "id": _ROOT, "children": [_GRID]},
        _GRID: {"type": "GRID", "id": _GRID, "children": rows, "parents": [_ROOT]},
        _HEADER: {"type": "HEADER", "id": _HEADER, "meta": {"text": design.title}},
    }
    numbers = chart_numbers(design)
    for identifier, row in zip(rows, design.rows, strict=True):
        parents = [_ROOT, _GRID, identifier]
        parts: dict[str, Any] = {}
        if row.text:
            key = f"MARKDOWN-{identifier}"
            meta: dict[str, Any] = {"code": row.text, "width": COLUMNS, "height": row.height}
            parts[key] = {"type": "MARKDOWN", "id": key, "children": [], "parents": parents, "meta": meta}
        for name, width in row.charts.items():
            key, chart = f"CHART-{name}", design.charts[name]
            meta = {
                "chartId": numbers[name], "uuid": str(uuids[name]), "sliceName": chart.title,
                "width": width, "height": row.height,
            }  # fmt: skip
            parts[key] = {"type": "CHART", "id": key, "children": [], "parents": parents, "meta": meta}
        placed[identifier] = {
            "type": "ROW", "id": identifier, "children": list(parts), "parents": [_ROOT, _GRID],
            "meta": {"background": "BACKGROUND_TRANSPARENT"},
        }  # fmt: skip
        placed |= parts
    return placed


def metadata(
    design: DashboardDesign, dataset: Callable[[str], UUID], identify: Callable[[str], UUID]
) -> dict[str, Any]:
    """A dashboard's filters and behaviour.

    Args:
        design: the dashboard.
        dataset: gives a dataset's identifier.
        identify: gives a filter's identifier.
    """
    numbers = chart_numbers(design)
    return {
        "color_scheme": "supersetColors",
        "cross_filters_enabled": True,
        "native_filter_configuration": [
            _filter(one, numbers, dataset, identify(one.label)) for one in design.filters
        ],
        "refresh_frequency": 0,
    }


def chart_numbers(design: DashboardDesign) -> dict[str, int]:
    """Numbers by which parts of a dashboard name its charts; Superset puts its own in their place."""
    return {name: number for number, name in enumerate(design.charts, 1)}


def _filter(
    one: FilterDesign, numbers: Mapping[str, int], dataset: Callable[[str], UUID], identifier: UUID
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": f"NATIVE_FILTER-{identifier}",
        "type": "NATIVE_FILTER",
        "name": one.label,
        "description": one.description,
        "cascadeParentIds": [],
        "scope": {"rootPath": [_ROOT], "excluded": [numbers[name] for name in one.without]},
    }
    if not one.column:
        return made | {
            "filterType": "filter_time",
            "targets": [{}],
            "controlValues": {"enableEmptyFilter": False},
            "defaultDataMask": {"extraFormData": {}, "filterState": {}},
        }
    mask: dict[str, Any] = {"extraFormData": {}, "filterState": {}}
    if one.default:
        chosen = {"col": one.column, "op": "IN", "val": [one.default]}
        mask = {
            "extraFormData": {"filters": [chosen]},
            "filterState": {"value": [one.default], "label": one.default},
        }
    return made | {
        "filterType": "filter_select",
        "targets": [{"column": {"name": one.column}, "datasetUuid": str(dataset(one.dataset))}],
        "controlValues": {
            "enableEmptyFilter": bool(one.default),
            "defaultToFirstItem": False,
            "multiSelect": False,
            "searchAllOptions": True,
            "inverseSelection": False,
            "sortAscending": not one.descending,
        },
        "defaultDataMask": mask,
    }
