"""Proof that the warehouse's current rows are the models applied to the source at one snapshot.

The source's tables are read whole, within the very snapshot up to which all is captured, processed and loaded. What
the models give over these is then compared with the warehouse, row by row and column by column.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from totes import engine
from totes.errors import ConfigurationError
from totes.ingestion.capture import position_column, select_rows
from totes.ingestion.source import Snapshot
from totes.lake.journal import processed_journal
from totes.lake.manifest import TableChanges
from totes.pipeline import Pipeline
from totes.processing.batch import bind, load_reference
from totes.processing.calendar import calendar_rows
from totes.processing.query import PROBLEM, BoundQuery
from totes.processing.scope import Leaf
from totes.star.model import Model
from totes.star.project import CALENDAR
from totes.warehouse.adapter import Warehouse
from totes.warehouse.connection import schema_of
from totes.warehouse.table import WarehouseTable, warehouse_tables

EXAMPLES_MAX = 20
_SAMPLE_PARTS = 10_000
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Difference:
    """One row that differs: its key, and each column that does with the source's value and the warehouse's.

    Without columns, the row is in one of them only: `only_in` says in which.
    """

    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]
    only_in: str | None = None


@dataclass(frozen=True)
class TableVerdict:
    """A table compared.

    `rows` were equal. `missing` are only in the models' result, `extra` only in the warehouse, `different` in both.
    `kept` are rows of a latest table that are no more at the source, and that a version of history refers to;
    `set_aside` are in quarantine. `broken` keys have versions that do not follow one another, or several open ones.
    """

    rows: int
    missing: int
    extra: int
    different: int
    kept: int
    set_aside: int
    broken: int
    examples: list[Difference] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different or self.broken)


@dataclass(frozen=True)
class Verdict:
    """The comparison of all tables at a batch."""

    batch: int
    tables: dict[str, TableVerdict]

    @property
    def equal(self) -> bool:
        """Whether no table differs."""
        return all(table.equal for table in self.tables.values())


def verify(pipeline: Pipeline, tables: tuple[str, ...], sample: float, progress: Progress) -> Verdict:
    """Compares the warehouse with the source; captures, processes and loads what is new first.

    Args:
        pipeline: the pipeline.
        tables: the warehouse tables to compare; all if empty.
        sample: which part of the rows is compared, more than 0 and at most 1; chosen by their keys.
        progress: is told what is being done.

    Raises:
        ConfigurationError: there is no such table.
        TotesError: a stage failed.
    """
    names = [model.name for model in pipeline.project.models]
    for unknown in (name for name in tables if name not in names):
        raise ConfigurationError(f"there is no table {unknown}", hint=f"There are {', '.join(names)}")
    with tempfile.TemporaryDirectory(prefix="totes-verify-") as scratch:
        folder = Path(scratch)
        bench = engine.connect(folder / "bench.duckdb", memory=pipeline.settings.lake.memory, scratch=folder)
        with bench:
            described: dict[str, TableChanges] = {}
            progress("reading the source")
            pipeline.ingest(lambda snapshot: described.update(_copy(bench, snapshot, pipeline)))
            progress("processing and loading what is new")
            pipeline.process()
            loaded = pipeline.load()
            queries = {query.model.name: query for query in bind(pipeline.project, described)}
            _prepare(bench, pipeline, queries)
            keys = {name: query.key for name, query in queries.items()}
            verdicts = {}
            with pipeline.warehouse() as warehouse:
                for table in warehouse_tables(pipeline.project.models, keys):
                    if not tables or table.name in tables:
                        progress(f"comparing {table.name}")
                        verdicts[table.name] = _compare(bench, warehouse, pipeline, table, sample)
    return Verdict(loaded.batch, verdicts)


def _copy(bench: engine.Engine, snapshot: Snapshot, pipeline: Pipeline) -> dict[str, TableChanges]:
    """Copies the tables that models read, under positional column names turned back into the source's."""
    needed = {name.lower() for name in pipeline.project.source_tables}
    for table in snapshot.tables:
        if table.name.lower() in needed:
            bench.register("incoming", snapshot.stream(select_rows(table, None)))
            columns = ", ".join(
                f"{position_column(number)}::{'JSON' if column.entry.kind == 'json' else _raw(column.entry.kind)}"
                f" AS {engine.name(column.name)}"
                for number, column in enumerate(table.columns)
            )
            bench.execute(
                f"CREATE TABLE {_source(table.name)} AS SELECT {columns}, NULL::TIMESTAMP AS _at FROM incoming"
            )
            bench.unregister("incoming")
    return {table.name: table.description() for table in snapshot.tables}


def _raw(kind: str) -> str:
    return {"integer": "BIGINT", "boolean": "BOOLEAN"}.get(kind, "VARCHAR")


def _prepare(bench: engine.Engine, pipeline: Pipeline, queries: dict[str, BoundQuery]) -> None:
    """Computes every model over the copy; rows that their declaration or a reference sets aside are marked."""
    newest = processed_journal(pipeline.processed_store).newest()
    years = newest.calendar_years if newest else ()
    bench.execute(f"CREATE TABLE {_source(CALENDAR)} AS {calendar_rows(years)}")
    for name, reference in pipeline.project.references.items():
        load_reference(bench, reference, _source(name))
    for model in pipeline.project.models:
        bench.execute(f"CREATE TABLE {_expected(model.name)} AS {queries[model.name].sql(_rows)}")
        problem = engine.name(PROBLEM)
        keys = engine.names(queries[model.name].key)
        bench.execute(
            f"UPDATE {_expected(model.name)} SET {problem} = 'double' WHERE ({keys}) IN"
            f" (SELECT ({keys}) FROM {_expected(model.name)} GROUP BY ALL HAVING count(*) > 1)"
        )
        for column, target in model.references.items():
            [key] = next(other.primary_key for other in pipeline.project.models if other.name == target)
            bench.execute(
                f"UPDATE {_expected(model.name)} AS row SET {problem} = 'orphan' WHERE {engine.name(column)} IS NOT NULL"
                f" AND NOT EXISTS (SELECT 1 FROM {_expected(target)} AS parent WHERE parent.{problem} IS NULL"
                f" AND parent.{engine.name(key)} = row.{engine.name(column)})"
            )


def _rows(leaf: Leaf) -> str:
    return _source(leaf.relation.name)


def _compare(
    bench: engine.Engine, warehouse: Warehouse, pipeline: Pipeline, table: WarehouseTable, sample: float
) -> TableVerdict:
    model, keys, problem = table.model, table.key, engine.name(PROBLEM)
    with warehouse.current_rows(table) as stream:
        bench.register("incoming", stream)
        bench.execute("CREATE OR REPLACE TABLE actual AS SELECT * FROM incoming")
        bench.unregister("incoming")
    chosen = f"md5_number({engine.name('~key')}) % {_SAMPLE_PARTS} < {round(sample * _SAMPLE_PARTS)}"
    text = "concat_ws(chr(0), " + ", ".join(f"{engine.name(key)}::VARCHAR" for key in keys) + ")"
    for side, rows in (("one", _expected(model.name)), ("other", "actual")):
        bench.execute(
            f"CREATE OR REPLACE TEMP VIEW {side} AS SELECT * FROM (SELECT *, {text} AS {engine.name('~key')} FROM {rows})"
            + (f" WHERE {chosen}" if sample < 1 else "")
        )
    joined = f"one FULL JOIN other ON {engine.same('one', 'other', keys)}"
    columns = [column.name for column in model.produced if column.name not in keys]
    differs = (
        " OR ".join(f"one.{engine.name(c)} IS DISTINCT FROM other.{engine.name(c)}" for c in columns)
        or "false"
    )
    here, there = 'one."~key" IS NOT NULL', 'other."~key" IS NOT NULL'
    [(rows, missing, extra, different, set_aside)] = bench.execute(
        f"SELECT count(*) FILTER ({here} AND {there} AND one.{problem} IS NULL AND NOT ({differs})),"
        f" count(*) FILTER ({here} AND NOT {there} AND one.{problem} IS NULL),"
        f" count(*) FILTER ({there} AND NOT {here}),"
        f" count(*) FILTER ({here} AND {there} AND one.{problem} IS NULL AND ({differs})),"
        f" count(*) FILTER (one.{problem} IS NOT NULL) FROM {joined}"
    ).fetchall()
    kept = (
        _kept(bench, warehouse, pipeline, table, f"SELECT other.* FROM {joined} WHERE {there} AND NOT {here}")
        if extra
        else set()
    )
    wrong = f"one.{problem} IS NULL AND (NOT ({here}) OR NOT ({there}) OR {differs})"
    examples = (
        _examples(bench, model, keys, f"FROM {joined} WHERE {wrong}", kept)
        if missing or different or extra > len(kept)
        else []
    )
    broken = _broken(warehouse, pipeline, table) if model.versioned else 0
    return TableVerdict(rows, missing, extra - len(kept), different, len(kept), set_aside, broken, examples)


def _kept(
    bench: engine.Engine, warehouse: Warehouse, pipeline: Pipeline, table: WarehouseTable, extra: str
) -> set[str]:
    """The keys, as text, of surplus rows of a latest table that a version of history still refers to."""
    if table.model.versioned or not table.referrers:
        return set()
    [key] = table.model.primary_key
    schema = schema_of(pipeline.settings.warehouse_url(), pipeline.settings.warehouse.schema_)
    surplus = {
        str(value)
        for (value,) in bench.execute(f"SELECT {engine.name(key)}::VARCHAR FROM ({extra})").fetchall()
    }
    listed = ", ".join(engine.text(value) for value in sorted(surplus))
    referred: set[str] = set()
    for referrer, column in table.referrers:
        quoted = engine.name(column)
        _, rows = warehouse.query(
            f"SELECT DISTINCT CAST({quoted} AS VARCHAR) FROM {engine.name(schema, referrer)}"
            f" WHERE CAST({quoted} AS VARCHAR) IN ({listed})"
        )
        referred |= {str(value) for (value,) in rows}
    return surplus & referred


def _examples(
    bench: engine.Engine, model: Model, keys: tuple[str, ...], wrong: str, kept: set[str]
) -> list[Difference]:
    columns = [column.name for column in model.produced]
    shown = ", ".join(
        f"{side}.{engine.name(column)}::VARCHAR" for column in columns for side in ("one", "other")
    )
    rows = bench.execute(
        f'SELECT one."~key" IS NOT NULL, other."~key" IS NOT NULL, {shown} {wrong}'
        f' ORDER BY coalesce(one."~key", other."~key") LIMIT {EXAMPLES_MAX + len(kept)}'
    ).fetchall()
    found = []
    for here, there, *values in rows:
        pairs = {column: (values[2 * n], values[2 * n + 1]) for n, column in enumerate(columns)}
        key = {name: pairs[name][0 if here else 1] for name in keys}
        if not here and set(key.values()) <= kept:
            continue
        only_in = None if here and there else "source" if here else "warehouse"
        changed = {c: pair for c, pair in pairs.items() if pair[0] != pair[1]} if only_in is None else {}
        found.append(Difference(key, changed, only_in))
    return found[:EXAMPLES_MAX]


def _broken(warehouse: Warehouse, pipeline: Pipeline, table: WarehouseTable) -> int:
    """How many keys have versions that leave a gap, overlap, go back in time, or are open twice or never."""
    schema = schema_of(pipeline.settings.warehouse_url(), pipeline.settings.warehouse.schema_)
    keys = engine.names(table.key)
    _, [(count,)] = warehouse.query(
        f"SELECT count(*) FROM (SELECT {keys} FROM (SELECT {keys}, valid_from, valid_to,"
        f" lead(valid_from) OVER (PARTITION BY {keys} ORDER BY valid_from, batch_id) AS following"
        f" FROM {engine.name(schema, table.name)}) AS versions GROUP BY {keys}"
        " HAVING count(*) FILTER (WHERE valid_to IS DISTINCT FROM following OR valid_from >= following) > 0) AS broken"
    )
    return int(count)


def _source(relation: str) -> str:
    return engine.name(engine.case_safe("source", relation))


def _expected(model: str) -> str:
    return engine.name(engine.case_safe("expected", model))
