"""A full load of tables of other shapes than TerrificTotes': narrow, wide, and full of text."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.full_load import measure_source
from benchmarks.measurement import Measurement
from benchmarks.workbench import Source, Workbench

SECTION = "shapes"


@dataclass(frozen=True)
class Shape:
    """A table of one shape. Columns are names with their types in PostgreSQL and DuckDB, and the SQL of a value."""

    name: str
    rows_an_order: float
    columns: tuple[tuple[str, str, str, str], ...]


_STAMP = ("last_updated", "timestamp", "TIMESTAMP", "timestamp '2026-01-01' + number * interval '1 second'")
SHAPES = (
    Shape("narrow", 5, (("amount", "integer", "INTEGER", "number % 1000"),)),
    Shape(
        "wide", 0.25,
        (
            *((f"whole_{n}", "bigint", "BIGINT", f"number * {n}") for n in range(1, 21)),
            *((f"price_{n}", "numeric(12,2)", "DECIMAL(12,2)", f"(number % 9999 + {n}) * 0.01") for n in range(1, 11)),
            *((f"word_{n}", "text", "VARCHAR", f"CASE WHEN number % 7 <> 0 THEN 'word ' || number % {97 + n} END")
              for n in range(1, 21)),
            *((f"moment_{n}", "timestamp", "TIMESTAMP", f"timestamp '2026-01-01' + number * interval '{n} second'")
              for n in range(1, 6)),
            *((f"flag_{n}", "boolean", "BOOLEAN", f"number % {n + 1} = 0") for n in range(1, 6)),
            _STAMP,
        ),
    ),
    Shape(
        "text", 0.5,
        (
            ("title", "text", "VARCHAR", "'Title no. ' || number || ' \"quoted\", été'"),
            ("body", "text", "VARCHAR", "repeat(md5(number::text) || E' line\\n', 12 + number % 25)"),
            _STAMP,
        ),
    ),
)  # fmt: skip


def measure(bench: Workbench) -> list[Measurement]:
    """Each shape in a database of its own, with a model that keeps every version."""
    found: list[Measurement] = []
    for shape in SHAPES:
        source = _create(bench, shape)
        found += measure_source(bench, source, SECTION, f"{shape.name} table ", {})
    return found


def _create(bench: Workbench, shape: Shape) -> Source:
    rows = int(bench.orders * shape.rows_an_order)
    bench.say(f"{SECTION}: creating {rows:,} rows of the {shape.name} table")
    models = bench.new_folder() / "models"
    models.mkdir()
    table, key = f"{shape.name}_row", f"{shape.name}_row_id"
    declared = ",\n".join(f"    {name} {kind}" for name, _, kind, _ in shape.columns)
    chosen = ", ".join(f"{table}.{name}" for name, *_ in shape.columns)
    (models / f"fact_{shape.name}.sql").write_text(
        f"-- Rows of one shape.\nCREATE TABLE fact_{shape.name} (\n    record_id BIGINT PRIMARY KEY,\n"
        f"    {key} INTEGER NOT NULL,\n{declared}\n) AS\nSELECT {table}.{key}, {chosen}\nFROM {table}\n",
        encoding="utf-8",
    )
    source = bench.new_source(f"shape_{shape.name}", project=models.parent)
    columns = ", ".join(f"{name} {kind}" for name, kind, *_ in shape.columns)
    values = ", ".join(value for *_, value in shape.columns)
    source.execute(
        f"CREATE TABLE {table} ({key} integer, {columns})",
        f"INSERT INTO {table} SELECT number, {values} FROM generate_series(1, {rows}) AS number",
        f"ALTER TABLE {table} ADD PRIMARY KEY ({key})",
    )
    bench.finish_source(source)
    return source
