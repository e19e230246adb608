"""A star that is as awkward as names, types and references can make one, and warehouses that have its tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from totes.star.project import Project, load_project
from totes.warehouse import ddl
from totes.warehouse.table import Dialect, warehouse_tables

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)> "it's" {{ 1 / 0 }} {% x %} 100% :name"""
MODELS = {
    "Dim Größe": f"""
-- {HOSTILE}
CREATE TABLE "Dim Größe" (
    "ID"              INTEGER PRIMARY KEY,
    "select"          VARCHAR NOT NULL,  -- {HOSTILE}
    "Full ""Name"" %" VARCHAR,
    boss_id           INTEGER REFERENCES "Dim Größe"
) AS
SELECT size.id AS "ID", size.name AS "select", size.full_name AS "Full ""Name"" %", size.boss AS boss_id FROM size
""",
    "dim_airport": """
CREATE TABLE dim_airport (airport_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, latitude DOUBLE, "order" INTEGER) AS
SELECT airport.airport_id, airport.name, airport.latitude, airport.rank AS "order" FROM airport
""",
    "dim_day": """
CREATE TABLE dim_day (day DATE PRIMARY KEY, year INTEGER NOT NULL) AS
SELECT calendar.date AS day, year(calendar.date) AS year FROM calendar
""",
    "fact_flight": """
-- Flights.
CREATE TABLE fact_flight (
    flight_record_id BIGINT PRIMARY KEY,
    flight_no        INTEGER NOT NULL,
    "Größe ID"       INTEGER REFERENCES "Dim Größe",
    "größe"          INTEGER REFERENCES "Dim Größe",
    origin_id        INTEGER NOT NULL REFERENCES dim_airport,
    destination_id   INTEGER REFERENCES dim_airport,
    departed         DATE NOT NULL REFERENCES dim_day,
    arrived          DATE REFERENCES dim_day,
    currency_code    VARCHAR,
    "Fare Amount"    NUMERIC,
    seat_price       NUMERIC(10,2),
    seats_sold       INTEGER,
    number_of_meals  INTEGER,
    weight           DOUBLE,
    "group"          JSON,
    "end"            BLOB,
    "time"           TIME,
    origin_name      VARCHAR  -- Has the name that the airport's would have.
) AS
SELECT
    flight.flight_no, flight.size AS "Größe ID", flight.other_size AS "größe", flight.origin AS origin_id,
    flight.destination AS destination_id, flight.departed, flight.arrived, flight.currency_code,
    flight.fare AS "Fare Amount", flight.seat_price, flight.seats_sold, flight.number_of_meals, flight.weight,
    flight.extra AS "group", flight.raw AS "end", flight.at AS "time", flight.origin_name
FROM flight
""",
    "fact_flight_versions": """
CREATE TABLE fact_flight_versions (version_no INTEGER PRIMARY KEY, airport_id INTEGER REFERENCES dim_airport, miles INTEGER) AS
SELECT version.version_no, version.airport_id, version.miles FROM version
""",
    "reading": """
CREATE TABLE reading (station INTEGER PRIMARY KEY, taken TIMESTAMPTZ NOT NULL, temperature DOUBLE, rainfall DOUBLE) AS
SELECT reading.station, reading.taken, reading.temperature, reading.rainfall FROM reading
""",
    "_lonely": """
CREATE TABLE _lonely (lonely_record_id BIGINT PRIMARY KEY, thing_id INTEGER NOT NULL, "from" VARCHAR) AS
SELECT thing.thing_id, thing."from" FROM thing
""",
}  # fmt: skip
ROWS = (
    """INSERT INTO "Dim Größe" VALUES (1, 'small', 'S', NULL, false), (2, 'large', 'L', 1, true)""",
    "INSERT INTO dim_airport VALUES (1, 'Leeds', 53.9, 1, false), (2, 'Cork', 51.8, 2, false)",
    "INSERT INTO dim_day VALUES ('2026-01-01', 2026, false), ('2026-01-02', 2026, false)",
    """INSERT INTO fact_flight VALUES
        (1, 7, 1, 2, 1, 2, '2026-01-01', '2026-01-02', 'GBP', 100.50, 10, 10, 1, 1.5, NULL, NULL, NULL, 'own',
            '2026-01-01 08:00', '2026-01-01 09:00', false, 1),
        (2, 7, 1, 2, 1, 2, '2026-01-01', '2026-01-02', 'GBP', 200.50, 20, 11, 2, 1.5, NULL, NULL, NULL, 'own',
            '2026-01-01 09:00', NULL, false, 2),
        (3, 8, NULL, NULL, 2, NULL, '2026-01-02', NULL, 'EUR', 300, 30, 12, 3, 2.5, NULL, NULL, NULL, 'own',
            '2026-01-02 09:00', NULL, false, 2),
        (4, 9, NULL, NULL, 2, NULL, '2026-01-02', NULL, 'EUR', 400, 50, 13, 4, 2.5, NULL, NULL, NULL, 'own',
            '2026-01-02 09:00', NULL, true, 2)""",
)
KEYS = {"fact_flight": ("flight_no",), "_lonely": ("thing_id",)}
Query = Callable[[str], list[dict[str, Any]]]


def odd_project(folder: Path, models: dict[str, str] | None = None) -> Project:
    """The project with that star."""
    (folder / "models").mkdir(parents=True)
    for name, text in (models or MODELS).items():
        (folder / "models" / f"{name}.sql").write_text(text.lstrip(), encoding="utf-8")
    return load_project("odd <project>", folder)


def declared(project: Project, dialect: Dialect, schema: str) -> list[str]:
    """The statements that make its tables and views."""
    return ddl.statements(warehouse_tables(project.models, KEYS), schema, dialect)


def duckdb_query(file: Path, *statements: str) -> Query:
    """Runs statements in a DuckDB file; gives a function that queries it read-only."""
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)

    def query(sql: str) -> list[dict[str, Any]]:
        with duckdb.connect(str(file), read_only=True) as connection:
            connection.execute(sql)
            names = [column[0] for column in connection.description or ()]
            return [dict(zip(names, row, strict=True)) for row in connection.fetchall()]

    return query


def postgresql_query(url: str, *statements: str) -> Query:
    """Runs statements in a PostgreSQL database; gives a function that queries it read-only."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())

    def query(sql: str) -> list[dict[str, Any]]:
        with psycopg.connect(url, options="-c default_transaction_read_only=on") as connection:
            cursor = connection.execute(sql.encode())
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    return query
