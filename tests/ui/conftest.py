"""The shop with pages of its pipeline: one that nothing changes, for all tests of a module, and one of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, run_cleanly
from tests.contracts.shop import MODELS, SCHEMA
from tests.ui.site import Site, write_settings
from totes.config import Settings
from totes.pipeline import Pipeline

HOSTILE = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>"""


@dataclass
class Shop:
    """The shop's database, its pipeline, and the folder with its settings."""

    database: Database
    pipeline: Pipeline
    folder: Path

    def run(self) -> Any:
        """One cycle."""
        return run_cleanly(self.pipeline)


@pytest.fixture(scope="session")
def make_shop(new_database: Callable[..., Database]) -> Callable[..., Shop]:
    """Makes a shop of which one order has changed, a customer is hostile, and an order has gone, in three batches."""

    def make(folder: Path, kind: str = "duckdb", *, run: bool = True) -> Shop:
        database = new_database()
        warehouse = f"duckdb:///{folder}/warehouse.duckdb" if kind == "duckdb" else new_database().url
        project = {"name": "shop", "path": str(folder / "shop")}
        (folder / "shop" / "models").mkdir(parents=True)
        for name, model in MODELS.items():
            (folder / "shop" / "models" / f"{name}.sql").write_text(model, encoding="utf-8")
        write_settings(folder, database.url, warehouse, project)
        settings = Settings(
            project=project, source={"url": database.url}, warehouse={"url": warehouse}, base=folder
        )  # type: ignore[arg-type]
        shop = Shop(database, Pipeline(settings), folder)
        database.execute(*SCHEMA)
        if run:
            shop.run()
            database.execute(
                "UPDATE \"order\" SET quantity = 5, last_updated = '2024-11-26 10:00' WHERE order_id = 1",
                f"UPDATE customer SET name = $${HOSTILE}$$, last_updated = '2024-11-26 10:00' WHERE customer_id = 11",
            )
            shop.run()
            database.execute('DELETE FROM "order" WHERE order_id = 3')
            shop.run()
        return shop

    return make


@pytest.fixture(scope="module", params=["duckdb", pytest.param("postgresql", marks=pytest.mark.sweep)])
def still_shop(
    request: pytest.FixtureRequest, make_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    """A shop that no test changes; both kinds of warehouse where a test says so."""
    return make_shop(tmp_path_factory.mktemp("shop"), request.param)


@pytest.fixture(scope="module")
def still_site(still_shop: Shop) -> Iterator[Site]:
    """Its pages."""
    with Site(still_shop.folder) as running:
        yield running


@pytest.fixture
def shop(make_shop: Callable[..., Shop], tmp_path: Path) -> Shop:
    """A shop of the test's own."""
    return make_shop(tmp_path)


@pytest.fixture
def site(shop: Shop) -> Iterator[Site]:
    """Its pages."""
    with Site(shop.folder) as running:
        yield running
