"""TerrificTotes after a day of trade, in a warehouse of each kind, with what Superset imports for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.dashboards.odd_star import Query, duckdb_query, postgresql_query
from tests.ui.site import write_settings
from totes.config import load_settings
from totes.pipeline import Pipeline
from totes.star.project import Project
from totes.terrifictotes import demo_source


@dataclass
class Company:
    """The folder with its settings, its project, and its two warehouses, which hold the same."""

    folder: Path
    project: Project
    urls: dict[str, str]
    queries: dict[str, Query]
    source: Database
    pipeline: Pipeline

    def trade(self) -> None:
        """Lets it trade for another day, which is in the DuckDB warehouse then."""
        demo_source.trade(self.source.url)
        run_cleanly(self.pipeline)


@pytest.fixture(scope="module")
def company(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Database], _totesys_template: Any
) -> Company:
    """TerrificTotes in two batches, a day of trade between them."""
    folder = tmp_path_factory.mktemp("company")
    source, warehouse = new_database(_totesys_template.name), new_database()
    file = folder / "warehouse.duckdb"
    urls = {"duckdb": f"duckdb:///{file}", "postgresql": warehouse.url}
    write_settings(folder, source.url, urls["duckdb"], {"name": "terrifictotes"})
    pipeline = Pipeline(load_settings(folder / "totes.toml"))
    run_cleanly(pipeline)
    demo_source.trade(source.url)
    run_cleanly(pipeline)
    other = pipeline.settings.warehouse.model_copy(
        update={"url": type(pipeline.settings.warehouse.url)(warehouse.url)}
    )
    run_cleanly(Pipeline(pipeline.settings.model_copy(update={"warehouse": other})))
    queries = {"duckdb": duckdb_query(file), "postgresql": postgresql_query(warehouse.url)}
    return Company(folder, pipeline.project, urls, queries, source, pipeline)
