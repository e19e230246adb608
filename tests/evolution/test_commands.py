"""`totes plan` and `totes apply` as people use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database
from tests.contracts.shop import MODELS, SCHEMA

NARROW = MODELS["fact_order"].replace("NUMERIC(10,2)", "NUMERIC(4,1)")
RENAMED = MODELS["dim_customer"].replace("    city         VARCHAR\n", "    town         VARCHAR -- was: city\n").replace(
    "city FROM", "city AS town FROM"
)  # fmt: skip


@pytest.fixture
def shop(
    database: Database, totes: Callable[..., Command], write_project: Any, tmp_path: Path
) -> Callable[..., Command]:
    """Runs the command over the shop, of which one batch is loaded; keyword arguments are changed models."""
    database.execute(*SCHEMA)
    write_project(MODELS)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "shop"\npath = "project"\n[source]\nurl = "{database.url}"\n', encoding="utf-8"
    )
    assert totes("run").code == 0

    def run(*arguments: str, **models: str) -> Command:
        write_project(models)
        return totes(*arguments)

    return run


def test_a_plan_is_for_people_programs_and_pull_requests(shop: Callable[..., Command]) -> None:
    assert shop("plan", "--check").out == "Nothing to apply: the star is as its models declare it.\n"
    changed = {"fact_order": NARROW, "dim_customer": RENAMED}
    told = shop("plan", **changed).out
    assert max(len(line) for line in told.splitlines()) <= 80 or "costs" in told
    assert "dim_customer: other columns\n  renames city to town\n" in told
    assert "  retypes price from DECIMAL(10, 2) to DECIMAL(4, 1)\n" in told
    assert "  LOSES values of price that DECIMAL(4, 1) does not hold\n" in told
    assert told.endswith("totes apply --yes applies this; what is lost in the star stays in the lake.\n")
    document = json.loads(shop("--json", "plan").out)
    assert document["pending"] is True
    assert document["changes"]["dim_customer"]["renamed"] == {"town": "city"}
    fact = document["changes"]["fact_order"]
    assert (fact["kind"], fact["retyped"], fact["rows"], fact["versions"]) == ("columns", ["price"], 3, 3)
    markdown = shop("plan", "--markdown").out
    assert (
        "| `fact_order` | other columns | 3 | `values of price that DECIMAL(4, 1) does not hold` |"
        in markdown
    )
    assert shop("plan", "--check").code == 1


def test_what_loses_something_is_agreed_to_before_it_is_done(
    shop: Callable[..., Command], database: Database
) -> None:
    refused = shop("apply", fact_order=NARROW)
    assert refused.code == 2
    assert "this loses fact_order: values of price that DECIMAL(4, 1) does not hold" in refused.err
    ran = shop("run")
    assert ran.out == "Pending: fact_order changed; see totes plan, then totes apply\n"
    database.execute("DROP TABLE customer CASCADE")  # the source is not asked
    done = shop("--json", "apply", "--yes")
    assert json.loads(done.out) == {"applied": ["fact_order"], "batch": 2, "loaded": {"fact_order": 2}}
    assert shop("plan").out == "Nothing to apply: the star is as its models declare it.\n"
    listed = shop("quarantine", "list").out
    assert "12.50" in listed or "price" in listed


def test_a_removed_model_keeps_its_table_until_that_is_applied(
    shop: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "project" / "models" / "fact_order.sql").unlink()
    assert shop("run").out == "Pending: dim_customer, fact_order changed; see totes plan, then totes apply\n"
    refused = shop("apply")
    assert "fact_order: the table fact_order" in refused.err
    assert shop("apply", "--yes").code == 0
    assert shop("plan", "--check").code == 0
    assert shop("verify").code == 0


def test_the_history_of_a_row_shows_the_columns_that_it_had_before_and_has_now(
    shop: Callable[..., Command], database: Database
) -> None:
    key, _ = database.execute("SELECT customer_id, name FROM customer ORDER BY 1 LIMIT 1")[0]
    assert shop("apply", "--yes", dim_customer=RENAMED).code == 0
    shown = [line.split() for line in shop("history", "dim_customer", str(key)).out.splitlines()]
    [[_, city]] = [line for line in shown if line[:1] == ["city"] and "→" not in line]
    assert ["city", city, "→", "-"] in shown
    assert ["town", "-", "→", city] in shown
