"""A source whose schema changes under the pipeline, and what the star must hold: plain SQL on either side of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.conftest import Database, rows_of
from totes.cycle import Cycle
from totes.lake.journal import ingestion_journal
from totes.pipeline import Pipeline

SCHEMA = (
    "CREATE TYPE state AS ENUM ('new', 'paid')",
    "CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL, city text, spare text)",
    "CREATE TABLE purchase (id int PRIMARY KEY, customer_id int, amount numeric(8, 2), state state, last_updated timestamp)",
    "CREATE TABLE note (id int PRIMARY KEY, body text)",
    "INSERT INTO customer SELECT i, 'customer ' || i, 'city ' || i % 3, 'spare' FROM generate_series(1, 20) i",
    "INSERT INTO purchase SELECT i, i % 20 + 1, i * 1.25, 'new', '2024-01-01' FROM generate_series(1, 60) i",
    "INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 5) i",
)
MODELS = {
    "dim_customer": "CREATE TABLE dim_customer (id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, city VARCHAR) AS"
    " SELECT id, name, city FROM customer",
    "fact_purchase": "CREATE TABLE fact_purchase (record_id BIGINT PRIMARY KEY, id INTEGER, customer_id INTEGER,"
    " city VARCHAR, amount DECIMAL(8, 2), state VARCHAR) AS SELECT purchase.id, customer_id, customer.city, amount, state"
    " FROM purchase LEFT JOIN customer ON customer.id = purchase.customer_id",
}
OTHER_CHANGE = "INSERT INTO note VALUES (100, 'meanwhile')"
CUSTOMERS, CUSTOMERS_SOURCE = "SELECT id, name, city FROM dim_customer", "SELECT id, name, city FROM customer"
PURCHASES = "SELECT id, customer_id, city, amount, state FROM fact_purchase_current"
PURCHASES_SOURCE = """SELECT purchase.id, customer_id, customer.city, amount::numeric, state::text
    FROM purchase LEFT JOIN customer ON customer.id = customer_id"""


@contextmanager
def named(statements: Iterable[str]) -> Iterator[None]:
    """What fails within says after which statements."""
    try:
        yield
    except Exception as error:
        error.add_note(f"after {'; '.join(statements)}")
        raise


@dataclass
class Shop:
    """A source with the pipeline over it; `model` puts another text in a model's place."""

    database: Database
    make: Callable[[dict[str, str]], Pipeline]

    def __post_init__(self) -> None:
        self.models = dict(MODELS)
        self.database.execute(*SCHEMA)

    @property
    def pipeline(self) -> Pipeline:
        return self.make(self.models)

    def model(self, name: str, old: str, new: str) -> None:
        assert old in self.models[name]
        self.models[name] = self.models[name].replace(old, new)

    def run(self, *statements: str) -> Cycle:
        """Changes the source, then runs a cycle."""
        self.database.execute(*statements)
        return self.pipeline.run()

    def check(self) -> None:
        """The star equals the source, and each key has one open version."""
        for ours, theirs in ((CUSTOMERS, CUSTOMERS_SOURCE), (PURCHASES, PURCHASES_SOURCE)):
            assert sorted(rows_of(self.pipeline, ours)) == sorted(self.database.execute(theirs))
        assert not rows_of(
            self.pipeline,
            "SELECT id FROM fact_purchase GROUP BY id HAVING count(*) FILTER (valid_to IS NULL) <> 1",
        )

    def versions(self) -> int:
        return int(rows_of(self.pipeline, "SELECT count(*) FROM fact_purchase")[0][0])

    @property
    def batches(self) -> int:
        return ingestion_journal(self.pipeline.ingestion_store).last()
