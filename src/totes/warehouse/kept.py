"""Which rows leave a latest table: all that are gone from the star, but for those that a row of the warehouse refers to.

A row that is gone stays for as long as some row refers to it that itself stays, and goes with the first load after that.
What stays is listed in the warehouse's own table `totes_kept`, each row with the table that it is kept for, so that a
load looks again only at rows that are kept for a table which it has changed. What is left is a function of the batches
alone, and a replay gives the same.
"""

from __future__ import annotations

from typing import Any, Protocol

from totes import engine
from totes.star.declaration import KEPT
from totes.warehouse import ddl
from totes.warehouse.table import Referrer, WarehouseTable

_CANDIDATES, _STAYING = "totes_candidates", "totes_staying"


class Statements(Protocol):
    """What an adapter offers for the removal of rows, all within the transaction of a load."""

    dialect: ddl.Dialect

    def execute(self, sql: str) -> int:
        """Runs a statement, and gives how many rows it changed."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    def relation(self, table: str) -> str:
        """A table's quoted name with its schema."""

    def present_referrers(self, table: WarehouseTable) -> tuple[Referrer, ...]:
        """The columns in the warehouse that refer to a table."""

    def prepare_search(self, referrers: tuple[Referrer, ...]) -> None:
        """Is called before these columns are searched for the keys of gone rows."""


class Removal:
    """The removal of rows in one load; tables come in turn, each after those that refer to it."""

    def __init__(self, statements: Statements) -> None:
        self._do = statements
        self._kept = statements.relation(KEPT)
        self._changed: set[str] = set()
        self._kept_for: dict[str, set[str]] = {}
        for table, referrer in statements.rows(f"SELECT DISTINCT table_name, referred_by FROM {self._kept}"):
            self._kept_for.setdefault(table, set()).add(referrer)

    def take_back(self, table: WarehouseTable, rows: str) -> None:
        """Notes that rows have been written, with those among them that were kept and have come back.

        Args:
            table: their table.
            rows: a relation with their primary keys.
        """
        self._changed.add(table.name)
        if table.name in self._kept_for:
            self._do.execute(
                f"DELETE FROM {self._kept} WHERE table_name = {engine.text(table.name)} AND"
                f" {self._typed(table)} IN (SELECT {engine.name(table.key[0])} FROM {rows})"
            )

    def remove(self, table: WarehouseTable, gone: str | None) -> None:
        """Removes rows that are gone, and rows that were kept and need not be any longer.

        Args:
            table: their table.
            gone: a relation with the primary keys of rows that are gone with this batch, if there are any.
        """
        if gone:
            self._changed.add(table.name)
        if not table.can_be_referred_to:
            if gone:
                self._delete(table, gone)
            return
        if not gone and table.name not in self._kept_for:
            return
        referrers = self._do.present_referrers(table)
        doubtful = self._doubtful(table, referrers, anything=bool(gone))
        if not gone and not doubtful:
            return
        [key] = table.key
        parts = [f"SELECT {engine.name(key)} AS k FROM {gone} AS gone"] if gone else []
        if doubtful:
            listed = ", ".join(engine.text(name) for name in sorted(doubtful))
            parts.append(
                f"SELECT {self._typed(table)} AS k FROM {self._kept}"
                f" WHERE table_name = {engine.text(table.name)} AND referred_by IN ({listed})"
            )
        self._do.execute(f"CREATE TEMPORARY TABLE {_CANDIDATES} AS {' UNION '.join(parts)}")
        self._do.prepare_search(referrers)
        self._find_staying(table, referrers)
        self._settle(table)
        for made in (_CANDIDATES, _STAYING):
            self._do.execute(f"DROP TABLE {made}")

    def _doubtful(
        self, table: WarehouseTable, referrers: tuple[Referrer, ...], *, anything: bool
    ) -> set[str]:
        """The tables for which rows are kept that may have changed so that they do not need them."""
        there = {referrer.table for referrer in referrers}
        lasting = {referrer.table for referrer in referrers if referrer.versioned}
        kept_for = self._kept_for.get(table.name, set())
        doubtful = {name for name in kept_for if name not in there or name in self._changed - lasting}
        if (doubtful or anything) and table.name in kept_for:
            doubtful.add(table.name)  # a row that is kept for another row of the table goes with it
        return doubtful

    def _find_staying(self, table: WarehouseTable, referrers: tuple[Referrer, ...]) -> None:
        """Those of the candidates that are referred to: by other tables, then by what stays in the table itself."""
        self._do.execute(
            f"CREATE TEMPORARY TABLE {_STAYING} AS SELECT k, CAST('' AS VARCHAR) AS referred_by FROM {_CANDIDATES} LIMIT 0"
        )
        # First those whose rows never go, so that what is kept for them is not looked at again.
        others = [referrer for referrer in referrers if referrer.table != table.name]
        for referrer in sorted(others, key=lambda one: not one.versioned):
            self._keep(referrer, "true")
        own = [referrer for referrer in referrers if referrer.table == table.name]
        itself = engine.name("referrer", table.key[0])
        stays = (
            f"(NOT EXISTS (SELECT 1 FROM {_CANDIDATES} AS other WHERE other.k = {itself})"
            f" OR EXISTS (SELECT 1 FROM {_STAYING} AS other WHERE other.k = {itself}))"
        )
        found = 1
        while own and found:
            found = sum(self._keep(referrer, stays) for referrer in own)

    def _keep(self, referrer: Referrer, condition: str) -> int:
        return self._do.execute(
            f"INSERT INTO {_STAYING} SELECT k, {engine.text(referrer.table)} FROM {_CANDIDATES} AS gone"
            f" WHERE NOT EXISTS (SELECT 1 FROM {_STAYING} AS staying WHERE staying.k = gone.k)"
            f" AND EXISTS (SELECT 1 FROM {referrer.relation or self._do.relation(referrer.table)} AS referrer"
            f" WHERE {engine.name('referrer', referrer.column)} = gone.k AND {condition})"
        )

    def _settle(self, table: WarehouseTable) -> None:
        [key] = table.key
        deleted = self._do.execute(
            f"DELETE FROM {self._do.relation(table.name)} AS present USING {_CANDIDATES} AS gone"
            f" WHERE {engine.name('present', key)} = gone.k"
            f" AND NOT EXISTS (SELECT 1 FROM {_STAYING} AS staying WHERE staying.k = gone.k)"
        )
        if deleted:
            self._changed.add(table.name)
        itself = engine.text(table.name)
        self._do.execute(
            f"DELETE FROM {self._kept} WHERE table_name = {itself}"
            f" AND {self._typed(table)} IN (SELECT k FROM {_CANDIDATES})"
        )
        self._do.execute(
            f"INSERT INTO {self._kept} SELECT {itself}, CAST(k AS VARCHAR), referred_by FROM {_STAYING}"
        )

    def _delete(self, table: WarehouseTable, gone: str) -> None:
        self._do.execute(
            f"DELETE FROM {self._do.relation(table.name)} AS present USING {gone} AS gone"
            f" WHERE {engine.equal('present', 'gone', table.key)}"
        )

    def _typed(self, table: WarehouseTable) -> str:
        """A listed key in the type of the table's primary key."""
        [column] = [column for column in table.model.columns if column.name == table.key[0]]
        return f"CAST(row_key AS {ddl.column_type(column, self._do.dialect)})"
