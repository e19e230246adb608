"""A second star over another schema: composite keys, quoted names, a chain of three joins, a self-join, two roles."""

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
