"""The shop of the oracle: four source tables, and four models over them, in SQL for the pipeline and in Python.

`region` and `note` do not say when they were changed; `line` has a key of two columns; a customer has another for a
boss. No foreign key holds at the source, so that whatever a model joins or refers to may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

Key = tuple[Any, ...]
Values = tuple[Any, ...]

SCHEMA = """
CREATE TABLE region (code text PRIMARY KEY, name text);
CREATE TABLE customer (id int PRIMARY KEY, name text, region text, boss int, last_updated timestamp);
CREATE TABLE line (series text, number int, customer int, amount text, status text, last_updated timestamp,
    PRIMARY KEY (series, number));
CREATE TABLE note (id bigint PRIMARY KEY, body text, kind text);
"""
COLUMNS = {
    "region": ("code", "name"),
    "customer": ("id", "name", "region", "boss", "last_updated"),
    "line": ("series", "number", "customer", "amount", "status", "last_updated"),
    "note": ("id", "body", "kind"),
}
KEYS = {"region": 1, "customer": 1, "line": 2, "note": 1}  # so many columns, the first ones
TABLES = tuple(COLUMNS)

MODELS = {
    "dim_region": """-- Regions.
CREATE TABLE dim_region (code VARCHAR PRIMARY KEY, name VARCHAR NOT NULL) AS SELECT code, name FROM region
""",
    "dim_customer": """-- Customers with region and boss.
CREATE TABLE dim_customer (
    id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, region_code VARCHAR REFERENCES dim_region,
    region_name VARCHAR, boss_name VARCHAR
) AS
SELECT customer.id, customer.name, customer.region AS region_code, region.name AS region_name, boss.name AS boss_name
FROM customer
LEFT JOIN region ON region.code = customer.region
LEFT JOIN customer AS boss ON boss.id = customer.boss
""",
    "fact_line": """-- Lines that are no drafts, every version.
CREATE TABLE fact_line (
    line_record BIGINT PRIMARY KEY, series VARCHAR NOT NULL, number INTEGER NOT NULL,
    customer_id INTEGER NOT NULL REFERENCES dim_customer, customer_name VARCHAR, region_name VARCHAR,
    amount DECIMAL(10, 2)
) AS
SELECT line.series, line.number, line.customer AS customer_id, customer.name AS customer_name,
    region.name AS region_name, line.amount
FROM line
JOIN customer ON customer.id = line.customer
LEFT JOIN region ON region.code = customer.region
WHERE line.status <> 'draft'
""",
    "fact_note": """-- Notes that are not private, every version.
CREATE TABLE fact_note (note_record BIGINT PRIMARY KEY, id BIGINT NOT NULL, body VARCHAR NOT NULL) AS
SELECT id, body FROM note WHERE kind <> 'private'
""",
}


class Output(NamedTuple):
    """A row that a model gives: its key, its values, whether they meet the declaration, and to which row it refers."""

    key: Key
    values: Values
    fits: bool
    refers_to: Any = None


class Model(NamedTuple):
    """A model: the table that its FROM begins with, whether every version is kept, the table it refers to, its rows."""

    base: str
    versioned: bool
    target: str | None
    rows: Callable[[Mapping[str, Mapping[Key, Values]]], Iterator[Output]]


def _regions(source: Mapping[str, Mapping[Key, Values]]) -> Iterator[Output]:
    for key, (code, name) in source["region"].items():
        yield Output(key, (code, name), name is not None)


def _customers(source: Mapping[str, Mapping[Key, Values]]) -> Iterator[Output]:
    for key, (number, name, code, boss, _) in source["customer"].items():
        region, superior = source["region"].get((code,)), source["customer"].get((boss,))
        names = (region and region[1], superior and superior[1])
        yield Output(key, (number, name, code, *names), name is not None, code)


def _lines(source: Mapping[str, Mapping[Key, Values]]) -> Iterator[Output]:
    for key, (series, number, customer, amount, status, _) in source["line"].items():
        buyer = source["customer"].get((customer,))
        if buyer is None or status is None or status == "draft":
            continue
        region = source["region"].get((buyer[2],))
        fits = amount is None or re.fullmatch(r"-?\d{1,8}(\.\d{1,2}0*)?", amount) is not None
        number_of = Decimal(amount) if fits and amount is not None else None
        values = (series, number, customer, buyer[1], region and region[1], number_of)
        yield Output(key, values, fits, customer)


def _notes(source: Mapping[str, Mapping[Key, Values]]) -> Iterator[Output]:
    for key, (number, body, kind) in source["note"].items():
        if kind is not None and kind != "private":
            yield Output(key, (number, body), body is not None)


# In the order in which they are loaded: a table after the one it refers to.
STAR = {
    "dim_region": Model("region", versioned=False, target=None, rows=_regions),
    "dim_customer": Model("customer", versioned=False, target="dim_region", rows=_customers),
    "fact_line": Model("line", versioned=True, target="dim_customer", rows=_lines),
    "fact_note": Model("note", versioned=True, target=None, rows=_notes),
}
# Where in a table's values the reference stands.
REFERENCE = {"dim_customer": 2, "fact_line": 2}
