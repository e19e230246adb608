"""A leaf: one occurrence of a relation in a model's query, with what its rows carry along to the output rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from totes import engine
from totes.processing.bound.problem import Condition, found, problem, suspected
from totes.processing.bound.relation import Relation

BAD, AT, PLACE = "~bad", "~at", "~place"
NO_PLACE = "NULL::BIGINT"


@dataclass
class Leaf:
    """One occurrence of a relation in a query.

    `named` are the columns that the query names, and `computed` those of them that expressions compute with, as opposed to
    those that are only passed on. `typed` are those that the bound query reads as values: most that are only passed on are
    read in their raw form. No other column is typed: a table may have 1,600 of which a model names two.
    """

    index: int
    relation: Relation
    named: set[str] = field(default_factory=set)
    computed: set[str] = field(default_factory=set)
    typed: set[str] | None = None  # until the query is bound, all that are named

    @property
    def name(self) -> str:
        """The name of the leaf's common table expression."""
        return f"~leaf{self.index}"

    @property
    def key(self) -> tuple[str, ...]:
        """The hidden columns with the key of the leaf's row; NULL where an outer join found none."""
        return tuple(f"~k{self.index}.{number}" for number in range(len(self.relation.key)))

    @property
    def hidden(self) -> tuple[str, ...]:
        """All hidden columns of the leaf."""
        return (*self.key, f"{BAD}{self.index}", *((AT, PLACE) if self.index == 0 else ()))

    def sql(self, rows: str, place: str = NO_PLACE) -> str:
        """The leaf's definition over `rows`, a relation with the columns as they are held and, for a source table, `_at`.

        Args:
            rows: the relation.
            place: of the first table, SQL for the place of a row among several of one key.
        """
        columns = []
        for column in (column for column in self.relation.columns if column.name in self.named):
            quoted = engine.name(column.name)
            if self.typed is None or column.name in self.typed:
                columns.append(f"{column.typed_expression(quoted)} AS {quoted}")
            if column.carried_as_text:
                columns.append(f"{quoted} AS {engine.name(raw_name(column.name))}")
        for hidden, key in zip(self.key, self.relation.key, strict=True):
            columns.append(f"{engine.name(key)} AS {engine.name(hidden)}")
        if self.index == 0:
            columns.append(f"{'_at' if self.relation.is_source else 'NULL::TIMESTAMP'} AS {engine.name(AT)}")
            columns.append(f"{place} AS {engine.name(PLACE)}")
        typed, conditions = f"SELECT {', '.join(columns)}", self._conditions()
        bad = f"{found(conditions, suspected(conditions))} AS {engine.name(BAD + str(self.index))}"
        if not conditions:
            return f"{typed}, {bad} FROM {rows}"
        # Around it, so that no value is typed twice.
        return f"SELECT *, {bad} FROM ({typed} FROM {rows})"

    def _conditions(self) -> list[Condition]:
        """The problems of a typed row whose values its expressions cannot compute with."""
        conditions = []
        for column in self.relation.columns:
            if column.carried_as_text and column.name in self.computed:
                raw = engine.name(raw_name(column.name))
                failed = f"({raw} IS NOT NULL AND {engine.name(column.name)} IS NULL)"
                held = " whose numbers a DOUBLE holds" if column.typed == "JSON" else ""
                kind = f"cannot be computed with, being no {column.typed}{held}"
                of = f"{self.relation.name}.{column.name}"
                conditions.append(Condition(failed, problem(of, kind, value=raw)))
        return conditions


def raw_name(column: str) -> str:
    """The name under which a leaf passes on a column's raw form."""
    return f"{column}~raw"
