"""Two readers of published tables that know nothing of totes, nor of one another: PyIceberg, and DuckDB's Iceberg extension.

The extension exists for another release of DuckDB than the pipeline's, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb

from tests.conftest import rows_of
from totes import engine
from totes.lake.manifest import ModelChanges
from totes.pipeline import Pipeline
from totes.publishing.catalog import Catalog

READER = Path(__file__).parents[2] / ".venv-iceberg" / "reader"
LEDGER = "totes_batches"
ICEBERG = {"iceberg": "sql:sqlite:///lake/iceberg.db"}
Rows = list[tuple[Any, ...]]
# Reads {"tables": {name: metadata file}, "queries": [SQL]}, and prints the rows of each query.
_PROGRAM = """
import json, sys
from pathlib import Path
import duckdb
asked = json.load(sys.stdin)
connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
for name in ("avro", "iceberg"):
    [file] = Path(sys.argv[1]).glob(f"duckdb_extension_{name}/extensions/*/{name}.duckdb_extension")
    connection.execute(f"LOAD '{file}'")
for name, place in asked["tables"].items():
    connection.execute(f"CREATE VIEW {name} AS FROM iceberg_scan('{place}')")
print(json.dumps([connection.execute(sql).fetchall() for sql in asked["queries"]]))
"""


def query(pipeline: Pipeline, *queries: str) -> dict[str, list[Rows]]:
    """The rows of queries over the published tables by either reader; values are to be cast to text.

    A lake in S3 is read by PyIceberg alone: the other reader has no client for it here.
    """
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        names = [name for _, name in catalog._opened.list_tables(catalog.namespace)]
        tables = {name: catalog.table(name) for name in names}
        connection = duckdb.connect()
        for name, table in tables.items():
            assert table is not None
            connection.register(name, table.scan().to_arrow())
        first = [connection.execute(sql).fetchall() for sql in queries]
        places = {name: table.metadata_location for name, table in tables.items() if table}
    if not pipeline.processed_store.folders:
        return {"PyIceberg": first}
    return {"PyIceberg": first, "DuckDB": _extension(places, queries)}


def published(pipeline: Pipeline, name: str) -> Any:
    """A published table, as PyIceberg has it."""
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        return catalog.table(name)


def _extension(tables: Mapping[str, str], queries: Iterable[str]) -> list[Rows]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(READER)],
        input=json.dumps({"tables": dict(tables), "queries": list(queries)}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(READER)},
    )
    assert done.returncode == 0, done.stderr
    return [[tuple(row) for row in rows] for rows in json.loads(done.stdout)]


def as_text(columns: Iterable[str], rows: str) -> str:
    """A query for columns of a relation as text, in order."""
    chosen = ", ".join(f"CAST({engine.name(column)} AS VARCHAR)" for column in columns)
    return f"SELECT {chosen} FROM {rows} ORDER BY ALL"


def star(entry: ModelChanges, name: str) -> str:
    """The SQL by which a reader has a table as the warehouse has it: docs/how-to/iceberg.md gives it."""
    keys = engine.names(entry.key)
    published = f"{engine.name(name)} WHERE batch_id <= (SELECT batch_id FROM {LEDGER})"
    if entry.kind == "versioned":
        return f"(SELECT *, lead(valid_from) OVER (PARTITION BY {keys} ORDER BY valid_from) AS valid_to FROM {published})"
    newest = f"row_number() OVER (PARTITION BY {keys} ORDER BY batch_id DESC)"
    here = "true" if entry.soft_deletes else "NOT is_deleted"
    return f"(SELECT * FROM (SELECT *, {newest} AS newest FROM {published}) WHERE newest = 1 AND {here})"


def check(pipeline: Pipeline) -> dict[str, int]:
    """Makes sure that both readers have every row of the warehouse and no other; returns how many rows each table has."""
    [[batch]] = rows_of(pipeline, f"SELECT max(batch_id) FROM {LEDGER}")
    models = pipeline.processed_journal.read(batch).models
    columns = {name: [column.name for column in entry.columns] for name, entry in models.items()}
    expected = {
        name: sorted(
            tuple(row) for row in rows_of(pipeline, as_text(columns[name], name).partition(" ORDER BY")[0])
        )
        for name in models
    }
    asked = [as_text(columns[name], star(entry, name)) for name, entry in models.items()]
    for reader, found in query(pipeline, *asked, as_text(["batch_id"], LEDGER)).items():
        assert found.pop() == [(str(batch),)], reader
        for name, rows in zip(models, found, strict=True):
            assert sorted(rows, key=str) == sorted(expected[name], key=str), (reader, name)
    return {name: len(rows) for name, rows in expected.items()}
