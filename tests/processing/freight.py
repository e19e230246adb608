"""A second star over another schema: composite keys, quoted names, a chain of three joins, a self-join, two roles."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.conftest import Database

SCHEMA = """
CREATE TABLE country (code char(2) PRIMARY KEY, name text NOT NULL);
CREATE TABLE region (
    country_code char(2) REFERENCES country, region_number smallint, "Region Name" text NOT NULL,
    PRIMARY KEY (country_code, region_number));
CREATE TABLE "Depot" (
    id uuid PRIMARY KEY, title text NOT NULL, country_code char(2), region_number smallint,
    FOREIGN KEY (country_code, region_number) REFERENCES region);
CREATE TABLE driver (
    badge text PRIMARY KEY, "select" text NOT NULL, boss text REFERENCES driver, last_updated timestamptz);
CREATE TABLE shipment (
    series text, number bigint, origin uuid REFERENCES "Depot", destination uuid REFERENCES "Depot",
    driver text REFERENCES driver, weight numeric, status text, last_updated timestamp,
    PRIMARY KEY (series, number));
"""

MODELS = {
    "dim_driver": """-- Drivers, and whom they answer to.
CREATE TABLE dim_driver (badge VARCHAR PRIMARY KEY, driver_name VARCHAR NOT NULL, boss_name VARCHAR) AS
SELECT driver.badge, driver."select" AS driver_name, upper(boss."select") AS boss_name
FROM driver LEFT JOIN driver AS boss ON boss.badge = driver.boss
""",
    "dim_depot": """-- Depots with region and country: a chain of three joins.
CREATE TABLE dim_depot (depot_id UUID PRIMARY KEY, title VARCHAR NOT NULL, region VARCHAR, country VARCHAR) AS
WITH place AS (
    SELECT region.country_code, region.region_number, region."Region Name" AS region, country.name AS country
    FROM region JOIN country ON country.code = region.country_code
)
SELECT id AS depot_id, title, region, country
FROM "Depot" LEFT JOIN place USING (country_code, region_number)
""",
    "fact_shipment": """-- Shipments that were sent, every version.
CREATE TABLE fact_shipment (
    shipment_record BIGINT PRIMARY KEY, series VARCHAR NOT NULL, shipment_number BIGINT NOT NULL,
    driver VARCHAR REFERENCES dim_driver, origin UUID REFERENCES dim_depot,
    origin_title VARCHAR, destination_title VARCHAR, destination_country VARCHAR,
    weight NUMERIC, heavy VARCHAR NOT NULL
) AS
SELECT
    s.series, s.number AS shipment_number, s.driver, s.origin,
    a.title AS origin_title, b.title AS destination_title, c.name AS destination_country,
    s.weight, CASE WHEN s.weight > 1000 THEN 'heavy' ELSE 'light' END AS heavy
FROM shipment AS s
JOIN "Depot" AS a ON a.id = s.origin
LEFT JOIN "Depot" AS b ON b.id = s.destination
LEFT JOIN country AS c ON c.code = b.country_code
WHERE s.status <> 'draft'
""",
}

# What each table must currently hold, as PostgreSQL itself answers it over the source.
EXPECTED = {
    "dim_driver": """SELECT d.badge, d."select", upper(b."select") FROM driver d LEFT JOIN driver b ON b.badge = d.boss""",
    "dim_depot": """SELECT d.id::text, d.title, r."Region Name", c.name FROM "Depot" d
        LEFT JOIN (region r JOIN country c ON c.code = r.country_code) USING (country_code, region_number)""",
    "fact_shipment": """SELECT s.series, s.number, s.driver, s.origin::text, a.title, b.title, c.name, s.weight,
        CASE WHEN s.weight > 1000 THEN 'heavy' ELSE 'light' END
        FROM shipment s JOIN "Depot" a ON a.id = s.origin LEFT JOIN "Depot" b ON b.id = s.destination
        LEFT JOIN country c ON c.code = b.country_code WHERE s.status <> 'draft'""",
}

PRESENT = {
    "dim_driver": "SELECT badge, driver_name, boss_name FROM dim_driver_current",
    "dim_depot": "SELECT CAST(depot_id AS VARCHAR), title, region, country FROM dim_depot_current",
    "fact_shipment": """SELECT series, shipment_number, driver, CAST(origin AS VARCHAR), origin_title,
        destination_title, destination_country, weight, heavy FROM fact_shipment_current""",
}


class Traders:
    """Random traders at the source, each statement one transaction."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._random = random.Random(seed)
        self._serial = 0

    def trade(self, times: int) -> None:
        for _ in range(times):
            self._database.execute(self._random.choice(self._moves())())

    def _moves(self) -> list[Callable[[], str]]:
        return [self._country, self._region, self._depot, self._depot, self._driver, self._driver, self._shipment,
                self._shipment, self._shipment, self._change, self._change, self._change, self._delete, self._rekey]  # fmt: skip

    def _name(self) -> str:
        self._serial += 1
        return f"n{self._serial}"

    def _some(self, column: str, table: str) -> str:
        return f"(SELECT {column} FROM {table} ORDER BY md5({column}::text || '{self._random.random()}') LIMIT 1)"

    def _country(self) -> str:
        return f"INSERT INTO country VALUES ('{self._random.choice('ABC')}{self._random.choice('XYZ')}', '{self._name()}') ON CONFLICT DO NOTHING"

    def _region(self) -> str:
        return (
            f"INSERT INTO region SELECT code, {self._random.randrange(3)}, '{self._name()}' FROM country"
            f" WHERE code = {self._some('code', 'country')} ON CONFLICT DO NOTHING"
        )

    def _depot(self) -> str:
        with_region = "country_code, region_number" if self._random.random() < 0.8 else "NULL, NULL"
        return (
            f"INSERT INTO \"Depot\" SELECT gen_random_uuid(), '{self._name()}', {with_region} FROM region"
            f' WHERE "Region Name" = {self._some(chr(34) + "Region Name" + chr(34), "region")} LIMIT 1'
        )

    def _driver(self) -> str:
        return f"INSERT INTO driver VALUES ('{self._name()}', 'name {self._name()}', {self._some('badge', 'driver')}, now())"

    def _shipment(self) -> str:
        weight = self._random.choice(["1.50", "999.123456", "1000", "1000.01", "NULL", "5000"])
        status = self._random.choice(["sent", "sent", "draft", "sent"])
        return (
            f"INSERT INTO shipment SELECT '{self._random.choice('PQ')}', {self._random.randrange(40)}, d.id,"
            f" {self._some('id', chr(34) + 'Depot' + chr(34))}, {self._some('badge', 'driver')}, {weight}, '{status}',"
            f' now() FROM "Depot" d WHERE d.id = {self._some("id", chr(34) + "Depot" + chr(34))} ON CONFLICT DO NOTHING'
        )

    def _change(self) -> str:
        one_shipment = f"(series, number) IN (SELECT series, number FROM shipment ORDER BY md5(number::text || '{self._random.random()}') LIMIT 1)"
        return self._random.choice([
            f"UPDATE country SET name = '{self._name()}' WHERE code = {self._some('code', 'country')}",
            f"UPDATE region SET \"Region Name\" = '{self._name()}' WHERE country_code = {self._some('country_code', 'region')}",
            f"UPDATE \"Depot\" SET title = '{self._name()}' WHERE id = {self._some('id', chr(34) + 'Depot' + chr(34))}",
            f"UPDATE \"Depot\" SET (country_code, region_number) = (SELECT country_code, region_number FROM region ORDER BY md5(\"Region Name\" || '{self._random.random()}') LIMIT 1) WHERE id = {self._some('id', chr(34) + 'Depot' + chr(34))}",
            f"UPDATE driver SET boss = {self._some('badge', 'driver')} WHERE badge = {self._some('badge', 'driver')}",
            f"UPDATE driver SET \"select\" = '{self._name()}', last_updated = now() WHERE badge = {self._some('badge', 'driver')}",
            f"UPDATE shipment SET weight = coalesce(weight, 0) + 600, last_updated = now() WHERE {one_shipment}",
            f"UPDATE shipment SET weight = coalesce(weight, 0) + 1 WHERE {one_shipment}",
            f"UPDATE shipment SET last_updated = last_updated - interval '1 year', weight = 7 WHERE {one_shipment}",
            f"UPDATE shipment SET status = CASE status WHEN 'draft' THEN 'sent' ELSE 'draft' END WHERE {one_shipment}",
            f"UPDATE shipment SET destination = {self._some('id', chr(34) + 'Depot' + chr(34))} WHERE {one_shipment}",
            f"UPDATE shipment SET driver = NULL WHERE {one_shipment}",
        ])  # fmt: skip

    def _delete(self) -> str:
        return self._random.choice([
            "DELETE FROM shipment WHERE (series, number) IN (SELECT series, number FROM shipment LIMIT 2)",
            "DELETE FROM driver d WHERE NOT EXISTS (SELECT 1 FROM driver b WHERE b.boss = d.badge) AND NOT EXISTS (SELECT 1 FROM shipment s WHERE s.driver = d.badge)",
            "DELETE FROM \"Depot\" d WHERE NOT EXISTS (SELECT 1 FROM shipment s WHERE d.id IN (s.origin, s.destination))",
            "UPDATE \"Depot\" SET region_number = NULL, country_code = NULL WHERE id IN (SELECT id FROM \"Depot\" LIMIT 1)",
        ])  # fmt: skip

    def _rekey(self) -> str:
        return "UPDATE shipment SET number = number + 1000 WHERE (series, number) IN (SELECT series, number FROM shipment LIMIT 1)"
