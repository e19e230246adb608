"""`totes status` and `totes history` as people and programs call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database
from tests.contracts.shop import MODELS, SCHEMA
from totes.errors import CommandFailed, ConfigurationError, TotesError
from totes.monitoring.alerts import watch
from totes.monitoring.history import read_history
from totes.monitoring.status import read_status
from totes.pipeline import Pipeline

NOWHERE = "postgresql://loader:geheim-5@127.0.0.1:1/star"


@pytest.fixture
def pipeline(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> Pipeline:
    """A shop's pipeline, with a settings file that describes the same one to the command."""
    database.execute(*SCHEMA)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "shop"\npath = "project"\n[source]\nurl = "{database.url}"\n', encoding="utf-8"
    )
    return make_pipeline(database.url, project=write_project(MODELS) | {"name": "shop"})


@pytest.fixture
def two_batches(pipeline: Pipeline, database: Database) -> Pipeline:
    """The same, after two batches: an order and a customer have changed, an order is gone."""
    assert pipeline.run().failures == {}
    database.execute(
        "UPDATE \"order\" SET quantity = 5, last_updated = '2024-11-26 10:00' WHERE order_id = 1",
        "UPDATE customer SET city = 'Bath' WHERE customer_id = 11",
        'DELETE FROM "order" WHERE order_id = 2',
    )
    assert pipeline.run().failures == {}
    return pipeline


def one_object(done: Command) -> dict[str, Any]:
    """The JSON object that is all of standard output, in JSON that every reader takes."""
    assert done.out.count("\n") == 1
    document = json.loads(done.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert isinstance(document, dict)
    return document


def test_status_of_a_pipeline_that_never_ran(pipeline: Pipeline, totes: Callable[..., Command]) -> None:
    done = totes("status", "--json")
    nothing = {"batch": 0, "at": None, "lag_batches": 0, "rows": 0, "failing": None, "unreachable": None}
    assert (done.code, one_object(done)) == (0, {
        "project": "shop", "healthy": True, "stages": {"ingest": nothing, "process": nothing, "load": nothing},
        "freshness_seconds": None, "not_fresh": None, "tables": {}, "quarantine": {}, "alerts_unsent": 0, "log": None,
    })  # fmt: skip


def test_status_says_where_each_stage_stands(
    pipeline: Pipeline, database: Database, totes: Callable[..., Command]
) -> None:
    assert totes("run").code == 0
    database.execute('UPDATE "order" SET quantity = 5, last_updated = now()')
    pipeline.ingest()
    pipeline.process()
    database.execute("INSERT INTO customer VALUES (12, 'Cy', NULL, now())")
    pipeline.ingest()
    found = one_object(totes("status", "--json"))
    stages = found["stages"]
    assert {name: (stage["batch"], stage["lag_batches"], stage["rows"]) for name, stage in stages.items()} == {
        "ingest": (3, 0, 1), "process": (2, 1, 3), "load": (1, 1, 5),
    }  # fmt: skip
    assert all(datetime.fromisoformat(stage["at"]).tzinfo is not None for stage in stages.values())
    assert (found["healthy"], found["tables"]) == (True, {"customer": 3, "order": 3})
    assert 0 < found["freshness_seconds"] < 60


def test_a_warehouse_that_is_away_does_not_hide_the_other_stages(
    two_batches: Pipeline, totes: Callable[..., Command]
) -> None:
    done = totes("status", "--json", TOTES_WAREHOUSE__URL=NOWHERE)
    found = one_object(done)
    assert (done.code, found["healthy"]) == (0, False)
    assert (found["stages"]["ingest"]["batch"], found["stages"]["process"]["batch"]) == (2, 2)
    assert found["stages"]["load"]["unreachable"].startswith("connecting to the warehouse failed")
    assert "geheim-5" not in done.out + done.err


def test_a_damaged_lake_does_not_hide_the_other_stages(two_batches: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "lake/ingestion/batches/000000000002.json").write_bytes(b"damaged")
    status = read_status(two_batches)
    assert not status.healthy
    assert "batches/000000000002.json" in (status.stages["ingest"].unreachable or "")
    assert (status.stages["process"].batch, status.stages["load"].batch) == (2, 2)


def test_a_stage_that_fails_is_told_with_its_reason(
    pipeline: Pipeline, make_pipeline: Callable[..., Pipeline], totes: Callable[..., Command]
) -> None:
    watch(pipeline.settings, make_pipeline(NOWHERE, project=pipeline.settings.project.model_dump()).run())
    found = one_object(totes("status", "--json"))
    assert found["healthy"] is False
    assert found["stages"]["ingest"]["failing"]["what"].startswith("connecting to the source failed")
    assert "fails since" in totes("status").out
    watch(pipeline.settings, pipeline.run())
    assert read_status(pipeline).healthy is True


def test_rows_in_quarantine_are_counted(pipeline: Pipeline, database: Database) -> None:
    database.execute('UPDATE "order" SET price = 1.005 WHERE order_id = 1')
    pipeline.run()
    assert read_status(pipeline).quarantine == {"fact_order": 1}


def test_a_person_reads_status_as_a_table(two_batches: Pipeline, totes: Callable[..., Command]) -> None:
    done = totes("status")
    assert done.code == 0
    for text in ("Project shop", "ingest", "process", "load", "ok", "Quarantine: 0 rows."):
        assert text in done.out


def test_history_has_every_version_of_a_fact_with_the_objects_it_came_from(
    two_batches: Pipeline, totes: Callable[..., Command], tmp_path: Path
) -> None:
    found = one_object(totes("history", "fact_order", "1", "--json"))
    assert (found["table"], found["key"]) == ("fact_order", ["1"])
    first, second = found["versions"]
    assert {name: value for name, value in first.items() if name != "objects"} == {
        "order_record_id": 1, "order_id": 1, "customer_id": 10, "quantity": 2, "price": "12.50",
        "valid_from": "2024-11-25 09:00:00", "valid_to": "2024-11-26 10:00:00", "is_deleted": False, "batch_id": 1,
        "time_is": "source column last_updated",
    }  # fmt: skip
    assert (second["quantity"], second["valid_from"], second["valid_to"], second["batch_id"]) == (
        5, "2024-11-26 10:00:00", None, 2
    )  # fmt: skip
    packet, parquet = first["objects"]
    assert packet.startswith(f"{tmp_path}/lake/ingestion/order/date=")
    assert parquet.startswith(f"{tmp_path}/lake/processed/fact_order/date=")
    assert all(Path(place).is_file() for place in (packet, parquet, *second["objects"]))
    assert not {packet, parquet} & set(second["objects"])


def test_a_deletion_is_the_last_version(two_batches: Pipeline) -> None:
    assert [(v.batch, v.values["is_deleted"]) for v in read_history(two_batches, "fact_order", ["2"])] == [
        (1, False),
        (2, True),
    ]


def test_history_of_a_latest_table_comes_from_the_lake(two_batches: Pipeline, database: Database) -> None:
    database.execute('DELETE FROM "order"', "DELETE FROM customer WHERE customer_id = 11")
    two_batches.ingest()
    two_batches.process()  # not loaded
    assert [(v.batch, v.values.get("city"), v.values["is_deleted"]) for v in read_history(two_batches, "dim_customer", ["11"])] == [
        (1, "York", False), (2, "Bath", False), (3, "Bath", True)
    ]  # fmt: skip


def test_history_of_a_source_table_has_every_change(two_batches: Pipeline) -> None:
    found = read_history(two_batches, "order", ["1"])
    assert [(v.batch, v.values["quantity"], v.values["_op"]) for v in found] == [
        (1, 2, "upsert"),
        (2, 5, "upsert"),
    ]
    assert [v.values["_op"] for v in read_history(two_batches, "order", ["2"])] == ["upsert", "delete"]


def test_a_person_reads_history_as_a_table(two_batches: Pipeline, totes: Callable[..., Command]) -> None:
    done = totes("history", "fact_order", "1")
    assert done.code == 0
    assert [line.rstrip() for line in done.out.splitlines()][:8] == [
        "fact_order 1: 2 versions",
        "batch 1, from 2024-11-25 09:00:00 (source column last_updated) until 2024-11-26 10:00:00",
        "  order_record_id  1",
        "  order_id         1",
        "  customer_id      10",
        "  quantity         2",
        "  price            12.50",
        "batch 2, from 2024-11-26 10:00:00 (source column last_updated)",
    ]
    assert "  quantity  2 → 5" in done.out
    assert "batch 2, deleted at 20" in totes("history", "fact_order", "2").out


def test_history_says_what_is_wrong(two_batches: Pipeline, subtests: pytest.Subtests) -> None:
    for table, key, code, said in (
        ("fact_orders", ["1"], 2, "there is no table fact_orders. Did you mean fact_order?"),
        ("nonsense", ["1"], 2, "there is no table nonsense. The tables are dim_customer, fact_order, customer, order"),
        ("fact_order", ["1", "2"], 2,
         "a row of fact_order is identified by order_id; 2 values were given. totes history fact_order ORDER_ID"),
        ("order", ["1", "2"], 2,
         "a row of order is identified by order_id; 2 values were given. totes history order ORDER_ID"),
        ("fact_order", ["77"], 1, "fact_order has no row 77 and never had one"),
        ("fact_order", ["1.6"], 2, "the key of fact_order is order_id, of type INTEGER, which 1.6 is not. totes history fact_order ORDER_ID"),
        ("fact_order", ["1'; DROP TABLE fact_order; --"], 2,
         "the key of fact_order is order_id, of type INTEGER, which 1'; DROP TABLE fact_order; -- is not. totes history fact_order ORDER_ID"),
        ("dim_customer", ["seventy"], 2,
         "the key of dim_customer is customer_id, of type INTEGER, which seventy is not. totes history dim_customer CUSTOMER_ID"),
        ("customer", ["9999999999999"], 2,
         "the key of customer is customer_id, of type integer, which 9999999999999 is not. totes history customer CUSTOMER_ID"),
        ("customer", ["id=1"], 2, "the key of customer is customer_id, of type integer, which id=1 is not. totes history customer CUSTOMER_ID"),
        ("customer", ["99"], 1, "customer has no row 99 and never had one"),
    ):  # fmt: skip
        with subtests.test(table=table, key=key):
            with pytest.raises(TotesError) as caught:
                read_history(two_batches, table, key)
            assert (caught.value.exit_code, str(caught.value)) == (code, said)


def test_what_is_wrong_is_one_line_and_an_exit_code(
    two_batches: Pipeline, totes: Callable[..., Command]
) -> None:
    for arguments, code, said in (
        (("fact_orders", "1"), 2, "error: there is no table fact_orders. Did you mean fact_order?"),
        (("fact_order", "70"), 1, "error: fact_order has no row 70 and never had one"),
    ):
        done = totes("history", "--json", *arguments)
        assert (done.code, done.out, done.err.strip()) == (code, "", said)


def test_history_before_the_first_run_says_what_to_do(pipeline: Pipeline) -> None:
    with pytest.raises(CommandFailed, match="totes run"):
        read_history(pipeline, "fact_order", ["1"])
    with pytest.raises(ConfigurationError, match="Did you mean fact_order"):
        read_history(pipeline, "fact_ordr", ["1"])
    pipeline.ingest()
    pipeline.process()
    with pytest.raises(CommandFailed, match="totes load"):
        read_history(pipeline, "fact_order", ["1"])


def test_history_shows_values_that_drivers_bend_as_they_are(
    database: Database, warehouse_url: str, make_pipeline: Callable[..., Pipeline], write_project: Callable[..., dict[str, Any]],
    totes: Callable[..., Command],
) -> None:  # fmt: skip
    database.execute(
        "CREATE TABLE thing (id text PRIMARY KEY, ends date, at timestamp, long interval, ratio float8, raw bytea, n numeric)",
        "INSERT INTO thing VALUES ('a b', 'infinity', '-infinity', '1 year 1 mon', 'NaN', '\\x00ff', 0.1)",
    )
    declared = 'ends DATE, "at" TIMESTAMP, long INTERVAL, ratio DOUBLE, raw BLOB, n NUMERIC'
    query = 'SELECT id, ends, "at", long, ratio, raw, n FROM thing'
    project = write_project({
        "dim_thing": f"CREATE TABLE dim_thing (id VARCHAR PRIMARY KEY, {declared}) AS {query}",
        "fact_thing": f"CREATE TABLE fact_thing (record_id BIGINT PRIMARY KEY, id VARCHAR NOT NULL, {declared}) AS {query}",
    })  # fmt: skip
    pipeline = make_pipeline(database.url, warehouse_url, project=project)
    assert pipeline.run().failures == {}
    settings = {
        "TOTES_SOURCE__URL": database.url,
        "TOTES_WAREHOUSE__URL": warehouse_url,
        "TOTES_PROJECT__PATH": "project",
    }
    for table in ("dim_thing", "fact_thing"):
        [version] = one_object(totes("history", table, "a b", "--json", **settings))["versions"]
        shown = {name: version[name] for name in ("ends", "at", "ratio", "raw")}
        assert shown == {"ends": "infinity", "at": "-infinity", "ratio": "NaN", "raw": "\\x00ff"}
        assert version["long"] in ("1 year 1 month", "1 year 1 mon")  # DuckDB's words and PostgreSQL's
        assert float(version["n"]) == 0.1


def test_settings_of_another_folder_are_read_with_config(
    pipeline: Pipeline, totes: Callable[..., Command], tmp_path: Path
) -> None:
    pipeline.ingest()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for arguments in (
        ("--config", "../totes.toml", "status", "--json"),
        ("status", "--json", "--config", "../totes.toml"),
    ):
        assert one_object(totes(*arguments, cwd=elsewhere))["stages"]["ingest"]["batch"] == 1
