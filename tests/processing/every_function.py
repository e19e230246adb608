"""Calls every scalar function of DuckDB's catalog with values of the types that it takes, and prints what each gives."""

from __future__ import annotations

import json
import sys

import duckdb

from totes import engine

VALUES = {
    "DATE": "DATE '2000-01-05'",
    "TIMESTAMP": "TIMESTAMP '2000-01-05 03:04:05'",
    "TIMESTAMP_S": "TIMESTAMP_S '2000-01-05 03:04:05'",
    "TIMESTAMP_MS": "TIMESTAMP_MS '2000-01-05 03:04:05'",
    "TIMESTAMP_NS": "TIMESTAMP_NS '2000-01-05 03:04:05'",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ '2000-01-05 03:04:05+00'",
    "TIMESTAMPTZ_NS": "TIMESTAMPTZ '2000-01-05 03:04:05+00'::TIMESTAMPTZ_NS",
    "TIME": "TIME '03:04:05'",
    "TIME WITH TIME ZONE": "TIMETZ '03:04:05+00'",
    "INTERVAL": "INTERVAL '40 days'",
    "VARCHAR": "'day'",
    "VARCHAR[]": "['day', 'year']",
    "BLOB": "'ab'::BLOB",
    "JSON": "'{\"a\": 1}'::JSON",
    "UUID": "'11111111-1111-1111-1111-111111111111'::UUID",
    "BOOLEAN": "true",
    "DOUBLE": "0.5",
    "FLOAT": "0.5::FLOAT",
    "ANY": "'x'",
    "T": "'x'",
    **{kind: f"3::{kind}" for kind in ("TINYINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT")},
}


def main() -> None:
    """Prints one JSON document: each call with its value, or why it fails."""
    connection = engine.connect(None, memory="500MB")
    functions = connection.execute(
        "SELECT function_name, parameter_types::VARCHAR[] FROM duckdb_functions()"
        " WHERE function_type IN ('scalar', 'macro') AND stability IS DISTINCT FROM 'VOLATILE' ORDER BY ALL"
    ).fetchall()
    found = {"now": str(engine.scalar(connection, "SELECT now()"))}
    for name, types in functions:
        for given in ([], ["INTERVAL '40 days'"], ["DATE '2000-02-01'"]):
            # A macro's arguments are of any type.
            if any(kind is None for kind in types) and given:
                arguments = given * len(types)
            else:
                arguments = [
                    VALUES.get(str(kind), f"NULL::{kind}" if kind else "'x'") for kind in types
                ] + given
            try:
                call = f"{engine.name(name)}({', '.join(arguments)})"
                value = str(connection.execute(f"SELECT {call}::VARCHAR").fetchall())
            except duckdb.Error as error:
                value = f"failed: {type(error).__name__}"
            found[json.dumps([name, len(arguments), ", ".join(arguments)])] = value
    sys.stdout.write(json.dumps(found))


main()
