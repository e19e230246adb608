"""Compares one warehouse table: its current rows with the model applied to the source, and all its rows with the lake.

All rows are in tables of an engine that works on disk. Python sees only counts, and a few rows that differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from totes import engine
from totes.lake.manifest import OutputColumn
from totes.monitoring.expectation import DOUBLE, ORPHAN, expected
from totes.monitoring.lake_rows import lake_lineage, lake_quarantine, lake_rows
from totes.processing.bound.problem import PROBLEM
from totes.processing.bound.query import BoundQuery
from totes.warehouse.copies import BENT
from totes.warehouse.table import WarehouseTable

EXAMPLES_MAX = 20
CURRENT = "~current"
_HERE, _THERE = engine.name("~here"), engine.name("~there")
# Types with values that are equal for the engine but not the same: 30 days and a month, 0 and -0.
_AS_WRITTEN = {"INTERVAL", "FLOAT", "DOUBLE"}
_Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Difference:
    """One row that differs: its key, and for each column that differs, the expected value and the warehouse's.

    `against` is what the warehouse was compared with. A row without columns is on one side only, given by `only_in`.
    """

    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]
    only_in: str | None = None
    against: Literal["source", "lake"] = "source"


@dataclass(frozen=True)
class TableVerdict:
    """The result of comparing a table.

    Of the current rows, `rows` are equal to those of the models applied to the source, `missing` are only there, `extra` only
    in the warehouse, and `different` in both; `quarantined` are in quarantine. Of all rows, including older versions and
    deleted ones, `altered` differ from the lake. `broken` keys have versions that do not follow one another, or several open
    ones. `lacking` names what the warehouse does not have at all: the table, its view, columns. `checksum` is that of
    all rows, without surrogates and times of versions: the same in every warehouse with the same versions.
    """

    rows: int
    missing: int
    extra: int
    different: int
    quarantined: int
    broken: int
    altered: int = 0
    lacking: tuple[str, ...] = ()
    note: str | None = None
    examples: list[Difference] = field(default_factory=list)
    checksum: str = ""

    @property
    def compared(self) -> int:
        """How many keys were compared."""
        return self.rows + self.missing + self.extra + self.different + self.quarantined

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (
            self.missing or self.extra or self.different or self.broken or self.altered or self.lacking
        )


def actual(table: str) -> str:
    """The quoted name of the table with a copy of a warehouse table's rows."""
    return engine.name(engine.case_safe("actual", table))


class Comparison:
    """The comparison of one table; the engine has the expected rows, the lake's, and the warehouse's."""

    def __init__(self, bench: engine.Engine, table: WarehouseTable, query: BoundQuery, chosen: str) -> None:
        """Prepares the comparison.

        Args:
            bench: the engine.
            table: the table.
            query: its bound model.
            chosen: the SQL condition of the rows to compare.
        """
        self._bench = bench
        self._table = table
        self._model = table.model
        self._query = query
        self._chosen = chosen
        self._types = {column.name: column.type for column in self._model.output}
        self._examples: list[Difference] = []

    def run(self, lacking: tuple[str, ...], note: str | None) -> TableVerdict:
        """Compares the table."""
        produced = [column.name for column in self._model.produced]
        present = f"(SELECT * FROM {actual(self._table.name)} WHERE {engine.name(CURRENT)})"
        good = f"(SELECT * FROM {expected(self._table.name)} WHERE {engine.name(PROBLEM)} IS NULL AND {self._chosen})"
        self._find_odd("odd", good, present, self._table.key, produced)
        rows = self._count(good) - self._count("odd", _HERE)
        loaded, quarantined, lost = self._explain_problems(present)
        missing, extra, different = self._report("odd", self._table.key, produced, "source")
        double = self._double(f"{present} AS rows", self._table.key, "source")
        altered = self._compare_with_lake()
        broken = self._broken() if self._model.versioned else 0
        return TableVerdict(
            rows + loaded,
            missing + lost,
            extra + double,
            different,
            quarantined,
            broken,
            altered,
            lacking,
            note,
            self._examples[:EXAMPLES_MAX],
            self._checksum([*produced, CURRENT]),
        )

    def _checksum(self, columns: list[str]) -> str:
        """The sum of digests of the warehouse's rows, as 16 hexadecimal digits."""
        values = ", ".join(f"{engine.name(column)}::VARCHAR" for column in columns)
        digests = (
            f"SELECT sum(md5_number_lower(json_array({values})::VARCHAR)) FROM {actual(self._table.name)}"
        )
        return f"{int(engine.scalar(self._bench, digests) or 0) % (1 << 64):016x}"

    def _find_odd(self, odd: str, one: str, other: str, keys: tuple[str, ...], columns: list[str]) -> None:
        """Creates a table of the rows that differ between two sides, with `s~` columns of one and `w~` columns of the other."""
        differs = " OR ".join(
            [f"other.{engine.name(BENT)}"]
            + [self._unlike("one", "other", column) for column in columns if column not in keys]
        )
        both = "one.present IS NOT NULL AND other.present IS NOT NULL"
        sides = ", ".join(
            f"{side}.{engine.name(column)} AS {engine.name(f'{mark}~{column}')}"
            for column in columns
            for side, mark in (("one", "s"), ("other", "w"))
        )
        self._bench.execute(
            f"CREATE OR REPLACE TABLE {odd} AS SELECT one.present IS NOT NULL AS {_HERE},"
            f" other.present IS NOT NULL AS {_THERE}, {sides}"
            f" FROM (SELECT *, true AS present FROM {one} AS rows) AS one"
            f" FULL JOIN (SELECT *, true AS present FROM {other} AS rows) AS other ON {self._same('one', 'other', keys)}"
            f" WHERE NOT coalesce({both} AND NOT ({differs}), false)"
        )

    def _explain_problems(self, present: str) -> tuple[int, int, int]:
        """Counts the rows with a problem: how many are loaded, how many quarantined, and how many are neither.

        A row that is an orphan now, or has the same key as another row, may have been loaded before it became one. For a
        quarantined row, the previous version may be in the warehouse; what that must look like is only known from the lake.
        """
        base = self._query.base
        shown, columns = (base.relation.key, base.key) if base.key else (self._query.key, self._query.key)
        members = ", ".join(
            f"{engine.text(name)}, {engine.name(column)}" for name, column in zip(shown, columns, strict=True)
        )
        produced = [column.name for column in self._model.produced]
        self._bench.execute(
            f"CREATE OR REPLACE TABLE bad AS SELECT * EXCLUDE (row_key), bad.row_key IN"
            f" (SELECT row_key FROM {lake_quarantine(self._table.name)}) AS quarantined"
            f" FROM (SELECT *, json_object({members})::VARCHAR AS row_key FROM {expected(self._table.name)}"
            f" WHERE {engine.name(PROBLEM)} IS NOT NULL AND {self._chosen}) AS bad"
        )
        if not self._count("bad"):
            return 0, 0, 0
        alike = " AND ".join(
            [self._same("bad", "present", self._table.key)]
            + [f"NOT ({self._unlike('bad', 'present', c)})" for c in produced if c not in self._table.key]
        )
        self._bench.execute(
            f"CREATE OR REPLACE TABLE loaded AS SELECT DISTINCT {engine.names(self._table.key, 'present')}"
            f" FROM bad JOIN {present} AS present ON {alike} AND NOT present.{engine.name(BENT)}"
            f" WHERE bad.{engine.name(PROBLEM)} IN ({engine.text(DOUBLE)}, {engine.text(ORPHAN)})"
        )
        is_loaded = f"EXISTS (SELECT 1 FROM loaded WHERE {self._same('bad', 'loaded', self._table.key)})"
        self._dismiss("loaded", [(key, key) for key in self._table.key])
        lost = f"NOT quarantined AND NOT {is_loaded}"
        self._report_lost(lost)
        self._dismiss_previous_versions()
        return (
            self._count("loaded"),
            self._count("bad", f"quarantined AND NOT {is_loaded}"),
            self._count("bad", lost),
        )

    def _dismiss_previous_versions(self) -> None:
        """Removes from the odd rows those whose source row is in quarantine now."""
        base = self._query.base
        if self._query.key_is_base_key or not base.key:
            self._dismiss("(SELECT * FROM bad WHERE quarantined)", [(key, key) for key in self._table.key])
            return
        equal = " AND ".join(
            f"lineage.{engine.name(column)} = bad.{engine.name(column)}::VARCHAR" for column in base.key
        )
        before = (
            f"(SELECT lineage.* FROM {lake_lineage(self._table.name)} AS lineage"
            f" JOIN (SELECT * FROM bad WHERE quarantined) AS bad ON {equal})"
        )
        self._dismiss(before, [(key, key) for key in self._table.key])

    def _compare_with_lake(self) -> int:
        """How many rows, including older versions, differ from the lake."""
        name, columns = self._table.name, list(self._table.columns)
        keys = self._model.primary_key if self._model.versioned else self._table.key
        self._find_odd("odd_in_lake", lake_rows(name), actual(name), keys, columns)
        differing = self._report("odd_in_lake", keys, columns, "lake")
        return sum(differing) + self._double(f"{actual(name)} AS rows", keys, "lake")

    def _broken(self) -> int:
        """How many keys have versions that leave a gap, overlap, go back in time, or are open twice or never."""
        keys = engine.names(self._table.key)
        return self._count(
            f"(SELECT {keys} FROM (SELECT {keys}, valid_from, valid_to,"
            f" lead(valid_from) OVER (PARTITION BY {keys} ORDER BY valid_from, batch_id) AS following"
            f" FROM {actual(self._table.name)}) GROUP BY ALL"
            " HAVING count(*) FILTER (WHERE valid_to IS DISTINCT FROM following OR valid_from >= following) > 0)"
        )

    def _report(
        self, odd: str, keys: tuple[str, ...], columns: list[str], against: Literal["source", "lake"]
    ) -> tuple[int, int, int]:
        """Counts odd rows (missing, extra, different), and adds some of them to the examples."""
        counts = (
            self._count(odd, f"{_HERE} AND NOT {_THERE}"),
            self._count(odd, f"{_THERE} AND NOT {_HERE}"),
            self._count(odd, f"{_HERE} AND {_THERE}"),
        )
        known = {tuple(example.key.get(key) for key in self._table.key) for example in self._examples}
        shown = ", ".join(f"{engine.name(f'{m}~{c}')}::VARCHAR" for c in columns for m in ("s", "w"))
        order = ", ".join(f"coalesce({engine.name(f's~{k}')}, {engine.name(f'w~{k}')})" for k in keys)
        rows = self._bench.execute(
            f"SELECT {_HERE}, {_THERE}, {shown} FROM {odd} ORDER BY {order} LIMIT {EXAMPLES_MAX + len(known)}"
        ).fetchall()
        for here, there, *values in rows:
            pairs = {column: (values[2 * n], values[2 * n + 1]) for n, column in enumerate(columns)}
            key = {name: pairs[name][0 if here else 1] for name in dict.fromkeys((*self._table.key, *keys))}
            if against == "lake" and tuple(key[name] for name in self._table.key) in known:
                continue  # an example already: it differs from the source too
            only_in = None if here and there else against if here else "warehouse"
            changed = {c: pair for c, pair in pairs.items() if pair[0] != pair[1]} if only_in is None else {}
            self._examples.append(Difference(key, changed, only_in, against))
        return counts

    def _report_lost(self, condition: str) -> None:
        columns = ", ".join(f"{engine.name(key)}::VARCHAR" for key in self._table.key)
        for row in self._bench.execute(
            f"SELECT {columns} FROM bad WHERE {condition} ORDER BY ALL LIMIT {EXAMPLES_MAX}"
        ).fetchall():
            self._examples.append(Difference(dict(zip(self._table.key, row, strict=True)), {}, "source"))

    def _double(self, rows: str, keys: tuple[str, ...], against: Literal["source", "lake"]) -> int:
        """How many more rows there are than keys."""
        listed = engine.names(keys)
        double = f"(SELECT {listed}, count(*) - 1 AS more FROM {rows} GROUP BY ALL HAVING count(*) > 1)"
        for *values, _ in self._bench.execute(
            f"SELECT COLUMNS(*)::VARCHAR FROM {double} ORDER BY ALL LIMIT {EXAMPLES_MAX}"
        ).fetchall():
            key = dict(zip(keys, values, strict=True))
            if key not in [example.key for example in self._examples]:
                self._examples.append(Difference(key, {}, "warehouse", against))
        return int(engine.scalar(self._bench, f"SELECT coalesce(sum(more), 0) FROM {double}"))

    def _dismiss(self, explained: str, pairs: _Pairs) -> None:
        """Removes from the odd rows those that are only in the warehouse for a known reason."""
        equal = " AND ".join(
            self._equal(f"odd.{engine.name(f'w~{key}')}", f"known.{engine.name(other)}", key)
            for key, other in pairs
        )
        self._bench.execute(
            f"DELETE FROM odd USING {explained} AS known WHERE {equal} AND {_THERE} AND NOT {_HERE}"
        )

    def _same(self, one: str, other: str, columns: tuple[str, ...]) -> str:
        return " AND ".join(
            self._equal(engine.name(one, column), engine.name(other, column), column) for column in columns
        )

    def _equal(self, one: str, other: str, column: str) -> str:
        written = "::VARCHAR" if self._types[column] in _AS_WRITTEN else ""
        return f"{one}{written} IS NOT DISTINCT FROM {other}{written}"

    def _unlike(self, one: str, other: str, column: str) -> str:
        return f"NOT ({self._equal(engine.name(one, column), engine.name(other, column), column)})"

    def _count(self, rows: str, condition: str = "true") -> int:
        return int(engine.scalar(self._bench, f"SELECT count(*) FROM {rows} AS bad WHERE {condition}"))


def copied_columns(table: WarehouseTable) -> tuple[OutputColumn, ...]:
    """The columns of the copy of a warehouse table: its own, and whether the row is current."""
    return (*table.model.output, OutputColumn(name=CURRENT, type="BOOLEAN"))
