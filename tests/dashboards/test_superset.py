"""Everything in a real Superset, as Chromium shows it: over DuckDB, then imported again over PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import superset
from tests.dashboards.conftest import Company
from tests.dashboards.odd_star import ROWS, declared, duckdb_query, odd_project, postgresql_query
from tests.dashboards.superset import Seen, Superset, Visitor
from tests.dashboards.test_command import DASHBOARD, MODELS
from tests.databases import Database
from tests.ui import chromium
from totes.dashboards.assets import assets, folder_of
from totes.dashboards.design import read_dashboards
from totes.output_files import write
from totes.star.project import Project

pytestmark = pytest.mark.superset
PICTURE_BYTES_MIN = 50_000


@dataclass
class Office:
    """Superset over one of the company's warehouses, and somebody who looks at it; beside it the odd star."""

    dialect: str
    visitor: Visitor
    project: Project
    odd: Project


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or why its tests are skipped."""
    if why := chromium.missing() or superset.missing():
        pytest.skip(why)
    with chromium.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Superset keeps: the second import finds what the first one made."""
    return tmp_path_factory.mktemp("superset") / "home"


@pytest.fixture(scope="module", params=["duckdb", "postgresql"])
def office(
    request: pytest.FixtureRequest,
    browser: Any,
    company: Company,
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Office]:
    """Superset over a warehouse of each kind, one after the other."""
    folder = tmp_path_factory.mktemp(request.param)
    odd, file = odd_project(folder / "odd"), folder / "odd.duckdb"
    duckdb_query(file, *declared(odd, "duckdb", "main"), *ROWS)
    made = assets(odd, f"duckdb:///{file}", "", folder)
    own = assets(company.project, company.urls[request.param], "", company.folder)
    assert not made.keys() & own.keys() - {"metadata.yaml"}
    if (
        request.param == "postgresql"
    ):  # an import has no password of its own; Superset asks for it on its pages
        place, user = "databases/terrifictotes.yaml", company.urls["postgresql"]
        assert "XXXXXXXXXX" in own[place]
        own[place] = own[place].replace("XXXXXXXXXX", user.partition("@")[0].rpartition(":")[2])
    write(folder / "assets", made | own)
    with Superset(folder / "assets", home) as running:
        yield Office(request.param, Visitor(browser, running), company.project, odd)


def test_another_import_updates_what_the_first_one_made(office: Office) -> None:
    dashboards = read_dashboards(folder_of(office.project)).values()
    titles = [one["dashboard_title"] for one in office.visitor.asked("dashboard/")]
    assert sorted(title for title in titles if title != "Shop") == sorted(one.title for one in dashboards)
    shown = [one["slice_name"] for one in office.visitor.asked("chart/?q=(page_size:200)")]
    assert sorted(set(shown)) == sorted(shown)
    assert {chart.title for one in dashboards for chart in one.charts.values()} <= set(shown)
    backends = {one["database_name"]: one["backend"] for one in office.visitor.asked("database/")}
    assert backends["terrifictotes"] == office.dialect


@pytest.mark.parametrize("dashboard", ["sales", "purchases", "open"])
def test_every_chart_shows_something(office: Office, dashboard: str, tmp_path: Path) -> None:
    design = read_dashboards(folder_of(office.project))[dashboard]
    seen = office.visitor.look(f"terrifictotes-{dashboard}")
    assert seen.faults == []
    assert seen.rows.keys() == {chart.title for chart in design.charts.values()}
    for title, queries in seen.rows.items():
        for rows in queries:
            assert rows, title
            for column in rows[0]:
                assert "null" not in column.lower(), title
                assert any(row[column] is not None for row in rows), (title, column)
    picture = office.visitor.picture()
    (tmp_path / f"{dashboard}.png").write_bytes(picture)
    assert len(picture) > PICTURE_BYTES_MIN
    assert office.visitor.page.get_by_text("No data", exact=False).count() == 0
    assert office.visitor.page.get_by_text("N/A", exact=True).count() == 0


def number(seen: Seen, title: str) -> Any:
    [[row]] = seen.rows[title]
    return next(iter(row.values()))


def test_a_past_day_can_be_chosen(office: Office) -> None:
    now = office.visitor.look("terrifictotes-open")

    def choose(page: Any) -> None:
        page.get_by_role("combobox").first.fill("2026-09-01")
        page.get_by_title("2026-09-01", exact=True).click()
        page.get_by_role("button", name="Apply filters").click()

    then = office.visitor.look("terrifictotes-open", choose)
    assert then.faults == []
    assert "Orders still to be delivered at the end of each day" not in then.rows  # it shows all days anyway
    assert number(then, "Orders to deliver") not in (None, number(now, "Orders to deliver"))
    assert number(then, "To receive") not in (None, number(now, "To receive"))


def test_an_odd_star_can_be_asked_for_every_column_and_metric(office: Office) -> None:
    if office.dialect != "duckdb":
        pytest.skip("it is the same over both")
    found = 0
    for one in office.visitor.asked("dataset/?q=(page_size:200)"):
        if one["database"]["database_name"] != "odd <project>":
            continue
        dataset = office.visitor.asked(f"dataset/{one['id']}")
        columns = [column["column_name"] for column in dataset["columns"]]
        assert office.visitor.query(one["id"], columns, []) is not None
        metrics = [metric["metric_name"] for metric in dataset["metrics"]]
        assert len(office.visitor.query(one["id"], [], metrics)) == 1
        found += 1
    assert found == len(office.odd.models) + 2


def test_a_file_is_imported_on_superset_s_pages_which_ask_for_the_password(
    office: Office, new_database: Callable[..., Database], tmp_path: Path
) -> None:
    if office.dialect != "duckdb":
        pytest.skip("one import of a file will do")
    shop, url = odd_project(tmp_path / "shop", MODELS), new_database().url
    (tmp_path / "shop" / "dashboards").mkdir()
    (tmp_path / "shop" / "dashboards" / "sales.yaml").write_text(DASHBOARD, encoding="utf-8")
    rows = (
        "INSERT INTO dim_shop VALUES (1, 'Hull', false)",
        "INSERT INTO fact_sale VALUES (1, 7, 1, 99.5, now(), NULL, false, 1)",
    )
    postgresql_query(url, *declared(shop, "postgresql", "public"), *rows)
    write(tmp_path / "bi", assets(replace(shop, name="shop"), url, "", tmp_path))
    status, said = office.visitor.upload("dataset", "bi", tmp_path / "bi", {})
    assert (status, "Must provide a password" in said) == (422, True), said
    password = {"databases/shop.yaml": url.partition("@")[0].rpartition(":")[2]}
    for kind in ("dataset", "dashboard"):
        assert office.visitor.upload(kind, "bi", tmp_path / "bi", password) == (200, '{"message":"OK"}\n')
    seen = office.visitor.look("shop-sales")
    assert (seen.faults, seen.rows) == ([], {"All": [[{"sum__amount": 99.5}]]})


def test_what_a_load_brings_is_there_at_once(office: Office, company: Company) -> None:
    if office.dialect != "duckdb":
        pytest.skip("a server's rows are there for everybody")
    orders = office.visitor.names("dataset", "table_name")["fact_sales_order"]
    [before] = office.visitor.query(orders, [], ["count"])
    company.trade()
    [after] = office.visitor.query(orders, [], ["count"])
    assert after["count"] > before["count"]
