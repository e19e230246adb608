"""Lakes for the tests of backups: a shop's, with objects of every kind, and made-up ones of as many batches as wanted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.conftest import Database, run_cleanly
from totes.config import Settings
from totes.lake.document import StoredObject
from totes.lake.journal import ingestion_journal, processed_journal
from totes.lake.layout import manifest_path
from totes.lake.manifest import IngestionManifest, ModelChanges, Position, ProcessedManifest, TableChanges
from totes.lake.store import Store
from totes.pipeline import Pipeline

STORES = ("ingestion", "processed")
NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)

SOURCE = (
    "CREATE TABLE town (town text PRIMARY KEY, county text NOT NULL)",
    "CREATE TABLE customer (customer_id integer PRIMARY KEY, name text NOT NULL, town text)",
    "CREATE TABLE purchase (purchase_id integer PRIMARY KEY, customer_id integer NOT NULL, price numeric NOT NULL)",
    "INSERT INTO town VALUES ('Hull', 'Yorkshire'), ('Bath', 'Somerset')",
    "INSERT INTO customer VALUES (10, 'Ada', 'Hull'), (11, 'Bo', 'Bath'), (12, 'Cy', NULL)",
    "INSERT INTO purchase VALUES (1, 10, 12.50), (2, 11, 99.90), (3, 11, 0.125)",  # the last has a digit too many
)
MODELS = {
    "dim_customer": """
CREATE TABLE dim_customer (customer_id INTEGER PRIMARY KEY, name VARCHAR NOT NULL, county VARCHAR) AS
SELECT customer_id, name, county FROM customer LEFT JOIN town USING (town)""",
    "mailing": "CREATE TABLE mailing (customer_id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT customer_id, name FROM customer",
    "fact_purchase": """
CREATE TABLE fact_purchase (purchase_record_id BIGINT PRIMARY KEY, purchase_id INTEGER NOT NULL,
    customer_id INTEGER NOT NULL REFERENCES dim_customer, price NUMERIC(10, 2) NOT NULL) AS
SELECT purchase_id, customer_id, price FROM purchase""",
}
SECOND_DAY = (
    "UPDATE town SET county = 'East Riding' WHERE town = 'Hull'",
    "DELETE FROM purchase WHERE purchase_id = 2",
)
THIRD_DAY = ("DELETE FROM customer WHERE customer_id = 12", "INSERT INTO purchase VALUES (4, 10, 7.00)")


def make_shop(database: Database, folder: Path) -> Pipeline:
    """Runs a shop's pipeline for three batches; its lake is `folder / "lake"`."""
    models = folder / "project" / "models"
    models.mkdir(parents=True)
    for name, text in MODELS.items():
        (models / f"{name}.sql").write_text(text, encoding="utf-8")
    pipeline = Pipeline(
        Settings(source={"url": database.url}, project={"name": "shop", "path": "project"}, base=folder)  # type: ignore[arg-type]
    )
    for statements in (SOURCE, SECOND_DAY, THIRD_DAY):
        database.execute(*statements)
        run_cleanly(pipeline)
    return pipeline


def make_plain(folder: Path, batches: int, *, content: bytes = b"", owner: str = "shop") -> None:
    """Writes a lake with one object a batch in each store."""
    ingestion, processed = (Store.open(str(folder / name), folder) for name in STORES)
    scratch = folder / "scratch"
    previous: tuple[Any, Any] = (None, None)
    for batch in range(1, batches + 1):
        entries: list[StoredObject] = []
        for store in (ingestion, processed):
            scratch.write_bytes(content or f"{owner} {batch}".encode())
            entries.append(
                store.put_file(f"t/date=2024-11-26/{batch:012d}-0001-00000000.jsonl", scratch, rows=1)
            )
        captured = IngestionManifest(
            batch=batch, previous_sha256=previous[0], started_at=NOON, finished_at=NOON, schema_name=owner,
            compression="none", tables={"t": TableChanges(columns=(), key=(), marked_by="content", objects=(entries[0],))},
            position=Position(system_identifier="1", timeline=1, database=owner, horizon=batch, next_transaction=batch,
                              read_at=NOON),
        )  # fmt: skip
        made = ProcessedManifest(
            batch=batch, previous_sha256=previous[1], started_at=NOON, finished_at=NOON,
            ingestion_sha256=captured.sha256(), read_at=NOON, calendar_years=(),
            models={"t": ModelChanges(kind="latest", table_sha256="", query_sha256="", columns=(), key=(), surrogate=None,
                                      objects=(entries[1],))},
        )  # fmt: skip
        ingestion_journal(ingestion).commit(captured)
        processed_journal(processed).commit(made)
        previous = captured.sha256(), made.sha256()
    scratch.unlink()


def contents(place: str | Path) -> dict[str, bytes]:
    """All objects of both stores of a lake, or of a backup, by path."""
    found: dict[str, bytes] = {}
    for name in STORES:
        store = Store.open(f"{place}/{name}", Path())
        found |= {f"{name}/{path}": store.read(path) or b"" for path in store.list("")}
    return found


def named(objects: dict[str, bytes], name: str, batch: int) -> dict[str, tuple[int, str]]:
    """The objects that a batch's manifest names: size and sha256 by path."""
    manifest = json.loads(objects[f"{name}/{manifest_path(batch)}"])
    parts = (manifest.get("tables") or manifest["models"]).values()
    kinds = ("objects", "marks", "removed", "state", "quarantine")
    entries = [entry for part in parts for kind in kinds for entry in part.get(kind, [])]
    return {f"{name}/{entry['path']}": (entry["bytes"], entry["sha256"]) for entry in entries}
