"""A model: one warehouse table, read from one SQL file. It knows its text only, nothing of any source's tables."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError
from sqlglot.parsers.duckdb import DuckDBParser

from totes.errors import ModelError
from totes.lake.manifest import OutputColumn
from totes.star.column import Column

HISTORY_COLUMNS = {
    "valid_from": "TIMESTAMP",
    "valid_to": "TIMESTAMP",
    "is_deleted": "BOOLEAN",
    "batch_id": "BIGINT",
}
WIDEST_DECIMAL = "DECIMAL(38, 10)"
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
logging.getLogger("sqlglot").setLevel(logging.ERROR)
_INTEGERS = {"SMALLINT", "INTEGER", "BIGINT"}


class _Dialect(DuckDB):
    """DuckDB's dialect, but for two habits of its parser.

    Types stay as they are written (NUMERIC is not made DECIMAL(18, 3)), and what cannot be read is no command.
    """

    class Parser(DuckDBParser):
        TYPE_CONVERTERS: ClassVar[dict[exp.DType, Any]] = {}

        def _parse_as_command(self, start: Any) -> exp.Command:
            found = self._curr.text if self._curr else "the end"
            self.raise_error(f"'{found}' was not expected")
            return exp.Command(this=start.text)


@dataclass(frozen=True)
class Model:
    """A parsed model file.

    `primary_key` are declared columns; when there is a `surrogate` it is that one column, and the query does not
    produce it. `columns` are all declared columns in order; `produced` those that the query gives.
    """

    name: str
    path: Path
    description: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    surrogate: str | None
    query: exp.Select

    @property
    def versioned(self) -> bool:
        """Whether every version of a row is kept."""
        return self.surrogate is not None

    @cached_property
    def produced(self) -> tuple[Column, ...]:
        """The declared columns that the query gives."""
        return tuple(column for column in self.columns if column.name != self.surrogate)

    @cached_property
    def output(self) -> tuple[OutputColumn, ...]:
        """All columns of the warehouse table, those of its history included."""
        columns = [OutputColumn.model_validate(column, from_attributes=True) for column in self.columns]
        if self.versioned:
            columns += [OutputColumn(name=name, type=kind) for name, kind in HISTORY_COLUMNS.items()]
        return tuple(columns)

    @cached_property
    def relations(self) -> frozenset[str]:
        """The names of the tables, reference files and calendar that the query reads, as it writes them."""
        common = {cte.alias_or_name.lower() for cte in self.query.find_all(exp.CTE)}
        return frozenset(
            table.name for table in self.query.find_all(exp.Table) if table.name.lower() not in common
        )

    @property
    def joins(self) -> bool:
        """Whether the query reads more than one table, so that the rows of its tables must be at hand."""
        return self.query.find(exp.Join) is not None

    @property
    def references(self) -> dict[str, str]:
        """Each column that refers to another warehouse table, with that table."""
        return {column.name: column.references for column in self.columns if column.references}

    def table_sha256(self) -> str:
        """Identifies what the warehouse table is declared to be."""
        declared = [
            (c.name, c.type, c.unbounded, c.length_max, c.not_null, c.references) for c in self.columns
        ]
        table = json.dumps([self.name, declared, self.primary_key, self.surrogate])
        return hashlib.sha256(table.encode()).hexdigest()

    def query_sha256(self, references: dict[str, bytes]) -> str:
        """Identifies the query's meaning: its text, and the content of the reference files that it reads."""
        content = [(name, references[name]) for name in sorted(self.relations & references.keys())]
        return hashlib.sha256((self._query_text + repr(content)).encode()).hexdigest()

    @cached_property
    def _query_text(self) -> str:
        return self.query.sql("duckdb")


def parse_model(path: Path) -> Model:
    """Reads a model file.

    Raises:
        ModelError: it is not one `CREATE TABLE … AS SELECT …`, or its declaration and its query do not fit.
    """
    text = path.read_text(encoding="utf-8")
    try:
        statements = [
            statement for statement in sqlglot.parse(text, dialect=_Dialect) if statement is not None
        ]
    except SqlglotError as error:
        raise _syntax_error(path, error) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Create) or statements[0].kind != "TABLE":
        raise ModelError(path, 1, "a model is one statement: CREATE TABLE name (columns) AS SELECT …")
    statement = statements[0]
    query, declared = statement.expression, statement.this
    if isinstance(query, exp.Subquery):
        query = query.unnest()
    if not isinstance(declared, exp.Schema):
        raise ModelError(
            path, 1, "the table's columns are not declared", hint="CREATE TABLE name (column TYPE, …) AS"
        )
    if isinstance(query, exp.SetOperation):
        raise ModelError(
            path,
            line_of(query),
            f"{query.key.upper()} cannot be maintained incrementally: "
            "a row would have to be counted before it may go",
            hint="Write one model a part",
        )
    if not isinstance(query, exp.Select):
        raise ModelError(path, 1, "there is no SELECT after the columns")
    table = declared.this.this
    columns, primary_key = _columns(path, declared)
    return Model(
        name=_folded(table),
        path=path,
        description=_description(text),
        columns=columns,
        primary_key=primary_key,
        surrogate=_surrogate(path, columns, primary_key, query),
        query=query,
    )


def line_of(node: exp.Expr) -> int | None:
    """The line of the file at which an expression stands, as far as the parser has kept it."""
    lines = [part.meta["line"] for part in node.walk() if "line" in part.meta]
    return min(lines, default=None)


def _columns(path: Path, declared: exp.Schema) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    columns: list[Column] = []
    primary_key: tuple[str, ...] = ()
    references: dict[str, str] = {}
    for part in declared.expressions:
        if isinstance(part, exp.ColumnDef):
            column, is_key = _column(path, part)
            columns.append(column)
            primary_key += (column.name,) if is_key else ()
        elif isinstance(part, exp.PrimaryKey):
            primary_key = tuple(_folded(key) for key in part.expressions)
        elif isinstance(part, exp.ForeignKey) and len(part.expressions) == 1:
            target = part.args["reference"].find(exp.Table)
            references[_folded(part.expressions[0])] = _folded(target.this)
        else:
            raise ModelError(
                path,
                line_of(part),
                f"{part.sql('duckdb')} is not understood in a model",
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
    complete = tuple(
        Column(
            c.name,
            c.type,
            c.not_null or c.name in primary_key,
            c.unbounded,
            c.length_max,
            references.get(c.name, c.references),
            c.description,
        )
        for c in columns
    )
    return complete, primary_key


def _column(path: Path, part: exp.ColumnDef) -> tuple[Column, bool]:
    name = _folded(part.this)
    kind, unbounded, length_max = _type(path, name, part.args.get("kind"))
    not_null, is_key, references = False, False, None
    for constraint in (constraint.kind for constraint in part.constraints):
        if isinstance(constraint, exp.NotNullColumnConstraint):
            not_null = not constraint.args.get("allow_null")
        elif isinstance(constraint, exp.PrimaryKeyColumnConstraint):
            is_key = True
        elif isinstance(constraint, exp.Reference):
            target = constraint.find(exp.Table)
            assert target is not None
            references = _folded(target.this)
        else:
            raise ModelError(
                path,
                line_of(part),
                f"{constraint.sql('duckdb')} is not understood on {name}",
                hint="NOT NULL, PRIMARY KEY and REFERENCES are",
            )
    description = " ".join(comment.strip() for comment in part.comments or []) or None
    return Column(name, kind, not_null, unbounded, length_max, references, description), is_key


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
        return _TYPES[kind.this], False, None
    raise ModelError(
        path,
        line_of(kind),
        f"{column}: the type {kind.sql('duckdb')} is not one a warehouse column has",
        hint=f"Known are VARCHAR, DECIMAL, {', '.join(sorted(set(_TYPES.values())))}",
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


def check_columns(model: Model) -> None:
    """Makes sure that the query gives each declared column once, and nothing else.

    Raises:
        ModelError: it does not.
    """
    given = [output_name(projection) for projection in model.query.expressions]
    declared = [column.name for column in model.produced]
    line = line_of(model.query)
    for name in sorted({name for name in given if given.count(name) > 1 and name}):
        raise ModelError(model.path, line, f"the query gives {name} twice")
    for name in (name for name in given if name and name not in declared):
        raise ModelError(model.path, line, f"the query gives {name}, which is not a declared column")
    for name in (name for name in declared if name not in given):
        raise ModelError(model.path, line, f"the query does not give the declared column {name}")
    for name in (name for name in declared if model.versioned and name in HISTORY_COLUMNS):
        raise ModelError(model.path, line, f"{name} is a column that totes adds itself", hint="Leave it out")
    folded = [column.name.lower() for column in model.columns]
    if len(set(folded)) < len(folded):
        raise ModelError(model.path, line, "two columns have the same name")


def output_name(projection: exp.Expr) -> str:
    """The name that a projection gives to its column, or '' for a star or an expression without an alias."""
    if isinstance(projection, exp.Alias):
        return _folded(projection.args["alias"])
    if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Identifier):
        return _folded(projection.this)
    return ""


def _folded(identifier: exp.Expr) -> str:
    """A name as PostgreSQL understands it: in lower case unless it is quoted."""
    while not isinstance(identifier, exp.Identifier):
        identifier = identifier.this
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def _description(text: str) -> str:
    lines = []
    for line in text.strip().splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def _syntax_error(path: Path, error: SqlglotError) -> ModelError:
    details = getattr(error, "errors", None) or [{}]
    line = details[0].get("line")
    what = re.sub(
        r"<Token [^>]*>",
        lambda match: _token_text(match.group()),
        str(details[0].get("description") or error),
    )
    near = str(details[0].get("highlight") or "").strip()
    return ModelError(
        path,
        line,
        f"not valid SQL: {what.partition(chr(10))[0].rstrip('.')}" + (f" near {near}" if near else ""),
    )


def _token_text(token: str) -> str:
    match = re.search(r"text: (.*?), line", token)
    return f"'{match.group(1)}'" if match else "something else"
