"""Compares what is in lake and warehouse with what the oracle says, without any of the pipeline's parts."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.oracle.model import Expected, Oracle
from tests.oracle.shop import COLUMNS, KEYS, STAR, TABLES, Key
from tests.plain_lake import changes_of, manifests_of, objects_of, rows_of_lake, rows_of_source

_SURROGATES = {"fact_line": "line_record", "fact_note": "note_record"}


def check_packets(objects: dict[str, bytes], manifest: dict[str, Any], expected: Expected) -> None:
    """The batch's packets hold what changed since the batch before, each change once, and nothing else."""
    for table in TABLES:
        lines: dict[Key, Any] = {}
        for line in changes_of(objects, manifest, table):
            operation, at = line.pop("_op"), datetime.fromisoformat(line.pop("_at"))
            key = tuple(line[column] for column in COLUMNS[table][: KEYS[table]])
            assert key not in lines, f"{table} {key} stands twice in batch {manifest['batch']}"
            lines[key] = (tuple(line.values()) if operation == "upsert" else None, at)
        assert lines == expected.changes[table], f"the packet of {table} in batch {manifest['batch']}"


def check_lake(folder: Path, oracle: Oracle, url: str, *, is_complete: bool) -> None:
    """Both journals are gapless and all objects intact; the folded packets are the source; quarantine is right."""
    ingested = objects_of(str(folder / "lake" / "ingestion"))
    manifests = manifests_of(ingested)
    assert len(manifests) == len(oracle.batches)
    if is_complete and manifests:
        assert rows_of_lake(ingested) == rows_of_source(url, manifests[-1])
    processed = objects_of(str(folder / "lake" / "processed"))
    set_aside: dict[str, set[Key]] = {name: set() for name in STAR}
    for manifest, expected in zip(manifests_of(processed), oracle.batches, strict=False):
        for name in STAR:
            changes = manifest["models"][name]
            _apply_quarantine(set_aside[name], folder, changes["quarantine"])
            where = f"{name} in quarantine after batch {manifest['batch']}"
            assert set_aside[name] == expected.quarantine[name], where
            assert changes["quarantine_open"] == len(set_aside[name]), where


def check_warehouse(url: str, oracle: Oracle) -> int:
    """The warehouse holds exactly what the oracle says for the batches in its ledger; gives how many these are."""
    statements = ["SELECT batch_id FROM totes_batches ORDER BY batch_id"]
    for name, model in STAR.items():
        statements.append(f"SELECT * FROM {name} ORDER BY 1")
        if model.versioned:
            statements.append(f"SELECT {_SURROGATES[name]} FROM {name}_current ORDER BY 1")
    ledger, *tables = _query(url, statements)
    batches = len(ledger)
    assert ledger == [(number,) for number in range(1, batches + 1)]
    if not batches:
        return 0
    expected, differences = oracle.batches[batches - 1], []
    for name, model in STAR.items():
        found, where = tables.pop(0), f"{name} after batch {batches}"
        if not model.versioned:
            rows = [expected.latest[name][key] for key in sorted(expected.latest[name])]
            differences += _differences(where, found, rows)
            continue
        history = oracle.history(name, batches)
        differences += _differences(where, found, history)
        current = [row[0] for row in history if row[-3] is None and not row[-2]]
        assert tables.pop(0) == [(surrogate,) for surrogate in current], (
            f"{name}_current after batch {batches}"
        )
    return batches


def _apply_quarantine(set_aside: set[Key], folder: Path, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        file = folder / "lake" / "processed" / entry["path"]
        with duckdb.connect() as engine:
            rows = engine.execute(
                "SELECT row_key, max(reason) FROM read_parquet(?, hive_partitioning = false) GROUP BY 1",
                [str(file)],
            ).fetchall()
        for text, reason in rows:
            key = tuple(json.loads(text).values())
            if reason is None:
                assert key in set_aside, f"{key} leaves quarantine, and was not in it"
                set_aside.discard(key)
            else:
                set_aside.add(key)


def _differences(where: str, found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> list[str]:
    wrong = [row for row in found if row not in expected]
    missing = [row for row in expected if row not in found]
    return [f"{where}: found {wrong}, and not {missing}"] if found != expected else []


def _query(url: str, statements: list[str]) -> list[list[tuple[Any, ...]]]:
    if url.startswith("duckdb:///"):
        path = Path(url.removeprefix("duckdb:///"))
        if not path.exists():
            return [[] for _ in statements]
        with duckdb.connect(str(path), read_only=True) as file:
            if not file.execute(
                "SELECT 1 FROM duckdb_tables() WHERE table_name = 'totes_batches'"
            ).fetchall():
                return [[] for _ in statements]
            return [file.execute(statement).fetchall() for statement in statements]
    with psycopg.connect(url) as server:
        if server.execute("SELECT to_regclass('totes_batches')").fetchone() == (None,):
            return [[] for _ in statements]
        return [server.execute(statement.encode()).fetchall() for statement in statements]
