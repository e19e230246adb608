"""The pages of `totes ui` over a real pipeline, asked for by an HTTP client."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from tests.conftest import Database
from tests.contracts.shop import MODELS
from tests.ui.conftest import HOSTILE, Shop
from tests.ui.site import Site
from totes.lake.journal import processed_journal
from totes.terrifictotes.server import LocalServer

BOTH_KINDS = pytest.mark.parametrize("still_shop", ["duckdb", "postgresql"], indirect=True)


def cells(page: str, table_class: str = "") -> list[list[str]]:
    """The rows of the first table of a class, as the text of their cells."""
    [body, *_] = re.findall(
        rf'<table class="[^"]*{table_class}[^"]*">.*?<tbody>(.*?)</tbody>', page, re.DOTALL
    )
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body, re.DOTALL)
    return [[text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


def text(part: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", part).split()))


def test_the_pipeline_page_has_stages_and_batches_with_their_rows(still_site: Site) -> None:
    page = still_site.get("/")
    assert text(page).count(" ok ") == 3
    batches = json.loads(re.findall(r'id="chart-data">(.*?)</script>', page, re.DOTALL)[0])
    assert [batch["batch"] for batch in batches] == [1, 2, 3]
    assert [batch["rows"] for batch in batches] == [[5, 5, 5], [2, 2, 2], [1, 1, 1]]
    assert [row[0] for row in cells(page, "dense")] == ["3", "2", "1"]
    assert "no open incident" in page


def test_a_batch_names_what_it_changed_and_its_objects(still_site: Site) -> None:
    page = still_site.get("/batch/3")
    assert "fact_order" in page
    assert re.search(r"/ingestion/order/date=[^<]+000000000003-", page)
    assert "dim_customer" not in text(page)
    assert still_site.ask("GET", "/batch/4").status == 404


def test_the_star_shows_tables_keys_and_lineage_down_to_the_source(still_site: Site) -> None:
    star = still_site.get("/star")
    assert "<title>fact_order.customer_id → dim_customer</title>" in star
    assert [table["name"] for table in json.loads(still_site.get("/dictionary"))["tables"]] == [
        "dim_customer",
        "fact_order",
    ]
    columns = {row[0]: row[1:] for row in cells(still_site.get("/star/fact_order"), "columns")}
    assert columns["customer_id"] == ["integer", "→ dim_customer", "", "order.customer_id"]
    assert columns["order_record_id"][1] == "primary key"
    assert columns["valid_from"][1] == "added by totes"


@BOTH_KINDS
def test_rows_are_filtered_sorted_and_paged(still_site: Site) -> None:
    shown = cells(still_site.get("/rows/fact_order", sort="-price"), "rows")
    assert [row[2] for row in shown] == ["2", "1"]  # the third order has gone
    versions = cells(still_site.get("/rows/fact_order", versions="all", sort="quantity"), "rows")
    assert [row[4] for row in versions] == ["1", "2", "5", "7", "7"]
    assert [row[2] for row in cells(still_site.get("/rows/fact_order", **{"f.quantity": ">=5"}), "rows")] == [
        "1"
    ]
    assert [row[1] for row in cells(still_site.get("/rows/dim_customer", **{"f.name": "ad"}), "rows")] == [
        "10"
    ]
    assert "No row meets these filters" in still_site.get("/rows/dim_customer", **{"f.name": "=ad"})
    refused = still_site.get("/rows/fact_order", **{"f.price": "cheap'; --"})
    assert "cheap&#39;; -- is no DECIMAL(10, 2)" in refused
    assert len(cells(refused, "rows")) == 2


@BOTH_KINDS
def test_rows_as_of_a_moment(still_site: Site, still_shop: Shop) -> None:
    first = shop_batches(still_shop)[0]
    before = cells(still_site.get("/rows/fact_order", at="2024-11-26 09:59:59"), "rows")
    assert [(row[2], row[4]) for row in before] == [("1", "2"), ("2", "1"), ("3", "7")]
    after = cells(still_site.get("/rows/fact_order", at="2024-11-26 10:00:00"), "rows")
    assert [(row[2], row[4]) for row in after] == [("1", "5"), ("2", "1"), ("3", "7")]
    customers = cells(still_site.get("/rows/dim_customer", at=first), "rows")
    assert [row[2] for row in customers] == ["Ada", "Bo"]
    assert HOSTILE in [row[2] for row in cells(still_site.get("/rows/dim_customer"), "rows")]
    assert "nothing had been captured" in still_site.ask("GET", "/rows/dim_customer?at=2001-01-01").text
    counts = {
        row[0]: row[1]
        for row in cells(still_site.get("/rows", at=first).replace("<table>", '<table class="">'))
    }
    assert counts == {"dim_customer": "2", "fact_order": "3"}


def shop_batches(shop: Shop) -> list[str]:
    journal = processed_journal(shop.pipeline.processed_store)
    return [journal.read(batch).read_at.isoformat() for batch in range(1, journal.last() + 1)]


@BOTH_KINDS
def test_a_rows_history_says_what_each_version_changed_and_where_it_is(still_site: Site) -> None:
    page = still_site.get("/history/fact_order", key="1")
    assert "source column last_updated" in page
    assert cells(page, "changes") == [["quantity", "2", "5"]]
    assert re.search(r"/ingestion/order/date=[^<]+000000000002-", page)
    assert re.search(r"/processed/fact_order/date=[^<]+000000000002-", page)
    assert "Deleted" in still_site.get("/history/fact_order", key="3")
    source = still_site.get("/history/customer", key="11")
    assert [row[0] for row in cells(source, "changes")] == ["name", "last_updated"]
    assert still_site.ask("GET", "/history/fact_order?key=99").status == 404
    assert still_site.ask("GET", "/history/fact_order?key=1&key=2").status == 404


def test_values_are_escaped_on_every_page_and_are_in_no_file(site: Site, shop: Shop, totes: Any) -> None:
    shop.database.execute(
        'ALTER TABLE "order" ALTER price TYPE text',
        f"UPDATE \"order\" SET price = $${HOSTILE}$$, last_updated = '2024-11-27' WHERE order_id = 2",
    )
    shop.run()
    pages = [
        "/",
        "/rows/dim_customer",
        "/history/dim_customer?key=11",
        "/history/customer?key=11",
        "/quarantine",
    ]
    pages += [
        "/rows/dim_customer?f.name=%3Cscript%3E",
        "/rows/%3Cscript%3E",
        "/history/x?key=%3Cscript%3E",
        "/star/%3Cscript%3E",
    ]
    for page in pages:
        answer = site.ask("GET", page)
        harmful = ("alert(1)</script>", "<script>alert", "<img src=x")
        assert [part for part in harmful if part in answer.text] == [], page
    assert str(escape(HOSTILE)) in site.get("/quarantine")
    assert totes("ui", "--export", "site", cwd=shop.folder).code == 0
    exported = (shop.folder / "site" / "quarantine.html").read_text("utf-8")
    assert ("1 row after batch 4" in exported, "alert(1)" in exported) == (True, False)


def test_an_empty_lake_says_what_to_do(make_shop: Callable[..., Shop], tmp_path: Path) -> None:
    make_shop(tmp_path, run=False)
    with Site(tmp_path) as site:
        for page in ("/", "/quarantine"):
            assert "totes run" in site.get(page), page
        assert "fact_order" in site.get("/star")
        assert "Nothing has been captured yet" in site.get("/star/fact_order")
        assert "totes verify" in site.get("/verify")
        assert "Nothing to apply" in site.get("/plan")
        assert "Run `totes run` first" in site.ask("GET", "/rows/fact_order").text
        assert "Run `totes load` first" in site.get("/rows")


@pytest.mark.parametrize("kind", ["duckdb", "postgresql"])
def test_a_warehouse_that_is_away_leaves_the_other_pages(
    kind: str, make_shop: Callable[..., Shop], tmp_path: Path, server: LocalServer
) -> None:
    shop = make_shop(tmp_path, kind)
    url = shop.pipeline.settings.warehouse_url()
    if kind == "duckdb":
        (tmp_path / "warehouse.duckdb").write_bytes(b"no database")
    else:
        name = url.rpartition("/")[2].partition("?")[0]
        Database(server.url(), "postgres").execute(f"DROP DATABASE {name} WITH (FORCE)")
    with Site(tmp_path) as site:
        page = site.get("/")
        assert '<span class="state bad">away</span>' in page
        assert "Nothing is known of loads" in page
        rows = site.ask("GET", "/rows/fact_order")
        assert (rows.status, "warehouse.url" in rows.text) == (503, True)
        assert "fact_order" in site.get("/star")
        assert "000000000003-" in site.get("/batch/3")


def test_a_load_goes_on_beside_the_pages(site: Site, shop: Shop) -> None:
    for number in range(3):
        site.get("/rows/fact_order")
        shop.database.execute(f'UPDATE "order" SET quantity = {20 + number} WHERE order_id = 1')
        assert shop.run().loaded_rows == {"fact_order": 1}
        assert [row[4] for row in cells(site.get("/rows/fact_order", **{"f.order_id": "1"}), "rows")] == [
            str(20 + number)
        ]


def test_the_last_verdict_and_the_plan_are_shown(site: Site, shop: Shop, totes: Any) -> None:
    assert totes("verify", cwd=shop.folder).code == 0
    assert [row[:3] for row in cells(site.get("/verify").replace("<table>", '<table class="">'))] == [
        ["dim_customer", "equal", "2"], ["fact_order", "equal", "2"],
    ]  # fmt: skip
    changed = MODELS["dim_customer"].replace("city         VARCHAR\n", "town         VARCHAR -- was: city\n")
    file = shop.folder / "shop" / "models" / "dim_customer.sql"
    file.write_text(changed.replace("name, city", "name, city AS town"), encoding="utf-8")
    page = site.get("/plan")  # without a new start
    assert "city → town" in text(page)
    file.write_text("CREATE TABLE dim_customer", encoding="utf-8")
    wrong = site.ask("GET", "/plan")
    assert (wrong.status, "models/dim_customer.sql" in wrong.text) == (503, True)
    assert site.ask("GET", "/batch/1").status == 200


def test_quarantine_is_retried_by_the_button_alone(site: Site, shop: Shop) -> None:
    shop.database.execute(
        "ALTER TABLE customer ALTER name DROP NOT NULL",
        "UPDATE customer SET name = NULL WHERE customer_id = 10",
    )
    shop.run()
    page = site.get("/quarantine")
    assert "Try again now" in page
    assert "customer_id 10" in text(page)
    shop.database.execute("UPDATE customer SET name = 'Ada L.' WHERE customer_id = 10")
    token = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    for origin in ("http://totes.example", "null", "", site.url.rstrip("/").replace("http:", "https:")):
        assert site.ask("POST", "/quarantine/retry", f"csrf={token}", Origin=origin).status == 403, origin
    answer = site.ask("POST", "/quarantine/retry", f"csrf={token}")
    assert (answer.status, answer.headers["location"]) == (303, "/quarantine")
    assert "dim_customer : 1 tried, 1 loaded, 0 remaining." in text(site.get("/quarantine"))
    assert "Nothing is in quarantine" in site.get("/quarantine")
