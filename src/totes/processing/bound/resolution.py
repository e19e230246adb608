"""Makes a bound query of a model: what its query means over the relations of one moment, checked against its declaration."""

from __future__ import annotations

import duckdb
from sqlglot import exp

from totes import engine
from totes.errors import ModelError
from totes.processing.bound.declared import Output
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.lossless_casts import FLOATING, WHOLE
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relation, RelationColumn, Relations
from totes.processing.bound.row_errors import attempt
from totes.processing.bound.scope import Binder, carry_hidden, note_typed, origin, raw_reference, relaxed
from totes.processing.bound.verbatim import written_types
from totes.star.column import Column
from totes.star.model import Model
from totes.star.written import line_of, sql


def bound_query(model: Model, relations: Relations, connection: engine.Engine) -> BoundQuery:
    """Binds a model to relations. The engine is asked for the types of its expressions.

    Raises:
        ModelError: it names what is not there, or declares types that its query does not give.
    """
    return _Resolution(model, relations).bound(relations, connection)


class _Resolution:
    """A model's query with all names resolved, on its way to SQL."""

    def __init__(self, model: Model, relations: Relations) -> None:
        binder = Binder(model, relations)
        self.model = model
        self._scope = binder.bind()
        self.leaves: tuple[Leaf, ...] = tuple(binder.leaves)
        self.base = self.leaves[0]
        self._base_carriers: tuple[str, ...] = ()

    def bound(self, relations: Relations, connection: engine.Engine) -> BoundQuery:
        """The bound query."""
        model, expressions = self.model, self._scope.outputs()
        key = self._natural_key(expressions) if model.versioned else model.primary_key
        carriers = self._base_key_carriers(expressions)
        self._base_carriers = tuple(carriers.get(part, "") for part in self.base.relation.key)
        key_is_base_key = bool(self.base.relation.key) and set(self._base_carriers) == set(key)
        is_exact = key_is_base_key and self._carried_exactly()
        is_read_from_text = key_is_base_key and self._reads_key_from_text()
        outputs = self._prepare(expressions, self._natural_types(connection, relations))
        hidden = carry_hidden(self._scope)
        note_typed(self._scope)
        text, relaxed_text = sql(self._scope.select), sql(relaxed(self._scope.select))
        return BoundQuery(
            model, self.leaves, key, self._base_carriers, is_exact, is_read_from_text, tuple(outputs), hidden, text,
            relaxed_text,
        )  # fmt: skip

    def _natural_types(self, connection: engine.Engine, relations: Relations) -> list[str]:
        """Asks the engine for the type of each expression, over relations without rows.

        The model's own text is what it is asked about first: what DuckDB refuses is refused.
        """
        theirs = written_types(self.model, relations, connection)
        leaves = ", ".join(
            f"{engine.name(leaf.name)} AS ({leaf.sql(_no_rows(leaf.relation))})" for leaf in self.leaves
        )
        try:
            described = connection.execute(f"DESCRIBE WITH {leaves} {sql(self._scope.select)}").fetchall()
        except duckdb.Error as error:
            message = str(error).partition("\n")[0].replace("~leaf", "leaf ")
            raise ModelError(self.model.path, self.model.query_line, message) from error
        types = [str(row[1]) for row in described]
        for projection, own, other in zip(self._scope.select.expressions, types, theirs, strict=True):
            if own != other:
                raise ModelError(
                    self.model.path,
                    line_of(projection),
                    f"{projection.alias} is a {other} as it is written, and would be a {own}",
                    hint="Write its expression in a plainer way",
                )
        return types

    def _prepare(self, expressions: dict[str, exp.Expr], types: list[str]) -> list[Output]:
        declared = {column.name: column for column in self.model.produced}
        outputs, projections = [], []
        for number, ((name, expression), natural) in enumerate(zip(expressions.items(), types, strict=True)):
            column, passed_on = declared[name], origin(self._scope, expression)
            self._check_type(column, natural, expression, passed_on[1] if passed_on else None)
            wrapped = passed_on is None
            source_type = natural
            if passed_on and passed_on[1].carried_as_text:
                assert isinstance(expression, exp.Column)
                expression, natural, source_type = (
                    raw_reference(self._scope, expression),
                    "VARCHAR",
                    passed_on[1].typed,
                )
            if wrapped:
                expression = attempt(expression)
            projections.append(exp.alias_(expression.copy(), f"~v{number}", quoted=True))
            is_document = source_type == "JSON" and column.type not in ("JSON", "VARCHAR")
            if is_document:
                natural = source_type = "VARCHAR"
            outputs.append(Output(column, natural, source_type, wrapped, is_document, passed_on))
        self._scope.select.set("expressions", projections)
        return outputs

    def _check_type(
        self, column: Column, natural: str, expression: exp.Expr, passed_on: RelationColumn | None
    ) -> None:
        kinds = {_kind(natural), _kind(column.type)}
        if len(kinds) == 1 or "text" in kinds or natural == '"NULL"':
            return
        if kinds <= {"number", "floating"} or (_kind(natural), column.type) == ("DATE", "TIMESTAMP"):
            return
        what = f"{passed_on.name} is a {natural}" if passed_on else f"its expression gives a {natural}"
        raise ModelError(
            self.model.path,
            line_of(expression),
            f"{column.name} is declared {column.type}, but {what}",
            hint=f"Declare it {natural}, or write CAST(… AS {column.type})",
        )

    def _natural_key(self, expressions: dict[str, exp.Expr]) -> tuple[str, ...]:
        carriers = self._base_key_carriers(expressions)
        missing = [key for key in self.base.relation.key if key not in carriers]
        if not self.base.relation.key:
            raise ModelError(
                self.model.path,
                self.model.query_line,
                f"every version is kept, so the first table must be a source table, not {self.base.relation.name}",
            )
        if missing:
            raise ModelError(
                self.model.path,
                self.model.query_line,
                f"every version is kept, but the query does not give {self.base.relation.name}.{missing[0]}, "
                "a part of the first table's primary key",
                hint="Declare and select it: it identifies the row that a version is of",
            )
        key = tuple(carriers[part] for part in self.base.relation.key)
        documents = [c.name for c in self.model.produced if c.name in key and c.type == "JSON"]
        if documents:
            raise ModelError(
                self.model.path,
                self.model.query_line,
                f"{documents[0]} identifies the row that a version is of, and is JSON, which PostgreSQL cannot compare",
                hint="Declare it VARCHAR",
            )
        return key

    def _carried_exactly(self) -> bool:
        """Whether the key columns hold what the lake holds, so that they serve as lineage themselves."""
        types = {column.name: column.type for column in self.model.produced}
        raw = [self.base.relation.raw_type(part) for part in self.base.relation.key]
        return all(
            (kind == "BIGINT" and types[carrier] in WHOLE) or (kind == types[carrier] == "VARCHAR")
            for kind, carrier in zip(raw, self._base_carriers, strict=True)
        )

    def _reads_key_from_text(self) -> bool:
        """Whether two keys that differ as text may be one key as it is declared."""
        types = {column.name: column.type for column in self.model.produced}
        typed = {column.name: column.typed for column in self.base.relation.columns}
        return any(
            typed[part] in ("VARCHAR", "JSON") and types[carrier] != "VARCHAR"
            for part, carrier in zip(self.base.relation.key, self._base_carriers, strict=True)
        )

    def _base_key_carriers(self, expressions: dict[str, exp.Expr]) -> dict[str, str]:
        carriers: dict[str, str] = {}
        for name, expression in expressions.items():
            passed_on = origin(self._scope, expression)
            if passed_on and passed_on[0] is self.base:
                carriers.setdefault(passed_on[1].name, name)
        return carriers


def _kind(type_name: str) -> str:
    if type_name in WHOLE or type_name.startswith("DECIMAL"):
        return "number"
    if type_name in FLOATING:
        return "floating"
    return (
        "text"
        if type_name in ("VARCHAR", "JSON") or type_name.startswith("ENUM")
        else type_name.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
    )


def _no_rows(relation: Relation) -> str:
    columns = ", ".join(
        f"NULL::{column.raw_type} AS {engine.name(column.name)}" for column in relation.columns
    )
    return f"(SELECT {columns}, NULL::TIMESTAMP AS _at WHERE false)"
