"""Promise 9: what is set aside is shown with key, value and reason, and is loaded once the cause is mended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from totes import engine
from totes.errors import ConfigurationError
from totes.lake.journal import ingestion_journal, processed_journal
from totes.monitoring.quarantine import Problem, Retried, read_quarantine, retry
from totes.pipeline import Pipeline
from totes.processing.state import QUARANTINE

SCHEMA = (
    "CREATE TABLE customer (customer_id int PRIMARY KEY, name text, last_updated timestamp NOT NULL)",
    """CREATE TABLE invoice (invoice_id int PRIMARY KEY, customer_id int, due text, amount numeric,
        last_updated timestamp NOT NULL)""",
    "INSERT INTO customer VALUES (1, 'Ada', '2024-11-25 08:00'), (2, NULL, '2024-11-25 08:00')",
    """INSERT INTO invoice VALUES (10, 1, '2024-12-01', 12.50, '2024-11-25 09:00'),
        (11, 1, 'end of month', 1.005, '2024-11-25 09:00'), (12, 2, '2024-12-01', 1, '2024-11-25 09:00')""",
)
DIM = "CREATE TABLE dim_customer (customer_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL) AS SELECT customer_id, name FROM customer"
FACT = """CREATE TABLE fact_invoice (record_id BIGINT PRIMARY KEY, invoice_id INTEGER NOT NULL,
    customer_id INTEGER REFERENCES dim_customer, due DATE, amount NUMERIC(10, 2)) AS
    SELECT invoice_id, customer_id, due, amount FROM invoice"""
MODELS = {"dim_customer": DIM, "fact_invoice": FACT}
MENDED = MODELS | {"fact_invoice": FACT.replace(" due, amount FROM", " TRY_CAST(due AS DATE) AS due, round(amount, 2) AS amount FROM")}  # fmt: skip
NO_DATE = Problem("due", "is not a valid DATE", "end of month")
TOO_FINE = Problem("amount", "has more digits than DECIMAL(10, 2) keeps", "1.005")
UNNAMED = Problem("name", "is NULL, and is declared NOT NULL", None)
NOBODY = Problem("customer_id", "is not in dim_customer", "2")


@pytest.fixture
def make(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]]
) -> Callable[..., Pipeline]:
    database.execute(*SCHEMA)

    def make(
        models: dict[str, str] = MODELS, warehouse: str | None = None, references: Any = None
    ) -> Pipeline:
        return make_pipeline(database.url, warehouse, project=write_project(models, references))

    return make


@pytest.fixture
def command(database: Database, totes: Callable[..., Command]) -> Callable[..., Command]:
    def run(*arguments: str) -> Command:
        return totes(*arguments, TOTES_SOURCE__URL=database.url, TOTES_PROJECT__NAME="project", TOTES_PROJECT__PATH="project")  # fmt: skip

    return run


def test_each_row_is_shown_with_key_column_value_reason_and_batch(
    make: Callable[..., Pipeline], command: Callable[..., Command]
) -> None:
    pipeline = make()
    run_cleanly(pipeline)
    finished = processed_journal(pipeline.processed_store).read(1).finished_at.isoformat()
    done = command("quarantine", "list", "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "batch": 1,
        "total": 3,
        "tables": {"dim_customer": 1, "fact_invoice": 2},
        "kinds": [
            {"table": "dim_customer", "column": "name", "kind": UNNAMED.kind, "rows": 1},
            {"table": "fact_invoice", "column": "amount", "kind": TOO_FINE.kind, "rows": 1},
            {"table": "fact_invoice", "column": "customer_id", "kind": NOBODY.kind, "rows": 1},
            {"table": "fact_invoice", "column": "due", "kind": NO_DATE.kind, "rows": 1},
        ],
        "rows": [
            {
                "table": "dim_customer", "key": {"customer_id": 2}, "batch": 1, "at": finished,
                "reason": "name is NULL, and is declared NOT NULL", "problems": [asdict(UNNAMED)],
                "row": {"customer_id": 2, "name": None, "last_updated": "2024-11-25 08:00:00", "_at": "2024-11-25 08:00:00"},
            },
            {
                "table": "fact_invoice", "key": {"invoice_id": 11}, "batch": 1, "at": finished,
                "reason": "due: 'end of month' is not a valid DATE; amount: '1.005' has more digits than DECIMAL(10, 2) keeps",
                "problems": [asdict(NO_DATE), asdict(TOO_FINE)],
                "row": {"invoice_id": 11, "customer_id": 1, "due": "end of month", "amount": "1.005",
                        "last_updated": "2024-11-25 09:00:00", "_at": "2024-11-25 09:00:00"},
            },
            {
                "table": "fact_invoice", "key": {"invoice_id": 12}, "batch": 1, "at": finished,
                "reason": "customer_id: 2 is not in dim_customer", "problems": [asdict(NOBODY)],
                "row": {"invoice_id": 12, "customer_id": 2, "due": "2024-12-01", "amount": "1",
                        "last_updated": "2024-11-25 09:00:00", "_at": "2024-11-25 09:00:00"},
            },
        ],
    }  # fmt: skip


def test_people_see_how_many_of_what_and_then_the_rows(
    make: Callable[..., Pipeline], command: Callable[..., Command], database: Database
) -> None:
    database.execute("UPDATE invoice SET due = '[red]' || repeat('x', 50) WHERE invoice_id = 11")
    run_cleanly(make())
    done = command("quarantine", "list", "--table", "fact_invoice", "--limit", "1")
    assert done.code == 0
    words = " ".join(done.out.replace("│", " ").replace("┃", " ").split())
    assert "In quarantine after batch 1: 2 rows" in words
    assert "fact_invoice due is not a valid DATE 1" in words
    assert "fact_invoice invoice_id=11 since batch 1, 20" in words
    assert f"due [red]{'x' * 35}… is not a valid DATE" in words
    assert "amount 1.005 has more digits than DECIMAL(10, 2) keeps" in words
    assert "1 more row: --limit shows more" in words
    assert "name" not in words


def test_nothing_in_quarantine_is_said_and_makes_no_batch(
    database: Database, make: Callable[..., Pipeline], command: Callable[..., Command]
) -> None:
    database.execute(
        "DELETE FROM invoice WHERE invoice_id > 10", "DELETE FROM customer WHERE customer_id = 2"
    )
    pipeline = make()
    assert read_quarantine(pipeline).total == 0
    assert retry(pipeline).cycle is None
    run_cleanly(pipeline)
    assert [command("quarantine", word).out for word in ("list", "retry")] == [
        "Nothing is in quarantine.\n"
    ] * 2
    assert json.loads(command("quarantine", "retry", "--json").out) == {
        "batch": None, "tried": 0, "loaded": 0, "fit": 0, "remain": 0, "tables": {}, "kinds": [],
    }  # fmt: skip
    assert ingestion_journal(pipeline.ingestion_store).last() == 1


def test_a_table_that_is_not_there_is_refused(make: Callable[..., Pipeline]) -> None:
    pipeline = make()
    for act in (read_quarantine, retry):
        with pytest.raises(ConfigurationError, match="there is no table fact_invoices"):
            act(pipeline, ("fact_invoices",))


@pytest.fixture
def busy(make: Callable[..., Pipeline], database: Database) -> Pipeline:
    """A pipeline whose quarantine has seen some coming, changing, going and coming back over six batches."""
    database.execute(
        "INSERT INTO invoice SELECT n, 1, 'x' || n, 1, '2024-11-25 10:00' FROM generate_series(20, 29) n"
    )
    pipeline = make()
    for statements in (
        ["UPDATE invoice SET due = '2024-12-01' WHERE invoice_id IN (20, 21)"],
        ["UPDATE invoice SET due = 'other' WHERE invoice_id = 22", "UPDATE invoice SET amount = 2 WHERE invoice_id = 23"],
        ["DELETE FROM invoice WHERE invoice_id = 24", "UPDATE invoice SET due = 'again' WHERE invoice_id = 20"],
        ["UPDATE customer SET name = 'Bo' WHERE customer_id = 2"],
        ["UPDATE invoice SET due = 'x11', amount = 3 WHERE invoice_id = 11"],
    ):  # fmt: skip
        run_cleanly(pipeline)
        database.execute(*statements)
    run_cleanly(pipeline)
    return pipeline


def test_the_lake_alone_says_what_the_cache_says(busy: Pipeline) -> None:
    with engine.connect(busy.settings.cache_folder / "processing.duckdb", memory="1GB") as cache:
        kept = cache.execute(
            f"SELECT model, row_key, reason, batch FROM {QUARANTINE} ORDER BY ALL"
        ).fetchall()
    found = read_quarantine(busy)
    told = [
        (row.table, json.dumps(row.key, separators=(",", ":")), row.reason, row.batch) for row in found.rows
    ]
    assert sorted(told) == kept
    assert [(row.key["invoice_id"], row.batch) for row in found.rows] == [
        (11, 6), (20, 4), (22, 3), (23, 3), (25, 1), (26, 1), (27, 1), (28, 1), (29, 1),
    ]  # fmt: skip
    assert (found.batch, found.tables) == (6, {"fact_invoice": 9})
    assert read_quarantine(busy, rows_max=3).rows == found.rows[:3]
    assert read_quarantine(busy, ("dim_customer",)).rows == []


@pytest.fixture
def another_at_work(busy: Pipeline) -> Iterator[Path]:
    """Another process, as far as locks tell, that has the cache open."""
    file = busy.settings.cache_folder / "processing.duckdb"
    with engine.connect(file, memory="1GB"):
        yield file


def test_it_is_shown_while_another_runner_is_at_work_and_when_the_cache_is_lost(
    busy: Pipeline, another_at_work: Path, command: Callable[..., Command]
) -> None:
    expected = [row.key for row in read_quarantine(busy).rows]
    done = command("quarantine", "list", "--json")
    assert [row["key"] for row in json.loads(done.out)["rows"]] == expected
    shutil.rmtree(busy.settings.cache_folder)
    assert [row.key for row in read_quarantine(busy).rows] == expected
    assert not busy.settings.cache_folder.exists()


def test_what_is_valid_after_the_model_was_fixed_is_loaded_in_its_place_in_history(
    make: Callable[..., Pipeline], database: Database, warehouse_url: str
) -> None:
    run_cleanly(make(warehouse=warehouse_url))
    database.execute("UPDATE invoice SET due = 'soon', last_updated = '2024-11-26 07:30' WHERE invoice_id = 10",
                     "INSERT INTO invoice VALUES (13, 1, 'soon', 1, '2024-11-26 07:30')")  # fmt: skip
    run_cleanly(make(warehouse=warehouse_url))
    database.execute("DELETE FROM invoice WHERE invoice_id = 13")
    mended = make(MENDED, warehouse_url)
    done = retry(mended)
    assert done.loaded
    assert {name: (one.tried, one.fit, one.remain) for name, one in done.tables.items()} == {
        "dim_customer": (1, 0, 1), "fact_invoice": (4, 2, 1),
    }  # fmt: skip
    versions = rows_of(mended, "SELECT invoice_id, CAST(due AS VARCHAR), CAST(amount AS VARCHAR), CAST(valid_from AS VARCHAR),"
                               " CASE WHEN invoice_id <> 13 THEN CAST(valid_to AS VARCHAR) END, batch_id, is_deleted FROM fact_invoice"
                               " ORDER BY invoice_id, batch_id")  # fmt: skip
    assert [version for version in versions if not version[-1]] == [
        (10, "2024-12-01", "12.50", "2024-11-25 09:00:00", "2024-11-26 07:30:00", 1, False),
        (10, None, "12.50", "2024-11-26 07:30:00", None, 2, False),
        (11, None, "1.01", "2024-11-25 09:00:00", None, 1, False),
        (13, None, "1.00", "2024-11-26 07:30:00", None, 2, False),
    ]
    assert [(version[0], version[-2]) for version in versions if version[-1]] == [(13, 3)]
    assert ingestion_journal(mended.ingestion_store).last() == 3


def test_what_fits_after_a_reference_file_was_mended_is_loaded(
    make: Callable[..., Pipeline], database: Database
) -> None:
    model = """CREATE TABLE dim_customer (customer_id INTEGER PRIMARY KEY, title VARCHAR NOT NULL) AS
        SELECT customer.customer_id, titles.title FROM customer LEFT JOIN titles ON titles.name = customer.name"""
    database.execute("UPDATE customer SET name = 'Bo' WHERE customer_id = 2")
    run_cleanly(make({"dim_customer": model}, references={"titles": "name,title\nAda,Countess\n"}))
    mended = make({"dim_customer": model}, references={"titles": "name,title\nAda,Countess\nBo,Mr\n"})
    kinds = retry(mended, ("dim_customer",)).tables
    assert ingestion_journal(mended.ingestion_store).read(2).tables["customer"].objects == ()
    assert kinds == {"dim_customer": Retried(1, 1, 0, ())}
    assert rows_of(mended, "SELECT customer_id, title FROM dim_customer ORDER BY 1") == [
        (1, "Countess"),
        (2, "Mr"),
    ]


def test_the_command_says_what_was_loaded_and_what_remains_and_why(
    make: Callable[..., Pipeline], database: Database, command: Callable[..., Command]
) -> None:
    run_cleanly(make())
    make(MENDED)
    done = command("quarantine", "retry", "--json")
    assert (done.code, json.loads(done.out)) == (0, {
        "batch": 2, "tried": 3, "loaded": 1, "fit": 1, "remain": 2,
        "tables": {
            "dim_customer": {"tried": 1, "loaded": 0, "fit": 0, "remain": 1},
            "fact_invoice": {"tried": 2, "loaded": 1, "fit": 1, "remain": 1},
        },
        "kinds": [
            {"table": "dim_customer", "column": "name", "kind": UNNAMED.kind, "rows": 1},
            {"table": "fact_invoice", "column": "customer_id", "kind": NOBODY.kind, "rows": 1},
        ],
    })  # fmt: skip
    database.execute("UPDATE customer SET name = 'Bo' WHERE customer_id = 2")
    done = command("quarantine", "retry")
    assert (
        done.out
        == "dim_customer: 1 retried, 1 loaded, 0 remaining.\nfact_invoice: 1 retried, 1 loaded, 0 remaining.\n"
    )
    assert ingestion_journal(make().ingestion_store).last() == 3


def test_what_fits_while_the_warehouse_is_away_is_loaded_when_it_is_back(
    make: Callable[..., Pipeline], command: Callable[..., Command], tmp_path: Path
) -> None:
    run_cleanly(make())
    mended = make(MENDED)
    (tmp_path / "warehouse.duckdb").rename(tmp_path / "kept")
    (tmp_path / "warehouse.duckdb").mkdir()
    done = command("quarantine", "retry", "--json")
    assert (done.code, done.err.count("load: opening")) == (3, 1)
    assert [json.loads(done.out)[key] for key in ("tried", "loaded", "fit", "remain")] == [3, 0, 1, 2]
    (tmp_path / "warehouse.duckdb").rmdir()
    (tmp_path / "kept").rename(tmp_path / "warehouse.duckdb")
    run_cleanly(mended)
    assert rows_of(mended, "SELECT invoice_id FROM fact_invoice ORDER BY 1") == [(10,), (11,)]
