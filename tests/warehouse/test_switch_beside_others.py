"""What others have made around a star in PostgreSQL outlives its changes, or is named before anything is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.warehouse.handmade import Lake, Table
from tests.warehouse.test_switch import CUSTOMER, FIRST, NINE, ORDER, TAG, TEN, Star, quiet
from totes.errors import WarehouseError, WarehouseRefused
from totes.warehouse import locks, postgresql
from totes.warehouse.dependents import dependents

RENAMED = CUSTOMER.made_anew(
    (1, "Ada", "Hull", False), (2, "Bo", "York", False),
    columns={"id": "INTEGER", "name": "VARCHAR NOT NULL", "town": "VARCHAR"}, renamed={"town": "city"},
)  # fmt: skip
WITHOUT_CITY = CUSTOMER.made_anew(
    (1, "Ada", False), (2, "Bo", False), columns={"id": "INTEGER", "name": "VARCHAR NOT NULL"}
)
WIDER = CUSTOMER.made_anew(*CUSTOMER.rows, columns=CUSTOMER.columns | {"id": "BIGINT"})
ANOTHER_TYPE = CUSTOMER.made_anew(
    (1, "Ada", 5, False), (2, "Bo", 6, False), columns=CUSTOMER.columns | {"city": "INTEGER"}
)
ANOTHER_KEY = CUSTOMER.made_anew(
    ("ada", "Ada", "Hull", False), ("bo", "Bo", "York", False), columns=CUSTOMER.columns | {"id": "VARCHAR"}
)
ORDERS_OF_ANOTHER_KEY = ORDER.made_anew(
    (3, 7, "ada", "1.50", NINE, False, 1),
    columns=ORDER.columns | {"customer": "VARCHAR REFERENCES dim_customer"},
)


@pytest.fixture
def warehouse_url(new_database: Callable[..., Database]) -> str:
    """An empty warehouse in PostgreSQL."""
    return new_database().url


@pytest.fixture
def star(warehouse_url: str, tmp_path: Path, beside: Database) -> Star:
    """A warehouse with a first batch."""
    made = Star(Lake(tmp_path), warehouse_url, tmp_path, beside)
    made.load(FIRST)
    return made


def refusal(star: Star, tables: dict[str, Table]) -> WarehouseRefused:
    """What the load of a batch is refused with."""
    star.lake.add(tables)
    before = star.contents()
    with pytest.raises(WarehouseRefused) as caught:
        star.load()
    assert star.contents() == before
    return caught.value


def test_rows_that_stay_as_they_are_are_not_written(star: Star) -> None:
    star.load(quiet(fact_order=ORDER.having((3, 7, 1, "3", TEN, False, 2))))
    written = "SELECT record, xmin::text, ctid::text FROM fact_order ORDER BY 1"
    before = star.execute(written)
    star.load(quiet(fact_order=ORDER.made_anew(
        (1, 7, 1, "1.50", NINE, False, 1), (3, 7, 1, "3.00", TEN, False, 2), (2, 8, 2, "2.51", NINE, False, 1))))  # fmt: skip
    after = star.execute(written)
    assert [row for row in after if row in before] == [before[0], before[2]]
    assert star.execute("SELECT price::text FROM fact_order WHERE record = 2") == [("2.51",)]


@pytest.mark.parametrize(
    "change",
    [RENAMED, WITHOUT_CITY, WIDER, ANOTHER_TYPE],
    ids=["renamed", "dropped", "wider", "another type"],
)
def test_what_others_made_stays(star: Star, change: Table) -> None:
    role = f"reader_{star.url.rpartition('_')[2].partition('?')[0]}"
    star.execute(
        f"CREATE ROLE {role}", "CREATE SCHEMA bi",
        "CREATE VIEW bi.names WITH (security_barrier=true) AS SELECT id, name FROM dim_customer_current WHERE name <> ''",
        "CREATE VIEW bi.\"Upper\" AS SELECT upper(name) AS name FROM bi.names",
        "CREATE VIEW bi.whole AS SELECT c.id, c.name, o.price FROM dim_customer c JOIN fact_order_current o ON o.customer = c.id",
        f"GRANT SELECT ON bi.names, dim_customer, dim_customer_current TO {role}",
        f"GRANT SELECT (name) ON bi.\"Upper\" TO {role}",
        "COMMENT ON VIEW bi.names IS 'who'", "COMMENT ON COLUMN bi.names.name IS 'what''s it'",
        "COMMENT ON COLUMN dim_customer.name IS 'theirs'", "COMMENT ON VIEW dim_customer_current IS 'current ones'",
        "CREATE TABLE bi.target (customer int REFERENCES dim_customer, goal int)", "INSERT INTO bi.target VALUES (1, 10)",
        "CREATE POLICY theirs ON dim_customer USING (name <> 'x')", "CREATE INDEX theirs ON dim_customer (lower(name))",
    )  # fmt: skip
    described = """
        SELECT n.nspname::text, c.relname::text, c.relacl::text, c.reloptions::text, obj_description(c.oid),
        (SELECT string_agg(attname || ':' || coalesce(attacl::text, '') || coalesce(col_description(c.oid, attnum), ''), ',' ORDER BY attname)
         FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('city', 'town'))
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('bi', 'public') AND relkind IN ('r', 'v')
        AND relname NOT LIKE 'fact%' ORDER BY 1, 2"""
    kept = ("SELECT oid, polname::text FROM pg_policy", "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND conrelid = 'bi.target'::regclass",
            "SELECT 'dim_customer'::regclass::oid", "SELECT 'theirs'::regclass::oid", described,
            'SELECT * FROM bi."Upper" ORDER BY 1', "SELECT id::int, name, price FROM bi.whole ORDER BY 1")  # fmt: skip
    before = [star.execute(sql) for sql in kept]
    star.load(quiet(dim_customer=change))
    assert [star.execute(sql) for sql in kept] == before
    star.load(quiet(dim_customer=change.having((*change.rows[0][:1], "Ava", *change.rows[0][2:]))))
    assert star.execute('SELECT * FROM bi."Upper" ORDER BY 1') == [("AVA",), ("BO",)]


def test_privileges_and_views_outlive_another_key(star: Star) -> None:
    role = f"reader_{star.url.rpartition('_')[2].partition('?')[0]}"
    star.execute(f"CREATE ROLE {role}", f"GRANT SELECT ON dim_customer, dim_customer_current TO {role}",
                 f"GRANT UPDATE (name) ON dim_customer TO {role}", "CREATE SCHEMA bi",
                 "CREATE VIEW bi.names AS SELECT name FROM dim_customer_current",
                 "CREATE VIEW bi.towns AS SELECT city FROM dim_customer")  # fmt: skip
    granted = (
        "SELECT relname::text, relacl::text, (SELECT string_agg(attname || attacl::text, ',') FROM pg_attribute"
        " WHERE attrelid = pg_class.oid) FROM pg_class WHERE relname LIKE 'dim_customer%' AND relkind IN ('r', 'v') ORDER BY 1"
    )
    before = star.execute(granted)
    star.load(quiet(dim_customer=ANOTHER_KEY, fact_order=ORDERS_OF_ANOTHER_KEY))
    assert star.execute(granted) == before
    assert star.execute("SELECT name FROM bi.names ORDER BY 1") == [("Ada",), ("Bo",)]
    assert star.execute("SELECT conname::text, convalidated FROM pg_constraint WHERE contype = 'f'") == [
        ("fact_order_customer_fkey", True)
    ]
    names = star.execute(
        "SELECT relname::text FROM pg_class UNION ALL SELECT conname::text FROM pg_constraint"
    )
    assert [name for (name,) in names if "loading" in name] == []
    star.check()


@pytest.mark.parametrize(("made", "change", "named", "dropped"), [
    ("CREATE VIEW bi.town AS SELECT id, city FROM dim_customer", WITHOUT_CITY, "view bi.town", "DROP VIEW bi.town"),
    ("CREATE VIEW bi.town AS SELECT * FROM dim_customer_current", WITHOUT_CITY, "view bi.town", "DROP VIEW bi.town"),
    ("CREATE MATERIALIZED VIEW bi.town AS SELECT city FROM dim_customer", WITHOUT_CITY, "materialized view bi.town",
     "DROP MATERIALIZED VIEW bi.town"),
    ("CREATE MATERIALIZED VIEW bi.town AS SELECT name FROM dim_customer_current", ANOTHER_TYPE, "materialized view bi.town",
     "DROP MATERIALIZED VIEW bi.town"),
    ("CREATE POLICY theirs ON dim_customer USING (city <> 'x')", WITHOUT_CITY, "policy theirs", "DROP POLICY theirs ON dim_customer"),
    ("CREATE TABLE bi.town (id int CONSTRAINT \"Mine\" REFERENCES dim_customer)", ANOTHER_KEY, 'foreign key "Mine" of bi.town',
     'ALTER TABLE bi.town DROP CONSTRAINT "Mine"'),
    ("CREATE PUBLICATION theirs FOR TABLE dim_customer", ANOTHER_KEY, "publication theirs",
     'ALTER PUBLICATION theirs DROP TABLE "public"."dim_customer"'),
    ("CREATE VIEW bi.tags AS SELECT id FROM dim_tag", None, "view bi.tags", "DROP VIEW bi.tags"),
])  # fmt: skip
def test_what_cannot_outlive_a_change_is_named_with_the_statement_to_run(
    star: Star, made: str, change: Table | None, named: str, dropped: str
) -> None:
    star.execute("CREATE SCHEMA bi", made)
    tables = quiet(dim_customer=change) if change else quiet()
    if change is ANOTHER_KEY:
        tables |= {"fact_order": ORDERS_OF_ANOTHER_KEY}
    if change is None:
        del tables["dim_tag"]
    error = refusal(star, tables)
    assert named in error.what
    assert dropped in (error.hint or "")
    star.execute(dropped)
    star.load()
    star.check()


def test_what_depends_on_columns_is_known_beforehand(star: Star) -> None:
    star.execute("CREATE SCHEMA bi", "CREATE VIEW bi.town AS SELECT city FROM dim_customer_current",
                 "CREATE VIEW bi.above AS SELECT * FROM bi.town", "CREATE VIEW bi.name AS SELECT name FROM dim_customer_current",
                 "CREATE TABLE bi.target (customer int REFERENCES dim_customer)",
                 "GRANT SELECT (city) ON dim_customer TO pg_monitor")  # fmt: skip
    own = frozenset(FIRST)

    def found(*columns: str, whole: bool = False) -> list[str]:
        listed = dependents(star.rows, "public", "dim_customer", columns, own, whole=whole)
        return [f"{one.kind} {one.name}" for one in listed]

    assert found("city") == ["view bi.town", "view bi.above", "grant pg_monitor (SELECT on city)"]
    assert found("name") == ["view bi.name"]
    assert found("id") == ["foreign key target_customer_fkey of bi.target"]
    assert found(whole=True) == ["foreign key target_customer_fkey of bi.target"]


def test_a_foreign_key_of_others_that_refuses_a_delete_is_named(star: Star) -> None:
    star.execute("CREATE TABLE target (tag int REFERENCES dim_tag)", "INSERT INTO target VALUES (2)")
    star.lake.add(quiet(dim_tag=TAG.made_anew((1, "a"))))
    with pytest.raises(WarehouseError, match=r"a foreign key refers to them: public\.target"):
        star.load()
    star.execute("DROP TABLE target")
    star.load()
    star.check()


def test_a_role_that_owns_no_table_is_given_the_statements_for_the_owner(
    star: Star, server: Any, tmp_path: Path
) -> None:
    name = star.url.rpartition("/")[2].partition("?")[0]
    role = f"loader_{name}"
    star.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'geheim-7'",
                 f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")  # fmt: skip
    owner, star.url = star.url, server.url(name, role, "geheim-7")
    new = CUSTOMER.made_anew(
        (1, "Ada", 5, 30, False), (2, "Bo", None, 40, False),
        columns={"id": "BIGINT", "name": "VARCHAR NOT NULL", "town": "INTEGER", "age": "INTEGER"}, renamed={"town": "city"},
    )  # fmt: skip
    error = refusal(star, quiet(dim_customer=new))
    assert "dim_customer is declared otherwise than it is, and this role does not own it" in error.what
    statements = (error.hint or "").removeprefix("Have its owner run: ").split("; ")
    Database(owner, "").execute(*statements, f"GRANT SELECT ON dim_customer_current TO {role}")
    star.load()
    assert star.rows("SELECT id, name, town, age FROM dim_customer_current ORDER BY 1") == [
        (1, "Ada", 5, 30), (2, "Bo", None, 40)
    ]  # fmt: skip


def test_an_idle_reader_is_waited_for_and_keeps_no_other_reader_out(
    star: Star, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "_PAUSE_SECONDS", 0.1)
    star.lake.add(quiet(dim_customer=RENAMED))
    with psycopg.connect(star.url, application_name="Tableau") as reader:
        reader.execute("SELECT * FROM dim_customer_current").fetchall()
        with pytest.raises(WarehouseError, match=r"is in use by process \d+ \(postgres, Tableau") as caught:
            star.load()
        assert caught.value.retryable
        with psycopg.connect(star.url) as other:
            other.execute("SET lock_timeout = '1s'")
            assert len(other.execute("SELECT * FROM dim_customer_current").fetchall()) == 2
    star.load()
    star.check()


def test_rows_that_differ_need_nothing_of_a_table_that_an_idle_reader_holds(star: Star) -> None:
    with psycopg.connect(star.url) as reader:
        for table in (*FIRST, *(f"{name}_current" for name in FIRST)):
            reader.execute(f"SELECT * FROM {table}".encode()).fetchall()
        star.load(quiet(dim_customer=CUSTOMER.made_anew((1, "Ada", "Bath", False), (2, "Bo", "York", True)),
                        fact_order=ORDER.made_anew((2, 8, 2, "9", NINE, False, 1)), dim_tag=TAG.made_anew((9, "i"))))  # fmt: skip
    star.check()


@pytest.mark.parametrize("many", [True, False])
def test_a_reader_in_a_loop_sees_the_table_before_or_the_one_after(
    star: Star, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    if many:
        monkeypatch.setattr(postgresql, "_MANY_ROWS", 1)
    seen, errors, done = set[tuple[Any, ...]](), [], threading.Event()

    def read() -> None:
        with psycopg.connect(star.url, autocommit=True, prepare_threshold=None) as connection:
            while not done.is_set():
                try:
                    rows = connection.execute("SELECT name FROM dim_customer_current ORDER BY id").fetchall()
                    seen.add(tuple(name for (name,) in rows))
                except psycopg.Error as error:
                    errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.2)
    star.load(quiet(dim_customer=CUSTOMER.made_anew(
        ("a", 1, "ADA", False), ("b", 2, "BO", False), ("c", 3, "CY", False),
        columns={"city": "VARCHAR NOT NULL", "id": "INTEGER", "name": "VARCHAR"})))  # fmt: skip
    time.sleep(0.2)
    done.set()
    reader.join()
    assert not errors
    assert seen == {("Ada", "Bo"), ("ADA", "BO", "CY")}
    star.check()
