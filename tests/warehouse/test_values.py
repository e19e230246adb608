"""Values of versioned tables arrive as the source has them, in the first load and in later ones.

Latest tables, and all types beside, are in tests/values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Database, rows_of, run_cleanly
from totes.pipeline import Pipeline

TYPES = {
    "b": ("boolean", "BOOLEAN"), "i2": ("smallint", "SMALLINT"), "i8": ("bigint", "BIGINT"), "r": ("real", "FLOAT"),
    "d": ("double precision", "DOUBLE"), "n": ("numeric", "NUMERIC"), "n2": ("numeric(10,2)", "NUMERIC(10,2)"),
    "da": ("date", "DATE"), "ti": ("time", "TIME"), "ts": ("timestamp", "TIMESTAMP"), "tz": ("timestamptz", "TIMESTAMPTZ"),
    "iv": ("interval", "INTERVAL"), "u": ("uuid", "UUID"), "y": ("bytea", "BLOB"), "j": ("json", "JSON"),
    "v": ("text", "VARCHAR"), "v3": ("varchar(3)", "VARCHAR(3)"),
}  # fmt: skip

# Per column: PostgreSQL's literal, and the text that DuckDB and PostgreSQL then show; one where both show the same.
VALUES: dict[str, list[tuple[str, ...]]] = {
    "b": [("true", "true"), ("false", "false")],
    "i2": [("-32768", "-32768"), ("32767", "32767")],
    "i8": [("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")],
    "r": [("0.1", "0.1"), ("3.4028235e38", "3.4028235e+38"), ("NaN", "nan", "NaN"), ("-Infinity", "-inf", "-Infinity")],
    "d": [("0.1", "0.1"), ("1.7976931348623157e308", "1.7976931348623157e+308"), ("NaN", "nan", "NaN"),
          ("Infinity", "inf", "Infinity"), ("5e-324", "5e-324")],
    "n": [("12.5", "12.5000000000", "12.5"), ("0.0000000001", "0.0000000001"), ("-9999999999999999999999999999.9999999999",) * 2,
          ("100", "100.0000000000", "100")],
    "n2": [("12.50", "12.50"), ("-99999999.99", "-99999999.99"), ("0.01", "0.01")],
    "da": [("2024-02-29", "2024-02-29"), ("0044-03-15 BC", "0044-03-15 (BC)", "0044-03-15 BC"), ("infinity", "infinity"),
           ("-infinity", "-infinity"), ("0001-01-01", "0001-01-01"), ("9999-12-31", "9999-12-31")],
    "ti": [("23:59:59.999999", "23:59:59.999999"), ("00:00", "00:00:00")],
    "ts": [("2024-11-26 23:59:59.999999", "2024-11-26 23:59:59.999999"), ("infinity", "infinity"), ("-infinity", "-infinity"),
           ("0044-03-15 01:02:03 BC", "0044-03-15 (BC) 01:02:03", "0044-03-15 01:02:03 BC"), ("1969-12-31 23:59:59.5",) * 2],
    "tz": [("2024-07-01 12:00:00.000001+02", "2024-07-01 10:00:00.000001+00"), ("infinity", "infinity"),
           ("0044-03-15 01:02:03+00 BC", "0044-03-15 (BC) 01:02:03+00", "0044-03-15 01:02:03+00 BC")],
    "iv": [("1 year 2 months 3 days 04:05:06.789012", "1 year 2 months 3 days 04:05:06.789012",
            "1 year 2 mons 3 days 04:05:06.789012"), ("-00:00:00.000001", "-00:00:00.000001"), ("1 mon", "1 month", "1 mon")],
    "u": [("8c4b1f5a-0d6e-4c53-9a3c-0e8f4b9a1d2f", "8c4b1f5a-0d6e-4c53-9a3c-0e8f4b9a1d2f"),
          ("ffffffff-ffff-ffff-ffff-ffffffffffff",) * 2],
    "y": [("\\x00ff27", "00ff27"), ("\\x", "")],
    "j": [('{"a": 1.10, "b": [null, "x"]}',) * 2, ("[]", "[]"), ("123456789012345678901234567890.10",) * 2, ('"text"',) * 2],
    "v": [("It's \"quoted\"\n\t\\ 表 🎒 ",) * 2, ("", ""), ("NULL", "NULL"), ("\x01\x7f\ufeff",) * 2],
    "v3": [("äöü", "äöü"), ("   ", "   ")],
}  # fmt: skip
ROWS = max(len(values) for values in VALUES.values())


def shown(column: str, dialect: str) -> str:
    """SQL that shows a column as text."""
    if column == "y":
        return "lower(hex(y))" if dialect == "duckdb" else "encode(y, 'hex')"
    return f"{column}::VARCHAR"


@pytest.mark.parametrize("first_load", [True, False], ids=["in the first load", "in a later load"])
def test_values_of_versions_arrive_exact(
    database: Database, warehouse_url: str, make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]], first_load: bool,
) -> None:  # fmt: skip
    database.execute(
        f"CREATE TABLE thing (id integer PRIMARY KEY, {', '.join(f'{c} {t}' for c, (t, _) in TYPES.items())})"
    )
    declared = ", ".join(f"{column} {kind}" for column, (_, kind) in TYPES.items())
    key = "record_id BIGINT PRIMARY KEY, id INTEGER NOT NULL"
    model = f"CREATE TABLE things ({key}, {declared}) AS SELECT id, {', '.join(TYPES)} FROM thing"
    pipeline = make_pipeline(database.url, warehouse_url, project=write_project({"things": model}))
    if not first_load:
        database.execute("INSERT INTO thing (id) VALUES (99)")
        run_cleanly(pipeline)
    with database.connect() as connection:
        for number in range(ROWS):
            literals = [values[number][0] if number < len(values) else None for values in VALUES.values()]
            places = ", ".join(f"%s::{kind}" for kind, _ in TYPES.values())
            connection.execute(f"INSERT INTO thing VALUES (%s, {places})", [number, *literals])
        connection.execute("INSERT INTO thing (id) VALUES (50)")
    assert run_cleanly(pipeline).quarantined == 0
    dialect = "duckdb" if warehouse_url.startswith("duckdb") else "postgresql"
    found = rows_of(
        pipeline,
        f"SELECT {', '.join(shown(c, dialect) for c in TYPES)} FROM things WHERE id < 90 ORDER BY id",
    )
    texts = [
        tuple((values[number][1] if dialect == "duckdb" else values[number][-1]) if number < len(values) else None
              for values in VALUES.values())
        for number in range(ROWS)
    ]  # fmt: skip
    for column, *pair in zip(TYPES, zip(*found, strict=True), zip(*texts, strict=True), strict=True):
        assert (column, pair[0][:-1]) == (column, pair[1])
    assert found[-1] == (None,) * len(TYPES)


def test_numbers_without_limits_show_no_zeros_at_their_end(
    database: Database, new_database: Callable[[], Database], make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:  # fmt: skip
    database.execute(
        "CREATE TABLE thing (id integer PRIMARY KEY, n numeric NOT NULL)",
        """INSERT INTO thing SELECT i, (i % 2 * 2 - 1) * (i * 7919 % 10007) * power(10::numeric, i % 29 - 10)
           FROM generate_series(1, 2000) AS i""",
    )
    model = "CREATE TABLE things (id INTEGER PRIMARY KEY, n NUMERIC NOT NULL) AS SELECT id, n FROM thing"
    pipeline = make_pipeline(database.url, new_database().url, project=write_project({"things": model}))
    assert run_cleanly(pipeline).quarantined == 0
    with database.connect() as connection:
        expected = connection.execute("SELECT id, trim_scale(n)::text FROM thing ORDER BY id").fetchall()
    assert rows_of(pipeline, "SELECT id, n::text FROM things ORDER BY id") == expected
