"""How a DuckDB file answers a person's own SQL: read only by its connection, each value as the text that DuckDB has for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

import duckdb

from totes import engine
from totes.errors import StatementRefused, WarehouseError
from totes.messages import statement_message
from totes.warehouse.answer import ONLY_READS, ROWS_AT_ONCE, Answer, AnswerColumn, Row

_INTEGER = re.compile(r"U?(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT)")
_PLAN = "EXPLAIN"
_READING = {"SELECT", "MULTI", _PLAN}  # a PIVOT is several statements to DuckDB
Result = TypeVar("Result")


@contextmanager
def answer(connection: engine.Engine, sql: str) -> Iterator[Answer]:
    """Runs one statement; the rows are to be read while the context lasts.

    DuckDB looks at no signal while it computes: it does so in a thread of its own, and an interrupt ends the statement.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="totes-query") as threads:

        def run(work: Callable[[], Result]) -> Result:
            running = threads.submit(work)
            try:
                return running.result()
            except KeyboardInterrupt:
                with suppress(duckdb.Error):
                    connection.interrupt()
                raise

        columns, query = _understood(connection, sql)
        with _failures(sql):
            result = run(lambda: connection.execute(query))

        def rows() -> Iterator[Row]:
            while True:
                with _failures(sql):
                    part = run(lambda: result.fetchmany(ROWS_AT_ONCE))
                if not part:
                    return
                yield from part

        yield Answer(columns, _lines(rows()) if query == sql else rows())


def _understood(connection: engine.Engine, sql: str) -> tuple[tuple[AnswerColumn, ...], str]:
    """The columns of a statement's answer, and the query that gives them as text."""
    lines_before = 0
    try:
        kind = " and ".join(statement.type.name for statement in connection.extract_statements(sql))
        if kind not in _READING:
            raise StatementRefused(f"{kind} is not run", hint=ONLY_READS)
        if kind == _PLAN:
            return (AnswerColumn("plan", "VARCHAR", "text"),), sql
        lines_before = 1
        described = connection.execute(f"DESCRIBE\n{sql}").fetchall()
    except duckdb.Error as error:
        raise StatementRefused(statement_message(error, sql, lines_before)) from error
    columns = tuple(AnswerColumn(name, kind.strip('"'), _kind(kind)) for name, kind, *_ in described)
    numbers = [engine.name(f"c{number}") for number in range(len(columns))]
    texts = [_as_text(column, number) for column, number in zip(columns, numbers, strict=True)]
    return columns, f"SELECT {', '.join(texts)} FROM ({sql}\n) AS answer({', '.join(numbers)})"


def _kind(name: str) -> Literal["integer", "numeric", "float", "boolean", "text"]:
    if _INTEGER.fullmatch(name):
        return "integer"
    if name.startswith("DECIMAL"):
        return "numeric"
    return "float" if name in ("FLOAT", "DOUBLE") else "boolean" if name == "BOOLEAN" else "text"


def _as_text(column: AnswerColumn, name: str) -> str:
    if column.type == "BLOB":
        return f"'\\x' || lower(hex({name}))"
    return f"CAST({name} AS VARCHAR)"


def _lines(plan: Iterator[Row]) -> Iterator[Row]:
    """A plan, line by line."""
    for *_, text in plan:
        for line in (text or "").rstrip("\n").split("\n"):
            yield (line,)


@contextmanager
def _failures(sql: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        writes = "read-only mode" in str(error)
        if writes:
            raise StatementRefused("the statement writes, and is not run", hint=ONLY_READS) from error
        raise WarehouseError(f"the query failed: {statement_message(error, sql)}") from error
