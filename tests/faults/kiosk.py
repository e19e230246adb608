"""A small shop in three states with a batch after each, and what its star must hold at the end, written out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import psycopg

FIRST = """
CREATE TABLE region (code text PRIMARY KEY, name text);
CREATE TABLE customer (id int PRIMARY KEY, name text, region text, last_updated timestamp);
CREATE TABLE sale (id int PRIMARY KEY, customer_id int, amount text, last_updated timestamp);
INSERT INTO region VALUES ('n', 'North'), ('s', 'South'), ('e', 'East');
INSERT INTO customer VALUES (1, 'Ada', 'n', '2026-01-01'), (2, 'Ben', 's', '2026-01-01'), (3, 'Cy', NULL, '2026-01-01'),
    (4, 'Di', 'e', '2026-01-01');
INSERT INTO sale VALUES (1, 1, '10.00', '2026-01-01'), (2, 1, '20.00', '2026-01-01'), (3, 2, '30.00', '2026-01-01'),
    (4, 2, 'many', '2026-01-01'), (5, 3, '50.00', '2026-01-01'), (6, 4, '60.00', NULL);
"""

# Updates, deletes, a row deleted and inserted again, a good row that turns bad, a dimension that touches facts.
SECOND = """
UPDATE sale SET amount = '11.00', last_updated = '2026-02-01' WHERE id = 1;
UPDATE sale SET amount = 'lots', last_updated = '2026-02-01' WHERE id = 2;
DELETE FROM sale WHERE id IN (3, 6);
INSERT INTO sale VALUES (3, 2, '33.00', '2026-02-01'), (7, 1, '70.00', '2026-02-01'), (8, 2, 'some', '2026-02-01');
UPDATE customer SET name = 'Cyd' WHERE id = 3;
DELETE FROM customer WHERE id = 4;
UPDATE region SET name = 'Far South' WHERE code = 's';
DELETE FROM region WHERE code = 'e';
"""

# What was bad is mended or deleted, what was deleted returns, and something new comes.
THIRD = """
UPDATE sale SET amount = '40.00', last_updated = '2026-03-01' WHERE id = 4;
UPDATE sale SET amount = '22.00', last_updated = '2025-12-01' WHERE id = 2;
DELETE FROM sale WHERE id IN (1, 8);
INSERT INTO customer VALUES (4, 'Dee', 'n', '2026-03-01');
INSERT INTO sale VALUES (6, 4, '66.00', '2026-03-01');
UPDATE region SET name = 'Deep South' WHERE code = 's';
"""
STATES = (FIRST, SECOND, THIRD)

MODELS = {
    "dim_region": """-- Regions.
CREATE TABLE dim_region (code VARCHAR PRIMARY KEY, name VARCHAR NOT NULL) AS SELECT code, name FROM region
""",
    "dim_customer": """-- Customers, with their region.
CREATE TABLE dim_customer (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, region VARCHAR) AS
SELECT customer.id, customer.name, region.name AS region FROM customer LEFT JOIN region ON region.code = customer.region
""",
    "fact_sale": """-- Sales, in every version.
CREATE TABLE fact_sale (
    sale_record BIGINT PRIMARY KEY, id INTEGER NOT NULL, customer_id INTEGER NOT NULL REFERENCES dim_customer,
    region VARCHAR, amount DECIMAL(10, 2) NOT NULL
) AS
SELECT sale.id, sale.customer_id, region.name AS region, sale.amount
FROM sale JOIN customer ON customer.id = sale.customer_id LEFT JOIN region ON region.code = customer.region
""",
}

# Each version: sale, customer, region, amount, when it began (`read 2`: when the second batch read), deleted, batch.
HISTORY = [
    (1, 1, "North", "10.00", "2026-01-01", False, 1), (1, 1, "North", "11.00", "2026-02-01", False, 2),
    (1, 1, "North", "11.00", "read 3", True, 3),
    (2, 1, "North", "20.00", "2026-01-01", False, 1), (2, 1, "North", "22.00", "read 3", False, 3),
    (3, 2, "South", "30.00", "2026-01-01", False, 1), (3, 2, "Far South", "33.00", "2026-02-01", False, 2),
    (3, 2, "Deep South", "33.00", "read 3", False, 3),
    (4, 2, "Deep South", "40.00", "2026-03-01", False, 3),
    (5, 3, None, "50.00", "2026-01-01", False, 1),
    (6, 4, "East", "60.00", "read 1", False, 1), (6, 4, "East", "60.00", "read 2", True, 2),
    (6, 4, "North", "66.00", "read 3", False, 3),
    (7, 1, "North", "70.00", "2026-02-01", False, 2),
]  # fmt: skip
CUSTOMERS = [(1, "Ada", "North"), (2, "Ben", "Deep South"), (3, "Cyd", None), (4, "Dee", "North")]
REGIONS = [("n", "North"), ("s", "Deep South")]
# What the source itself answers for the present, in PostgreSQL's own SQL.
PRESENT = """
SELECT s.id, s.customer_id, r.name, s.amount::numeric FROM sale s JOIN customer c ON c.id = s.customer_id
LEFT JOIN region r ON r.code = c.region ORDER BY s.id
"""


def versions_up_to(batch: int) -> list[tuple[Any, ...]]:
    """The versions that the first batches bring."""
    return [version for version in HISTORY if version[-1] <= batch]


def query(warehouse: str, *statements: str) -> list[list[tuple[Any, ...]]]:
    """The rows of each query over a warehouse, asked without the pipeline's adapters."""
    if warehouse.startswith("duckdb:///"):
        with duckdb.connect(warehouse.removeprefix("duckdb:///"), read_only=True) as file:
            return [file.execute(statement).fetchall() for statement in statements]
    with psycopg.connect(warehouse) as server:
        return [server.execute(statement.encode()).fetchall() for statement in statements]


def write_project(folder: Path) -> None:
    """Writes the models below a folder."""
    (folder / "models").mkdir(parents=True)
    for name, text in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(text, encoding="utf-8")
