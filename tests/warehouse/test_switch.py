"""A star that changes: whatever a batch declares a table to be, and whatever rows it has then, the warehouse becomes that."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from tests import readers
from tests.conftest import Database
from tests.spread import diagonal, over_kinds
from tests.warehouse.handmade import Lake, Table
from totes.warehouse.connection import Warehouses, dialect_of, duckdb_file
from totes.warehouse.ddl import OWN_SCHEMAS
from totes.warehouse.stage import load, rebuild

NINE = datetime(2024, 11, 25, 9)
TEN, ELEVEN = NINE + timedelta(hours=1), NINE + timedelta(hours=2)
CUSTOMER = Table(
    {"id": "INTEGER", "name": "VARCHAR NOT NULL", "city": "VARCHAR"}, ("id",),
    [(1, "Ada", "Hull", False), (2, "Bo", "York", False)], soft=True,
)  # fmt: skip
ORDER = Table(
    {"record": "BIGINT", "id": "INTEGER NOT NULL", "customer": "INTEGER REFERENCES dim_customer", "price": "DECIMAL(10, 2)"},
    ("id",), [(1, 7, 1, "1.50", NINE, False, 1), (2, 8, 2, "2.50", NINE, False, 1)], surrogate="record",
)  # fmt: skip
TAG = Table({"id": "INTEGER", "text": "VARCHAR"}, ("id",), [(1, "a"), (2, "b"), (3, "c")])
FIRST = {"dim_customer": CUSTOMER, "fact_order": ORDER, "dim_tag": TAG}
_ROWS_SHOWN_MAX = (
    1000  # of a larger table a digest is compared; it has no numbers that are shown in two ways, nor NULL
)
_numbers = itertools.count(1)


def _plain(value: str | None) -> str | None:
    """A number without the zeros that only one of the warehouses shows."""
    is_number = value is not None and re.fullmatch(r"-?\d+\.\d+", value)
    return value.rstrip("0").rstrip(".") if value and is_number else value


class Star:
    """A warehouse that is loaded from a lake made by hand, and others that are loaded from it at once."""

    def __init__(self, lake: Lake, url: str, folder: Path, beside: Database) -> None:
        """Describes it; `beside` is a database for others, each in a schema of its own."""
        self.lake, self.url = lake, url
        self._folder = folder
        self._beside = beside

    def opened(self, url: str | None = None, schema: str = "") -> Any:
        """The warehouse, open."""
        return Warehouses(self._folder, schema, "1GB", self.lake.store.folders).open(url or self.url)

    def load(self, tables: dict[str, Table] | None = None) -> None:
        """Adds a batch to the lake, and loads it."""
        if tables is not None:
            self.lake.add(tables)
        with self.opened() as warehouse:
            load(self.lake.journal, warehouse)

    def rebuild(self, table: str) -> None:
        """Makes a table again out of the lake."""
        with self.opened() as warehouse:
            rebuild(self.lake.journal, warehouse, table)

    def rows(self, sql: str, url: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with _reading(url or self.url) as query:
            return query(sql)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements, as somebody else does."""
        if self.url.startswith("duckdb"):
            with duckdb.connect(self.url.removeprefix("duckdb:///")) as connection:
                return [connection.execute(statement).fetchall() for statement in statements][-1]
        return Database(self.url, "").execute(*statements)

    def contents(self, url: str | None = None, schema: str = "") -> dict[str, Any]:
        """Each relation's columns by name and all of its rows."""
        return _contents(url or self.url, schema)

    def check(self) -> None:
        """What is there is what a replay makes, in either kind of warehouse."""
        here = self.contents()
        number = len(list(self._folder.iterdir()))
        for url, schema in (
            (f"duckdb:///{self._folder}/again_{number}.duckdb", ""),
            (self._beside.url, f"again_{next(_numbers)}"),
        ):
            if schema:
                self._beside.execute(f"CREATE SCHEMA {schema}")
            with self.opened(url, schema) as warehouse:
                load(self.lake.journal, warehouse)
            assert self.contents(url, schema) == here
            if schema:
                self._beside.execute(f"DROP SCHEMA {schema} CASCADE")


def _contents(url: str, schema: str) -> dict[str, Any]:
    """Each relation's columns by name and all of its rows as text, but for when something was loaded."""
    found: dict[str, Any] = {}
    with _reading(url) as query:
        listed = query(
            "SELECT CAST(table_name AS VARCHAR), CAST(column_name AS VARCHAR) FROM information_schema.columns"
            f" WHERE table_schema = '{schema or OWN_SCHEMAS[dialect_of(url)]}'"
        )
        for name in {name for name, _ in listed}:
            columns = sorted(column for table, column in listed if table == name and column != "loaded_at")
            shown = ", ".join(f'CAST("{column}" AS VARCHAR)' for column in columns)
            relation = f'{f"{schema}." if schema else ""}"{name}"'
            [(number,)] = query(f"SELECT count(*) FROM {relation}")
            if number > _ROWS_SHOWN_MAX:
                [(digest,)] = query(
                    f"SELECT md5(string_agg(line, ',' ORDER BY line)) FROM (SELECT concat_ws('|', {shown}) AS line FROM {relation}) AS lines"
                )
                found[name] = (columns, [(number, digest)])
                continue
            rows = query(f"SELECT {shown} FROM {relation}")
            found[name] = (columns, sorted((tuple(map(_plain, row)) for row in rows), key=str))
    return found


@contextmanager
def _reading(url: str) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    """Gives what runs a query in a warehouse, as somebody else does."""
    if dialect_of(url) == "duckdb":
        with readers.attached(duckdb_file(url, Path())) as file:
            yield lambda sql: file.execute(sql).fetchall()
    else:
        with psycopg.connect(url) as session:
            yield lambda sql: session.execute(sql.encode()).fetchall()


@pytest.fixture
def star(warehouse_url: str, tmp_path: Path, beside: Database) -> Star:
    """A warehouse with a first batch."""
    made = Star(Lake(tmp_path), warehouse_url, tmp_path, beside)
    made.load(FIRST)
    return made


def quiet(**changed: Table) -> dict[str, Table]:
    """A batch that brings nothing but what is named."""
    return {name: table.having() for name, table in FIRST.items()} | changed


def test_the_first_batch_is_there(star: Star) -> None:
    assert star.rows("SELECT id, city FROM dim_customer_current ORDER BY 1") == [(1, "Hull"), (2, "York")]
    star.check()


LATEST: dict[str, dict[str, Any]] = {
    "added": {"columns": CUSTOMER.columns | {"age": "INTEGER NOT NULL"}, "rows": [(1, "Ada", "Hull", 30, False), (2, "Bo", "York", 40, False)]},
    "dropped": {"columns": {"id": "INTEGER", "city": "VARCHAR"}, "rows": [(1, "Hull", False), (2, "York", False)]},
    "renamed": {"columns": {"id": "INTEGER", "name": "VARCHAR NOT NULL", "town": "VARCHAR"}, "renamed": {"town": "city"},
                  "rows": [(1, "Ada", "Hull", False), (2, "Bo", "Leeds", True)]},
    "exchanged": {"columns": {"id": "INTEGER", "name": "VARCHAR", "city": "VARCHAR NOT NULL"}, "renamed": {"name": "city", "city": "name"},
                  "rows": [(1, "Hull", "Ada", False), (2, "York", "Bo", False)]},
    "renamed and added anew": {"columns": {"id": "INTEGER", "name": "VARCHAR", "city": "VARCHAR", "town": "VARCHAR"}, "renamed": {"town": "city"},
                  "rows": [(1, "Ada", "new", "Hull", False), (2, "Bo", None, "York", False)]},
    "renamed over one that goes": {"columns": {"id": "INTEGER", "city": "VARCHAR"}, "renamed": {"city": "name"},
                  "rows": [(1, "Ada", False), (2, "Bo", False)]},
    "wider key": {"columns": CUSTOMER.columns | {"id": "BIGINT"}, "rows": [(1, "Ada", "Hull", False), (2**40, "Bo", "York", False)]},
    "another type": {"columns": CUSTOMER.columns | {"city": "INTEGER"}, "rows": [(1, "Ada", 5, False), (2, "Bo", None, False)]},
    "narrower": {"columns": CUSTOMER.columns | {"city": "VARCHAR(4)"}, "rows": [(1, "Ada", "Hull", False), (2, "Bo", "Yo", False)]},
    "another type not null": {"columns": CUSTOMER.columns | {"name": "INTEGER NOT NULL"}, "rows": [(1, 5, "Hull", False), (2, 6, None, True)]},
    "other rows": {"rows": [(1, "Ada", "Hull", False), (3, "Cy", "Bath", False)]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("warehouse_url", "changed"),
    over_kinds(LATEST, both={"added", "renamed", "wider key", "other rows"}),
    indirect=["warehouse_url"],
)
def test_a_table_with_one_row_a_key_becomes_what_it_is_declared_to_be(
    star: Star, changed: dict[str, Any]
) -> None:
    changed = dict(changed)
    rows = changed.pop("rows")
    orders = ORDER.made_anew((1, 7, 1, "1.50", NINE, False, 1))
    new = CUSTOMER.made_anew(*rows, **changed)
    star.load(quiet(dim_customer=new, fact_order=orders))
    found = star.rows(f"SELECT {', '.join(new.columns)}, is_deleted FROM dim_customer ORDER BY 1")
    assert found == sorted(rows)
    assert len(star.rows("SELECT * FROM dim_customer_current")) == len([row for row in rows if not row[-1]])
    star.check()
    star.load(quiet(dim_customer=new.having(), fact_order=orders.having((3, 9, 1, "5", TEN, False, 3))))
    star.check()


VERSIONED: dict[str, dict[str, Any]] = {
    "added": {"columns": ORDER.columns | {"note": "VARCHAR"}, "rows": [
        (1, 7, 1, "1.50", "x", NINE, False, 1), (3, 7, 1, "1.75", "y", TEN, False, 2), (2, 8, 2, "2.50", "z", NINE, False, 1)]},
    "other versions": {"rows": [(1, 7, 1, "1.50", NINE, False, 1), (4, 7, 1, "9", TEN, False, 2), (5, 7, 1, "8", ELEVEN, True, 2)]},
    "unbounded": {"columns": ORDER.columns | {"price": "NUMERIC"}, "rows": [(1, 7, 1, "1.50", NINE, False, 1), (2, 8, 2, "2.123", NINE, False, 1)]},
    "a reference goes": {"columns": {"record": "BIGINT", "id": "INTEGER NOT NULL", "price": "DOUBLE"}, "rows": [
        (1, 7, 1.5, NINE, False, 1), (2, 8, 2.5, NINE, False, 1)]},
    "surrogate and reference renamed": {"columns": {"number": "BIGINT", "id": "INTEGER NOT NULL", "buyer": "INTEGER REFERENCES dim_customer", "price": "DECIMAL(10, 2)"},
                  "renamed": {"number": "record", "buyer": "customer"}, "surrogate": "number",
                  "rows": [(1, 7, 1, "1.50", NINE, False, 1), (2, 8, 2, "2.50", NINE, False, 1)]},
    "another key": {"columns": ORDER.columns | {"tag": "INTEGER NOT NULL"}, "key": ("tag",),
                  "rows": [(3, 7, 1, "1.50", 70, NINE, False, 1), (4, 8, 2, "2.50", 80, NINE, False, 1)]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("warehouse_url", "changed"),
    over_kinds(VERSIONED, both={"other versions", "another key"}),
    indirect=["warehouse_url"],
)
def test_a_table_that_keeps_versions_becomes_what_it_is_declared_to_be(
    star: Star, changed: dict[str, Any]
) -> None:
    changed = dict(changed)
    rows = changed.pop("rows")
    new = ORDER.made_anew(*rows, **changed)
    star.load(quiet(fact_order=new))
    names = ", ".join(name for name in new.columns if name != "price")
    position = list(new.columns).index("price")
    expected = sorted((*row[:position], *row[position + 1 : -3], *row[-3:]) for row in rows)
    assert (
        star.rows(f"SELECT {names}, valid_from, is_deleted, batch_id FROM fact_order ORDER BY 1") == expected
    )
    ends = {
        row[0]: row[1] for row in star.rows(f"SELECT {next(iter(new.columns))}, valid_to FROM fact_order")
    }
    at = -3
    for row in rows:
        later = [other[at] for other in rows if other[1] == row[1] and other[at] > row[at]]
        assert ends[row[0]] == min(later, default=None)
    star.check()


def test_a_table_changes_its_kind_and_back(star: Star) -> None:
    versions = Table(
        {"record": "BIGINT", **TAG.columns, "id": "INTEGER NOT NULL"}, ("id",), surrogate="record"
    )
    star.load(
        quiet(
            dim_tag=versions.made_anew(
                (1, 1, "a", NINE, False, 1), (2, 1, "A", TEN, False, 2), (3, 2, "b", NINE, True, 1)
            )
        )
    )
    assert star.rows("SELECT id, text FROM dim_tag_current") == [(1, "A")]
    star.check()
    star.load(quiet(dim_tag=TAG.made_anew((1, "A"), (5, "e"))))
    assert star.rows("SELECT * FROM dim_tag_current ORDER BY 1") == [(1, "A"), (5, "e")]
    star.check()


def test_a_table_that_others_refer_to_by_now_retains_its_rows(star: Star) -> None:
    orders = ORDER.made_anew(
        (1, 7, 1, "1.50", 3, NINE, False, 1), columns=ORDER.columns | {"tag": "INTEGER REFERENCES dim_tag"}
    )
    tags = TAG.made_anew((1, "a", False), (2, "b", False), (3, "c", True), soft=True)
    star.load(quiet(dim_tag=tags, fact_order=orders))
    assert star.rows("SELECT id FROM dim_tag_current ORDER BY 1") == [(1,), (2,)]
    star.check()


def test_the_key_of_a_table_that_others_refer_to_is_another_one(star: Star) -> None:
    customers = CUSTOMER.made_anew(
        ("ada", "Ada", "Hull", False),
        ("bo", "Bo", "York", False),
        columns=CUSTOMER.columns | {"id": "VARCHAR"},
    )
    orders = ORDER.made_anew(
        (3, 7, "ada", "1.50", NINE, False, 1),
        columns=ORDER.columns | {"customer": "VARCHAR REFERENCES dim_customer"},
    )
    star.load(quiet(dim_customer=customers, fact_order=orders))
    assert star.rows("SELECT record, customer FROM fact_order") == [(3, "ada")]
    star.check()


def test_a_table_that_is_no_more_is_dropped(star: Star) -> None:
    star.load({name: table for name, table in quiet().items() if name != "dim_tag"})
    assert [name for name in star.contents() if name.startswith("dim_tag")] == []
    star.check()
    star.load(quiet(dim_tag=TAG.made_anew((1, "again"))))
    assert star.rows("SELECT * FROM dim_tag") == [(1, "again")]
    star.check()


def test_a_new_table_has_a_past(star: Star) -> None:
    visits = Table(
        {"record": "BIGINT", "id": "INTEGER NOT NULL"},
        ("id",),
        [(1, 1, NINE, False, 1), (2, 1, TEN, True, 2)],
        surrogate="record",
    )
    star.load(quiet(fact_visit=visits))
    assert star.rows("SELECT record, valid_to FROM fact_visit ORDER BY 1") == [(1, TEN), (2, None)]
    star.check()


DAMAGES = [
    "", "DROP VIEW {table}_current; DROP TABLE {table}{cascade}", "DELETE FROM {table} WHERE id IN (1, 8)",
    "UPDATE {table} SET {column} = NULL", "DROP VIEW {table}_current; ALTER TABLE {table} DROP COLUMN {column}",
]  # fmt: skip


@pytest.mark.parametrize(("damage", "table"), diagonal(DAMAGES, ["dim_customer", "fact_order", "dim_tag"]))
def test_one_table_is_made_again_out_of_the_lake(star: Star, table: str, damage: str) -> None:
    star.load(quiet(dim_tag=TAG.having((2, "B"), removed=[(1,)]), dim_customer=CUSTOMER.having((3, "Cy", None, True)),
                    fact_order=ORDER.having((3, 7, 2, "3", TEN, False, 2))))  # fmt: skip
    star.load(quiet(dim_tag=TAG.having((1, "back"), removed=[(3,)])))
    before = star.contents()
    column = {"dim_customer": "city", "fact_order": "price", "dim_tag": "text"}[table]
    is_referred = table == "dim_customer" and not star.url.startswith("duckdb")
    if is_referred and damage.startswith("DELETE"):
        damage = "ALTER TABLE fact_order DROP CONSTRAINT fact_order_customer_fkey; " + damage
    cascade = "" if star.url.startswith("duckdb") else " CASCADE"
    if damage:
        star.execute(*damage.format(table=table, column=column, cascade=cascade).split("; "))
    for _ in range(2):
        star.rebuild(table)
        assert star.contents() == before
    star.load(quiet())
    star.check()


def test_what_an_earlier_release_had_for_rows_that_were_gone_goes(star: Star) -> None:
    star.execute(
        "CREATE TABLE totes_kept (table_name VARCHAR NOT NULL, row_key VARCHAR NOT NULL, referred_by VARCHAR NOT NULL)"
    )
    orders = ORDER.made_anew(
        (1, 7, 1, "1.50", 3, NINE, False, 1), columns=ORDER.columns | {"tag": "INTEGER REFERENCES dim_tag"}
    )
    star.load(quiet(dim_tag=TAG.made_anew((3, "c", True), soft=True), fact_order=orders))
    assert "totes_kept" not in star.contents()
    star.check()


def test_versions_whose_ends_were_exchanged_get_their_own(star: Star) -> None:
    star.load(
        quiet(fact_order=ORDER.made_anew((5, 7, 1, "2", TEN, False, 2), (6, 7, 1, "1", NINE, False, 2)))
    )
    before = star.contents()
    star.execute(
        "UPDATE fact_order SET valid_to = valid_from WHERE record = 5",
        "UPDATE fact_order SET valid_to = NULL WHERE record = 6",
    )
    star.rebuild("fact_order")
    assert star.contents() == before
