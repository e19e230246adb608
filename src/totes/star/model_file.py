"""Reads a model file: one statement `CREATE TABLE … AS SELECT …`, with its comment."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlglot import exp

from totes.errors import ModelError
from totes.star.column import Column
from totes.star.model import WIDEST_DECIMAL, Model, read_definition
from totes.star.parsing import statement_of
from totes.star.written import Dialect, folded, line_of, output_name, span

_TYPES = {
    exp.DType.BOOLEAN: "BOOLEAN",
    exp.DType.TINYINT: "TINYINT",
    exp.DType.SMALLINT: "SMALLINT",
    exp.DType.INT: "INTEGER",
    exp.DType.BIGINT: "BIGINT",
    exp.DType.FLOAT: "FLOAT",
    exp.DType.DOUBLE: "DOUBLE",
    exp.DType.DATE: "DATE",
    exp.DType.TIME: "TIME",
    exp.DType.TIMESTAMP: "TIMESTAMP",
    exp.DType.TIMESTAMPNTZ: "TIMESTAMP",
    exp.DType.DATETIME: "TIMESTAMP",
    exp.DType.TIMESTAMPTZ: "TIMESTAMPTZ",
    exp.DType.INTERVAL: "INTERVAL",
    exp.DType.UUID: "UUID",
    exp.DType.VARBINARY: "BLOB",
    exp.DType.JSON: "JSON",
    exp.DType.JSONB: "JSON",
}
_TEXTS = {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR}
_ONE_KEY = "Write REFERENCES table: a reference is to the one column that is the table's primary key"
# A comment with the previous name of a column.
_WAS = re.compile(r'was:\s*(?:"((?:[^"]|"")+)"|(\w+))', re.IGNORECASE)
_INTEGERS = {"SMALLINT", "INTEGER", "BIGINT"}


def parse_model(path: Path) -> Model:
    """Reads a model file.

    Raises:
        ModelError: it is not one `CREATE TABLE … AS SELECT …`, or its declaration does not match its query.
    """
    return parse_definition(path, read_definition(path))


def parse_definition(path: Path, text: str) -> Model:
    """Parses the text of a model file; `path` is where it is or was, for messages.

    Raises:
        ModelError: as `parse_model`.
    """
    statement = statement_of(path, text)
    query, declared = statement.expression, statement.this
    if not isinstance(declared, exp.Schema):
        raise ModelError(
            path, 1, "the table's columns are not declared", hint="CREATE TABLE name (column TYPE, …) AS"
        )
    _check_statement(path, statement)
    begin, end = (span(query) if query else None) or (0, 0)
    if isinstance(query, exp.Subquery):
        query = query.unnest()
    if isinstance(query, exp.SetOperation):
        raise ModelError(
            path,
            line_of(query),
            f"{query.key.upper()} cannot be maintained incrementally: "
            "it would need a count of the source rows behind each output row",
            hint="Write a model for each part",
        )
    if not isinstance(query, exp.Select):
        raise ModelError(path, 1, "there is no SELECT after the columns")
    table, written = declared.this.this, text[begin:end]
    columns, primary_key = _columns(path, declared)
    common = {cte.alias_or_name.lower() for cte in query.find_all(exp.CTE)}
    model = Model(
        name=_name(path, table),
        path=path,
        description=_description(text),
        columns=columns,
        primary_key=primary_key,
        surrogate=_surrogate(path, columns, primary_key, query),
        text=written,
        start=begin,
        line=1 + text.count("\n", 0, begin),
        definition=text,
        tokens="\0".join(written[token.start : token.end + 1] for token in Dialect().tokenize(written)),
        relations=frozenset(
            table.name for table in query.find_all(exp.Table) if table.name.lower() not in common
        ),
        joins=query.find(exp.Join) is not None,
    )
    vars(model)["query"] = query  # as if it had been asked for
    return model


def _check_statement(path: Path, statement: exp.Create) -> None:
    """Refuses options of the statement that would have no effect."""
    for part, value in statement.args.items():
        if value and part not in ("this", "kind", "expression"):
            shown = {"replace": "OR REPLACE", "exists": "IF NOT EXISTS"}.get(part)
            if shown is None:
                first = value[0] if isinstance(value, list) else value
                shown = (
                    first.sql("duckdb") if isinstance(first, exp.Expr) else ""
                ) or "an option of the table"
            raise ModelError(
                path,
                1,
                f"{shown} is not supported in a model",
                hint="A model is CREATE TABLE name (columns) AS SELECT …, and nothing more",
            )
    if statement.this.this.args.get("db"):
        raise ModelError(
            path,
            1,
            f"{statement.this.this.sql('duckdb')} names a schema",
            hint="Write the table's name alone",
        )


def _columns(path: Path, declared: exp.Schema) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    columns: list[Column] = []
    primary_key: tuple[str, ...] = ()
    references: dict[str, tuple[str, str | None]] = {}
    for part in declared.expressions:
        if isinstance(part, exp.ColumnDef):
            column, is_key = _column(path, part)
            columns.append(column)
            primary_key += (column.name,) if is_key else ()
        elif isinstance(part, exp.PrimaryKey):
            _check_plain(path, part, part.args, ("expressions",))
            if primary_key:
                raise ModelError(path, line_of(part), "there are two primary keys")
            primary_key = tuple(_name(path, key) for key in part.expressions)
        elif isinstance(part, exp.ForeignKey) and len(part.expressions) == 1:
            _check_plain(path, part, part.args, ("expressions", "reference"))
            references[_name(path, part.expressions[0])] = _reference(path, part.args["reference"])
        else:
            raise ModelError(
                path,
                line_of(part),
                f"{part.sql('duckdb')} is not supported in a model",
                hint="Columns, NOT NULL, PRIMARY KEY and REFERENCES are",
            )
    names = [column.name for column in columns]
    for unknown in [name for name in (*primary_key, *references) if name not in names]:
        raise ModelError(
            path, line_of(declared), f"the key column {unknown} is not among the declared columns"
        )
    if not primary_key:
        raise ModelError(
            path,
            line_of(declared),
            "there is no PRIMARY KEY",
            hint="Declare the column that identifies a row, or a surrogate that the query does not give",
        )
    complete = tuple(_completed(column, primary_key, references.get(column.name)) for column in columns)
    return complete, primary_key


def _name(path: Path, part: exp.Expr) -> str:
    """The name that stands where one has to be: `null` and `current_date` are none without quotes."""
    named: Any = part
    while isinstance(named, exp.Expr) and not isinstance(named, exp.Identifier):
        named = named.this
    if not isinstance(named, exp.Identifier):
        raise ModelError(
            path, line_of(part), f"{part.sql('duckdb')} is not a name", hint="Write it in double quotes"
        )
    return folded(named)


def _column(path: Path, part: exp.ColumnDef) -> tuple[Column, bool]:
    name = _name(path, part.this)
    kind, unbounded, length_max = _type(path, name, part.args.get("kind"))
    not_null, is_key = False, False
    references: tuple[str, str | None] | None = None
    for constraint in (constraint.kind for constraint in part.constraints):
        if isinstance(constraint, exp.NotNullColumnConstraint):
            not_null = not constraint.args.get("allow_null")
        elif isinstance(constraint, exp.PrimaryKeyColumnConstraint):
            is_key = True
        elif isinstance(constraint, exp.Reference):
            references = _reference(path, constraint)
        else:
            raise ModelError(
                path,
                line_of(part),
                f"{constraint.sql('duckdb')} is not supported on {name}",
                hint="NOT NULL, PRIMARY KEY and REFERENCES are",
            )
    comments = [comment.strip() for comment in part.comments or []]
    renamed = [match for comment in comments if (match := _WAS.fullmatch(comment))]
    description = " ".join(comment for comment in comments if not _WAS.fullmatch(comment)) or None
    table, column = references or (None, None)
    return Column(
        name,
        kind,
        not_null,
        unbounded,
        length_max,
        table,
        description,
        column,
        _previous_name(renamed[-1]) if renamed else None,
    ), is_key


def _previous_name(found: re.Match[str]) -> str:
    quoted, plain = found.groups()
    return quoted.replace('""', '"') if quoted else plain.lower()


def _completed(
    column: Column, primary_key: tuple[str, ...], reference: tuple[str, str | None] | None
) -> Column:
    """A column, completed by the constraints that come after the columns."""
    table, referred = reference or (column.references, column.references_column)
    return replace(
        column,
        not_null=column.not_null or column.name in primary_key,
        references=table,
        references_column=referred,
    )


def _reference(path: Path, reference: exp.Reference) -> tuple[str, str | None]:
    """The table that a column refers to, and the column there, if it is named."""
    _check_plain(path, reference, reference.args, ("this",))
    target = reference.this
    columns = target.expressions if isinstance(target, exp.Schema) else []
    table = target.this if isinstance(target, exp.Schema) else target
    if len(columns) > 1:
        raise ModelError(
            path,
            line_of(reference),
            f"{reference.sql('duckdb')} refers to more than one column",
            hint=_ONE_KEY,
        )
    if not isinstance(table, exp.Table) or table.db:
        raise ModelError(
            path, line_of(reference), f"{reference.sql('duckdb')} is not a table of the star", hint=_ONE_KEY
        )
    return _name(path, table.this), _name(path, columns[0]) if columns else None


def _check_plain(path: Path, part: exp.Expr, given: dict[str, Any], understood: tuple[str, ...]) -> None:
    """Refuses options of a constraint that would have no effect, such as ON DELETE CASCADE."""
    for name, value in given.items():
        is_empty = isinstance(value, exp.Expr) and not any(value.args.values())
        if value and not is_empty and name not in understood:
            raise ModelError(
                path,
                line_of(part),
                f"{part.sql('duckdb')} is not supported in a model: it would have no effect",
                hint="NOT NULL, PRIMARY KEY and REFERENCES table are supported, without options",
            )


def _type(path: Path, column: str, kind: exp.DataType | None) -> tuple[str, bool, int | None]:
    if kind is None:
        raise ModelError(path, None, f"the column {column} has no type")
    parameters = [int(parameter.name) for parameter in kind.expressions if parameter.name.isdigit()]
    if kind.this in _TEXTS:
        return "VARCHAR", False, parameters[0] if parameters else None
    if kind.this is exp.DType.DECIMAL:
        if not parameters:
            return WIDEST_DECIMAL, True, None
        precision, scale = parameters[0], ([*parameters, 0])[1]
        if precision > 38 or scale > precision:
            raise ModelError(
                path,
                line_of(kind),
                f"{column}: a DECIMAL has at most 38 digits",
                hint="Write NUMERIC for the widest",
            )
        return f"DECIMAL({precision}, {scale})", False, None
    if kind.this in _TYPES and not kind.args.get("nested"):
        if kind.expressions:
            raise ModelError(
                path,
                line_of(kind),
                f"{column}: {kind.sql('duckdb')} would be stored as {_TYPES[kind.this]}, with all digits",
                hint=f"Declare it {_TYPES[kind.this]}, and round or truncate in the query",
            )
        return _TYPES[kind.this], False, None
    raise ModelError(
        path,
        line_of(kind),
        f"{column}: the type {kind.sql('duckdb')} is not supported in a warehouse table",
        hint=f"Supported are VARCHAR, DECIMAL, {', '.join(sorted(set(_TYPES.values())))}",
    )


def _surrogate(
    path: Path, columns: tuple[Column, ...], primary_key: tuple[str, ...], query: exp.Select
) -> str | None:
    produced = {output_name(projection) for projection in query.expressions}
    if query.is_star:
        return None
    missing = [name for name in primary_key if name not in produced]
    if not missing:
        return None
    if len(primary_key) > 1:
        raise ModelError(
            path,
            line_of(query),
            f"the query does not give {missing[0]}, a part of the primary key",
            hint="Only a primary key of one column can be a surrogate",
        )
    [kind] = [column.type for column in columns if column.name == missing[0]]
    if kind not in _INTEGERS:
        raise ModelError(
            path, line_of(query), f"the surrogate key {missing[0]} is a {kind}", hint="Make it a BIGINT"
        )
    return missing[0]


def _description(text: str) -> str:
    lines = []
    for line in text.strip().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)
