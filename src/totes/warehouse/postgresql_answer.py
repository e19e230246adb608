"""How a PostgreSQL warehouse answers a person's own SQL: in a transaction that is read only, each value as the server's text."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Literal

import psycopg
from psycopg import adapt, capabilities, generators, postgres, pq
from psycopg.types.string import TextLoader

from totes import engine
from totes.errors import StatementRefused, WarehouseError
from totes.messages import statement_message
from totes.sqlstate import concerns_all, next_step
from totes.warehouse.answer import ONLY_READS, ROWS_AT_ONCE, Answer, AnswerColumn, Row
from totes.warehouse.postgresql_session import SET_TEXT_FORMS

_WRITES = "25006"  # what a statement ends with that would write, in a transaction that is read only
_KINDS: dict[int, Literal["integer", "numeric", "float", "boolean"]] = {
    16: "boolean", 20: "integer", 21: "integer", 23: "integer", 26: "integer", 700: "float", 701: "float", 1700: "numeric",
}  # fmt: skip


@contextmanager
def answer(control: psycopg.Connection, sql: str, schema: str) -> Iterator[Answer]:
    """Runs one statement; the rows are to be read while the context lasts.

    The server describes the statement first: one that has no rows is not run, as COPY, which could write a file.
    """
    with _transaction(control, schema), control.cursor() as cursor:
        columns = _described(control, sql)
        _read_as_text(cursor)
        rows_at_once = ROWS_AT_ONCE if capabilities.has_stream_chunked() else 1

        def rows() -> Generator[Row, None, None]:
            with _failures(sql):
                yield from cursor.stream(sql.encode(), size=rows_at_once)

        with closing(rows()) as read:  # one that is not read to its end is ended, as the transaction is
            yield Answer(columns, read)


@contextmanager
def _transaction(control: psycopg.Connection, schema: str) -> Iterator[None]:
    """A transaction that is read only and undone; names are looked up in the warehouse's schema first."""
    try:
        control.execute("BEGIN TRANSACTION READ ONLY")
        control.execute(SET_TEXT_FORMS.encode())
        path = f'{engine.name(schema)}, "$user", public'
        control.execute(f"SET LOCAL search_path = {path}".encode())
        yield
    finally:
        if not control.closed and control.info.transaction_status == pq.TransactionStatus.ACTIVE:
            # An interrupt came after a statement was sent, and before psycopg waited for it.
            control.cancel_safe()
            control.wait(generators.execute(control.pgconn))
        if not control.closed and control.info.transaction_status != pq.TransactionStatus.IDLE:
            control.execute("ROLLBACK")


def _described(control: psycopg.Connection, sql: str) -> tuple[AnswerColumn, ...]:
    """The columns that the statement's rows will have, by the server's own analysis of it.

    Raises:
        StatementRefused: it is not one statement with rows.
    """
    connection = control.pgconn
    try:
        connection.send_prepare(b"", sql.encode())
        _result(control)
        connection.send_describe_prepared(b"")
        result = _result(control)
    except psycopg.Error as error:
        if concerns_all(error):
            raise WarehouseError(f"the query failed: {statement_message(error, sql)}") from error
        raise StatementRefused(statement_message(error, sql)) from error
    if not result.nfields:
        raise StatementRefused("the statement has no rows and is not run", hint=ONLY_READS)
    fields = range(result.nfields)
    names = [(result.fname(number) or b"").decode("utf-8", "replace") for number in fields]
    types = [(result.ftype(number), result.fmod(number)) for number in fields]
    named = control.execute(
        "SELECT pg_catalog.format_type(kind, modifier)"
        " FROM ROWS FROM (unnest(%s::oid[]), unnest(%s::int4[])) WITH ORDINALITY AS asked (kind, modifier, place)"
        " ORDER BY place",
        [[kind for kind, _ in types], [modifier for _, modifier in types]],
    ).fetchall()
    return tuple(
        AnswerColumn(name, type_name, _KINDS.get(kind, "text"))
        for name, (kind, _), (type_name,) in zip(names, types, named, strict=True)
    )


def _result(control: psycopg.Connection) -> pq.abc.PGresult:
    """The result of what was sent; an interrupt cancels it."""
    result: pq.abc.PGresult
    [result] = control.wait(generators.execute(control.pgconn))
    if result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return result


class _TruthLoader(adapt.Loader):
    """Truth values as DuckDB writes them."""

    def load(self, data: adapt.Buffer) -> str:
        """See Loader."""
        return "true" if bytes(data) == b"t" else "false"


def _read_as_text(cursor: psycopg.Cursor) -> None:
    """Has the cursor give every value as the server's text."""
    loaders: adapt.AdaptersMap = cursor.adapters
    for known in postgres.types:
        for number in filter(None, (known.oid, known.array_oid)):
            loaders.register_loader(number, TextLoader)
    loaders.register_loader("bool", _TruthLoader)


@contextmanager
def _failures(sql: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate == _WRITES:
            raise StatementRefused(statement_message(error, sql), hint=ONLY_READS) from error
        hint = next_step(error, "warehouse.url") if concerns_all(error) else None
        raise WarehouseError(f"the query failed: {statement_message(error, sql)}", hint=hint) from error
