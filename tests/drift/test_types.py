"""A column's type is changed without a row being written: what the lake holds afterwards is what PostgreSQL shows."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.plain_lake import objects_of, rows_of_lake
from tests.values.types import MATRIX
from totes.ingestion.catalog import _money

# All pairs of types between which PostgreSQL converts without a function, and those that it knows not to rewrite a table for.
PAIRS = """
    SELECT castsource::regtype::text, casttarget::regtype::text FROM pg_cast WHERE castmethod = 'b'
    UNION VALUES ('timestamp without time zone', 'timestamp with time zone'), ('timestamp with time zone', 'timestamp without time zone'),
        ('character varying(40)', 'text'), ('character(5)', 'character varying'), ('numeric(12,2)', 'numeric'), ('bit(4)', 'bit varying'),
        ('timestamp(3) without time zone', 'timestamp(6) without time zone'), ('interval(3)', 'interval')
    ORDER BY 1, 2
"""


def test_a_type_that_is_changed_without_a_rewrite_is_captured_as_it_reads_now(
    database: Database, make_pipeline: Any, write_project: Any, tmp_path: Any
) -> None:
    made, kept = {}, []
    database.execute(f"ALTER DATABASE {database.name} SET TimeZone = 'UTC'")
    session = psycopg.connect(database.url, autocommit=True)

    def run(statement: str) -> bool:
        """Runs a statement of the source, unless there is no such thing."""
        try:
            session.execute(statement.encode())
        except psycopg.Error:
            return False
        return True

    for number, (source, target) in enumerate(database.execute(PAIRS)):
        name, values = f"t{number}", MATRIX.get(source.partition("(")[0], ["'1'", "'7'"])
        if not run(f"CREATE TABLE {name} (id int PRIMARY KEY, v {source})"):
            continue  # no column is of this type
        for row, value in enumerate(values):
            run(f"INSERT INTO {name} VALUES ({row}, {value})")
        made[name] = (source, target)
    project = write_project({"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY) AS SELECT id FROM t0"})
    pipeline = make_pipeline(database.url, project=project, lake={"compression": "gzip"})
    assert pipeline.ingest().failure is None
    for name, (_, target) in made.items():
        file = f"SELECT pg_relation_filenode('{name}')".encode()
        before = session.execute(file).fetchall()
        if run(f"ALTER TABLE {name} ALTER v TYPE {target}") and session.execute(file).fetchall() == before:
            kept.append(name)
    assert len(kept) > 10
    assert pipeline.ingest().failure is None
    stored = objects_of(str(tmp_path / "lake" / "ingestion"))
    lake = rows_of_lake(stored)
    for name, pair in made.items():
        shown = session.execute(f"SELECT id, format('%s', v), v IS NULL FROM {name}".encode()).fetchall()
        expected = {row: None if nothing else text for row, text, nothing in shown}
        assert {
            row["id"]: row["v"] if row["v"] is None else str(row["v"]) for row in lake[name].values()
        } == expected, pair
    session.close()


@pytest.mark.parametrize(
    ("digits", "stored", "shown"),
    [(0, "12.34", "$1,234.00"), (0, "-12.34", "-$1,234.00"), (3, "12.34", "$1.234"), (3, "-0.04", "-$0.004"),
     (0, "92233720368547758.07", "$9,223,372,036,854,775,807.00"), (2, "-1234.5", "-$1,234.50")],
)  # fmt: skip
def test_money_is_read_as_the_number_that_its_writer_saw(
    database: Database, digits: int, stored: str, shown: str
) -> None:
    """What `lc_monetary` C shows of a value that was written under another one, with more or fewer digits."""
    form = _money('"m"', digits)
    assert database.execute(f"SELECT {form} FROM (VALUES ('{stored}'::money), (NULL)) AS v (m)") == [
        (shown,),
        (None,),
    ]


def test_money_of_another_country_is_exact(
    database: Database, make_pipeline: Any, write_project: Any, tmp_path: Any
) -> None:
    try:
        database.execute(f"ALTER DATABASE {database.name} SET lc_monetary = 'ja_JP.UTF-8'")
    except psycopg.Error:
        pytest.skip("the locale ja_JP.UTF-8 is not installed")
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v money)", "INSERT INTO t VALUES (1, '1234')")
    project = write_project(
        {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}
    )
    pipeline = make_pipeline(database.url, project=project, lake={"compression": "gzip"})
    assert pipeline.ingest().failure is None
    assert [
        row["v"]
        for rows in rows_of_lake(objects_of(str(tmp_path / "lake" / "ingestion"))).values()
        for row in rows.values()
    ] == ["$1,234.00"]
