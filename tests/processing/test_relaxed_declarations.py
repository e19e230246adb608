"""A declaration that is relaxed takes effect in place: what it now allows is loaded, and all history stays as it was."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes import engine
from totes.errors import ModelFailed, WarehouseRefused
from totes.lake.journal import processed_journal
from totes.monitoring.quarantine import read_quarantine, retry
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline
from totes.star.model import Column
from totes.star.relaxation import holds

DIM = "CREATE TABLE dim_c (id {id} PRIMARY KEY, name {name}) AS SELECT id, name FROM c"
FACT = """CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id {id} NOT NULL, c {c} REFERENCES dim_c, n {n}, price {price}) AS
    SELECT id, c, n, price FROM o"""
STRICT = {
    "dim_c": DIM.format(id="SMALLINT", name="VARCHAR(4) NOT NULL"),
    "fact_o": FACT.format(id="SMALLINT", c="SMALLINT", n="INTEGER NOT NULL", price="NUMERIC(5, 2)"),
}
RELAXED = {
    "dim_c": DIM.format(id="BIGINT", name="VARCHAR"),
    "fact_o": FACT.format(id="INTEGER", c="BIGINT", n="DECIMAL(20, 1)", price="NUMERIC(9, 3)"),
}
LOADED = "SELECT r, id, c, n, price, CAST(valid_from AS VARCHAR), valid_to IS NULL, batch_id FROM fact_o ORDER BY r"


@pytest.fixture
def make(
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[..., Pipeline]:
    database.execute(
        "CREATE TABLE c (id int PRIMARY KEY, name text, last_updated timestamp NOT NULL)",
        "CREATE TABLE o (id int PRIMARY KEY, c int, n numeric, price numeric, last_updated timestamp NOT NULL)",
        "INSERT INTO c VALUES (1, 'Ada', '2024-11-25 08:00'), (2, 'Grace', '2024-11-25 08:00'), (3, NULL, '2024-11-25 08:00')",
        """INSERT INTO o VALUES (10, 1, 1, 1.50, '2024-11-25 09:00'), (11, 1, NULL, 2, '2024-11-25 09:00'),
            (12, 1, 3, 1.005, '2024-11-25 09:00'), (13, 2, 4, 4, '2024-11-25 09:00'), (40000, 1, 5, 5, '2024-11-25 09:00')""",
    )

    def make(models: dict[str, str], warehouse: str | None = None) -> Pipeline:
        return make_pipeline(database.url, warehouse, project=write_project(models))

    return make


def exactly(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows with their numerics as plain text, which one warehouse gives as numbers and the other as text."""

    def plain(value: Any) -> Any:
        is_number = isinstance(value, Decimal) or (
            isinstance(value, str) and re.fullmatch(r"\d+\.?\d*", value)
        )
        return f"{Decimal(value).normalize():f}" if is_number else value

    return [tuple(plain(value) for value in row) for row in rows]


def everything(pipeline: Pipeline) -> list[Any]:
    current = rows_of(pipeline, "SELECT id, c, n, price FROM fact_o_current ORDER BY id")
    return [exactly(rows) for rows in (rows_of(pipeline, LOADED), current, rows_of(pipeline, "SELECT * FROM dim_c ORDER BY id"))]  # fmt: skip


def test_what_a_relaxed_declaration_allows_is_loaded_and_history_stays(
    make: Callable[..., Pipeline], database: Database, warehouse_url: str, tmp_path: Path
) -> None:
    run_cleanly(make(STRICT, warehouse_url))
    database.execute("UPDATE o SET price = 1.75, last_updated = '2024-11-26 10:00' WHERE id = 10")
    run_cleanly(make(STRICT, warehouse_url))
    relaxed = make(RELAXED, warehouse_url)
    done = retry(relaxed)
    assert {name: (one.tried, one.fit, one.remain) for name, one in done.tables.items()} == {
        "dim_c": (2, 2, 0), "fact_o": (4, 4, 0),
    }  # fmt: skip
    expected = [
        (1, 10, 1, "1", "1.5", "2024-11-25 09:00:00", False, 1),
        (2, 10, 1, "1", "1.75", "2024-11-26 10:00:00", True, 2),
        (3, 11, 1, None, "2", "2024-11-25 09:00:00", True, 3),
        (4, 12, 1, "3", "1.005", "2024-11-25 09:00:00", True, 3),
        (5, 13, 2, "4", "4", "2024-11-25 09:00:00", True, 3),
        (6, 40000, 1, "5", "5", "2024-11-25 09:00:00", True, 3),
    ]
    assert exactly(rows_of(relaxed, LOADED)) == expected
    assert rows_of(relaxed, "SELECT * FROM dim_c ORDER BY id") == [(1, "Ada"), (2, "Grace"), (3, None)]
    # The tables go on as ever, the cache too when it was lost meanwhile.
    database.execute(
        "INSERT INTO c VALUES (3000000000 - 2147483648 - 800000000, 'x', '2024-11-27')",
        "DELETE FROM o WHERE id = 11",
    )
    shutil.rmtree(relaxed.settings.cache_folder)
    run_cleanly(make(RELAXED, warehouse_url))
    database.execute("UPDATE o SET n = 123456789012.5, last_updated = '2024-11-28' WHERE id = 40000")
    run_cleanly(make(RELAXED, warehouse_url))
    assert verify(relaxed, (), 1.0, lambda _: None).equal
    final = everything(relaxed)
    assert final[1][-1] == (40000, 1, "123456789012.5", "5")
    fresh = make(RELAXED, f"duckdb:///{tmp_path}/fresh.duckdb")
    fresh.load()
    assert everything(fresh) == final


def test_rows_are_computed_again_where_a_type_is_widened(
    database: Database, make_pipeline: Any, write_project: Any, warehouse_url: str
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v numeric)", "INSERT INTO t VALUES (1, 0.1), (2, 0.25), (3, 1)"
    )
    model = "CREATE TABLE dim_t (id {} PRIMARY KEY, v {}) AS SELECT id, v FROM t"
    run_cleanly(
        make_pipeline(
            database.url, warehouse_url, project=write_project({"dim_t": model.format("INTEGER", "FLOAT")})
        )
    )
    wider = write_project({"dim_t": model.format("DECIMAL(12, 0)", "DOUBLE")})
    relaxed = make_pipeline(database.url, warehouse_url, project=wider)
    assert relaxed.run(always=True).failures == {}
    assert exactly(rows_of(relaxed, "SELECT id, v FROM dim_t ORDER BY id")) == [("1", 0.1), ("2", 0.25), ("3", 1.0)]  # fmt: skip
    database.execute("DELETE FROM t WHERE id = 2")
    run_cleanly(relaxed)
    assert exactly(rows_of(relaxed, "SELECT id FROM dim_t ORDER BY id")) == [("1",), ("3",)]


def test_a_column_that_its_owner_made_wider_stays_so(make: Callable[..., Pipeline], tmp_path: Path) -> None:
    run_cleanly(make(STRICT))
    with engine.connect(tmp_path / "warehouse.duckdb", memory="1GB") as owner:
        owner.execute("ALTER TABLE fact_o ALTER n TYPE DECIMAL(38, 10)")
    relaxed = make(RELAXED)
    retry(relaxed)
    kinds = "SELECT data_type FROM duckdb_columns() WHERE table_name = 'fact_o' AND column_name IN ('n', 'price') ORDER BY 1"
    assert rows_of(relaxed, kinds) == [("DECIMAL(38,10)",), ("DECIMAL(9,3)",)]


def test_a_replay_into_each_kind_of_warehouse_gives_the_rows_of_the_altered_one(
    make: Callable[..., Pipeline], warehouse_url: str, tmp_path: Path
) -> None:
    first = make(STRICT)
    run_cleanly(first)
    retry(make(RELAXED))
    altered = everything(make(RELAXED))
    replayed = make(RELAXED, warehouse_url.replace("warehouse.duckdb", "other.duckdb"))
    assert sorted(replayed.load().batches) == [1, 2]
    assert everything(replayed) == altered


def test_a_warehouse_that_was_away_catches_up_over_the_relaxation(
    make: Callable[..., Pipeline], database: Database, warehouse_url: str
) -> None:
    run_cleanly(make(STRICT, warehouse_url))
    database.execute("UPDATE o SET price = 2.25, last_updated = '2024-11-26' WHERE id = 10")
    make(STRICT, warehouse_url).run("ingest")
    make(STRICT, warehouse_url).run("process")
    relaxed = make(RELAXED, warehouse_url)
    relaxed.ingest(always=True)
    relaxed.process()
    assert sorted(relaxed.load().batches) == [2, 3]
    assert [row[1] for row in rows_of(relaxed, LOADED)] == [10, 10, 11, 12, 13, 40000]


def test_dropping_not_null_alone_alters_no_type(make: Callable[..., Pipeline], warehouse_url: str) -> None:
    run_cleanly(make(STRICT, warehouse_url))
    relaxed = make(
        STRICT | {"fact_o": STRICT["fact_o"].replace("INTEGER NOT NULL", "INTEGER")}, warehouse_url
    )
    assert retry(relaxed, ("fact_o",)).tables["fact_o"].fit == 1
    assert [row[1:4] for row in rows_of(relaxed, LOADED)] == [(10, 1, 1), (11, 1, None)]
    assert [row.key["id"] for row in read_quarantine(relaxed, ("fact_o",)).rows] == [12, 13, 40000]


NO_RELAXATIONS = {
    "n INTEGER NOT NULL": ["n SMALLINT NOT NULL", "n VARCHAR NOT NULL", "m INTEGER NOT NULL"],
    "price NUMERIC(5, 2)": ["price NUMERIC(5, 3)", "price NUMERIC(5, 2) NOT NULL"],
    " REFERENCES dim_c": [""],
}


def test_what_is_no_relaxation_is_refused_by_each_stage(make: Callable[..., Pipeline]) -> None:
    first = make(STRICT)
    run_cleanly(first)
    first.ingest(always=True)
    for before, after in ((before, after) for before, several in NO_RELAXATIONS.items() for after in several):
        fact = STRICT["fact_o"].replace(before, after)
        if after.startswith("m "):
            fact = fact.replace("c, n, price FROM", "c, n AS m, price FROM")
        changed = make(STRICT | {"fact_o": fact}, "duckdb:///elsewhere.duckdb")
        with pytest.raises(ModelFailed, match="the columns of fact_o are not those of earlier batches"):
            changed.process()
        with pytest.raises(WarehouseRefused, match="batch 1 was processed with other columns for fact_o"):
            changed.load()
    assert processed_journal(first.processed_store).last() == 1


def test_a_project_that_is_narrower_than_the_lake_loads_nothing(make: Callable[..., Pipeline]) -> None:
    run_cleanly(make(STRICT))
    relaxed = make(RELAXED)
    relaxed.ingest(always=True)
    relaxed.process()
    with pytest.raises(WarehouseRefused, match="batch 2 was processed with other columns"):
        make(STRICT).load()


def test_descriptions_may_change_at_will(make: Callable[..., Pipeline], database: Database) -> None:
    run_cleanly(make(STRICT))
    told = STRICT | {
        "fact_o": "-- Orders.\n"
        + STRICT["fact_o"].replace("n INTEGER NOT NULL,", "n INTEGER NOT NULL, -- how many\n")
    }
    database.execute("UPDATE o SET n = 7 WHERE id = 10")
    run_cleanly(make(told))
    assert [row[3] for row in rows_of(make(told), LOADED)] == [1, 7]


@pytest.fixture
def analysts(new_database: Callable[..., Database]) -> Database:
    """A warehouse in PostgreSQL where others may read one view."""
    made = new_database()
    made.execute("DROP ROLE IF EXISTS analyst", "CREATE ROLE analyst")
    yield made
    made.execute("DROP OWNED BY analyst", "DROP ROLE analyst")


def test_what_postgresql_had_beside_the_tables_is_there_afterwards(
    make: Callable[..., Pipeline], analysts: Database
) -> None:
    def beside() -> list[tuple[Any, ...]]:
        return analysts.execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL"
            " SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('p', 'f') AND connamespace = 'public'::regnamespace"
            " UNION ALL SELECT table_name || ' ' || grantee || ' ' || privilege_type FROM information_schema.role_table_grants WHERE grantee IN ('analyst', 'PUBLIC') AND table_schema = 'public'"
            " ORDER BY 1"
        )  # fmt: skip

    run_cleanly(make(STRICT, analysts.url))
    analysts.execute("GRANT SELECT ON fact_o_current TO analyst", "GRANT SELECT ON dim_c TO PUBLIC")
    before = beside()
    retry(make(RELAXED, analysts.url))
    assert beside() == before
    assert len([row for row in before if "GRANT" in row[0] or "analyst" in row[0]]) == 1
    kinds = dict(
        analysts.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'fact_o'::regclass AND attnum > 0"
        )
    )
    assert [kinds[name] for name in ("id", "c", "n", "price")] == ["integer", "bigint", "numeric(20,1)", "numeric(9,3)"]  # fmt: skip


def test_a_loader_that_does_not_own_the_table_is_told_what_the_owner_has_to_run(
    make: Callable[..., Pipeline], new_database: Callable[..., Database]
) -> None:
    owned = new_database()
    run_cleanly(make(STRICT, owned.url))
    owned.execute(
        "DROP ROLE IF EXISTS loader", "CREATE ROLE loader LOGIN PASSWORD 'loads'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO loader",
        f"GRANT CONNECT, TEMPORARY ON DATABASE {owned.name} TO loader",
    )  # fmt: skip
    try:
        relaxed = make(RELAXED, re.sub(r"//[^@]*@", "//loader:loads@", owned.url))
        error = retry(relaxed).cycle.failures["load"]  # type: ignore[union-attr]
        assert isinstance(error, WarehouseRefused)
        assert error.hint is not None
        assert error.hint.startswith("Have its owner run: ALTER TABLE ")
        owned.execute(*error.hint.removeprefix("Have its owner run: ").split("; "))
        second = relaxed.run("load").failures["load"]
        assert second.hint is not None
        owned.execute(*second.hint.removeprefix("Have its owner run: ").split("; "))
        run_cleanly(relaxed)
        assert len(rows_of(relaxed, LOADED)) == 5
    finally:
        owned.execute("DROP OWNED BY loader", "DROP ROLE loader")


def column(kind: str, *, unbounded: bool = False, length_max: int | None = None) -> Column:
    return Column("v", kind, not_null=False, unbounded=unbounded, length_max=length_max)


WIDEST = column("DECIMAL(38, 10)", unbounded=True)


@pytest.mark.parametrize(
    ("then", "now", "held"),
    [
        (column("SMALLINT"), column("INTEGER"), True), (column("BIGINT"), column("INTEGER"), False),
        (column("INTEGER"), column("DECIMAL(10, 0)"), True), (column("INTEGER"), column("DECIMAL(11, 2)"), False),
        (column("DECIMAL(5, 0)"), column("INTEGER"), False), (column("BIGINT"), WIDEST, True),
        (column("DECIMAL(5, 2)"), column("DECIMAL(6, 3)"), True), (column("DECIMAL(5, 2)"), column("DECIMAL(5, 3)"), False),
        (column("DECIMAL(5, 2)"), column("DECIMAL(9, 1)"), False), (column("DECIMAL(12, 11)"), WIDEST, False),
        (column("DECIMAL(38, 10)"), WIDEST, True), (WIDEST, column("DECIMAL(38, 10)"), False),
        (column("FLOAT"), column("DOUBLE"), True), (column("DOUBLE"), column("FLOAT"), False),
        (column("INTEGER"), column("DOUBLE"), False), (column("DATE"), column("TIMESTAMP"), False),
        (column("VARCHAR", length_max=3), column("VARCHAR"), True), (column("VARCHAR"), column("VARCHAR", length_max=3), False),
        (column("VARCHAR", length_max=3), column("VARCHAR", length_max=2), False), (column("INTEGER"), column("VARCHAR"), False),
        (column("JSON"), column("JSON"), True),
    ],
)  # fmt: skip
def test_a_type_is_wider_when_it_holds_each_value_as_it_is(then: Column, now: Column, held: bool) -> None:
    assert holds(now, then) is held
