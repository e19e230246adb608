"""Messages of errors of databases, drivers and the engine, without the value of any row.

Databases quote rows: `Key (email)=(…) already exists`, `invalid input syntax for type integer: "…"`. Alerts, logs and
reports are read by more people than the rows. The text of every such error, and every traceback, is made here.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from totes.redaction import redact

# Classes of SQLSTATE whose messages name connections, privileges, resources and catalog objects. In all others (data,
# constraints, exceptions of triggers) a message may quote a row.
_WITHOUT_VALUES = frozenset(
    "01 03 08 0A 0B 0L 0P 20 24 25 26 28 2B 2D 34 3B 3D 3F 40 42 53 54 55 57 58 72 XX".split()  # noqa: SIM905
)
_NAMED = ("table", "column", "constraint", "datatype")
# Errors of the engine that quote values; the others name files, tables, columns and settings.
_QUOTING = re.compile(
    r"\b(Conversion|Out of Range|Constraint|Invalid Input|TransactionContext|Serialization|Mismatch Type|Invalid type)"
    " Error: "
)
_NAMES_ONLY = re.compile(r"(NOT NULL|CHECK) constraint failed|Failed to commit: Could not \w+ file ")
# A model's own error() raises Invalid Input errors too; these texts are the engine's.
_INVALID_INPUT = re.compile(
    r"Could not parse|Malformed JSON|JSON transform error|Failed to cast|No magic bytes|Invalid UTF|CSV Error"
    r"|\"?maximum_object_size"
)
_IN_JSON = re.compile(r'"exception_message":("(?:[^"\\]|\\.)*")')
_SERVER_MESSAGE = re.compile(
    r"(?:ERROR|FATAL|PANIC):\s+(?P<message>.*?)\s*(?:\n|DETAIL:|HINT:|CONTEXT:|LINE \d|Query was:|\.? ?SQLSTATE:|$)",
    re.DOTALL,
)
_POINTED_AT = re.compile(r"(?P<head>LINE (?P<line>\d+): )(?P<shown>.*)\n(?P<before> *)\^")
_SQLSTATE = re.compile(r"SQLSTATE: (\w{5})")
_STATEMENT = re.compile(r" ?(query '.*'|Query was: .*)", re.DOTALL)


def message(error: BaseException) -> str:
    """The message of an error, in one line, without secrets and without the value of any row."""
    return redact(" ".join(_text(error).split()))


def statement_message(error: BaseException, sql: str, lines_before: int = 0) -> str:
    """The message of an error in a person's own statement, for that person: in one line, with the place, and with values.

    `lines_before` are those that were put before the statement when it was sent.
    """
    if diagnosis := getattr(error, "diag", None):
        parts = [diagnosis.message_primary or str(error), diagnosis.message_hint or ""]
        before = sql[: int(diagnosis.statement_position or 0)]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n") - 1) if before else None
    else:
        parts = [str(error).partition("\n\nLINE ")[0]]
        place = _place(str(error), sql, lines_before)
    text = " ".join(" ".join(parts).split())
    return redact(f"{text} (line {place[0]}, column {place[1]})" if place else text)


def _place(text: str, sql: str, lines_before: int) -> tuple[int, int] | None:
    """Where in a statement the engine's message points to: the line and the column."""
    found = _POINTED_AT.search(text)
    lines = sql.split("\n")
    number = int(found.group("line")) - lines_before if found else 0
    if found is None or not 0 < number <= len(lines):
        return None
    column = len(found.group("before")) - len(found.group("head"))
    shown = found.group("shown")
    if shown.startswith("..."):  # the engine shows the middle of a long line
        column += lines[number - 1].find(shown[3:].removesuffix("...")) - 3
    return number, column + 1


def engine_message(text: str) -> str:
    """The engine's message, in one line, with `…` instead of values."""
    nested = _IN_JSON.search(text)  # a file's fault in another thread is reported as JSON within the text
    text = str(json.loads(nested.group(1))) if nested else text
    found = _QUOTING.search(text)
    if not found:
        return text.strip().partition("\n")[0]
    head, body = text[: found.end()].strip(), text[found.end() :]
    if server := _SERVER_MESSAGE.search(body):  # from a driver's stream, in which there is no SQLSTATE
        return _masked(server.group("message"))
    if _NAMES_ONLY.match(body):
        return f"{head} {body}".partition("\n")[0]
    if found.group(1) == "Invalid Input" and not _INVALID_INPUT.search(body):
        return f"{head} the message may quote a row, and is not shown"
    return f"{head} {_masked(body)}"


def _masked(body: str) -> str:
    """A message without quoted text and numbers; a value may itself have quotes and line breaks in it."""
    body = body.replace("can't", "cannot")
    quoted = re.search("['\"]", body)
    if quoted:  # everything up to the last quote counts as quoted
        after = body[quoted.end() :].rpartition("\n\nLINE ")[0] or body[quoted.end() :]
        tail = after[after.rfind(quoted.group()) + 1 :] if quoted.group() in after else ""
        body = f"{body[: quoted.start()]}…{tail}"
    return re.sub(r"(?<![A-Za-z_\d])[-+]?\d[\d.,:eE+-]*", "…", body.partition("\n")[0]).strip()


def traceback_text(error: BaseException) -> str:
    """The traceback of an error and its causes, without secrets and values of rows."""
    text = "".join(traceback.format_exception(error))
    for one in _chain(error):
        shown = str(one)
        if shown and _quotes_rows(one):
            text = text.replace(shown, message(one))
    return redact(text)


def exception_text(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """The traceback for a result of `sys.exc_info()`, as `traceback_text`; for the log."""
    return traceback_text(exc_info[1])


def _quotes_rows(error: BaseException) -> bool:
    return hasattr(error, "sqlstate") or _is_engines(error) or bool(_problems(error))


def _chain(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[BaseException]:
    if error is None or id(error) in seen:
        return
    yield error
    for one in (error.__cause__, error.__context__):
        yield from _chain(one, seen | {id(error)})


def _is_engines(error: BaseException) -> bool:
    return any(kind.__module__ in ("_duckdb", "duckdb") for kind in type(error).__mro__)


def _text(error: BaseException) -> str:
    if hasattr(error, "sqlstate"):
        return _database_message(error)
    if problems := _problems(error):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
    text = str(error)
    return engine_message(text) if _is_engines(error) or _QUOTING.search(text) else text


def _problems(error: Any) -> list[dict[str, Any]]:
    """The problems that pydantic found in a document, without the input, which its own text quotes."""
    listed: list[dict[str, Any]] = error.errors(include_input=False) if hasattr(error, "error_count") else []
    return listed


def _database_message(error: Any) -> str:
    """PostgreSQL's message, from those of its fields that only have names; or a driver's own, without the statement."""
    fields, text = _fields(error), str(error)
    found = _SQLSTATE.search(text)
    state = error.sqlstate or (found.group(1) if found else None)
    server = _SERVER_MESSAGE.search(text)
    primary = fields.get("message_primary") or (server.group("message") if server and state else None)
    if state is None or primary is None:
        return engine_message(text) if _QUOTING.search(text) else _STATEMENT.sub("", text)
    if state[:2] in _WITHOUT_VALUES:
        return str(primary)
    named = [f"{kind} {fields[f'{kind}_name']}" for kind in _NAMED if fields.get(f"{kind}_name")]
    return f"{_condition(state)}{': ' if named else ''}{', '.join(named)} (SQLSTATE {state})"


def _fields(error: Any) -> dict[str, Any]:
    """PostgreSQL's diagnostic fields, from either driver."""
    if diagnosis := getattr(error, "diag", None):
        names = ("message_primary", *(f"{kind}_name" for kind in _NAMED))
        return {name: getattr(diagnosis, name) for name in names}
    return {
        bytes_or_text(name).removeprefix("PG_DIAG_").lower(): bytes_or_text(value)
        for name, value in getattr(error, "details", None) or ()
    }


def bytes_or_text(value: bytes | str) -> str:
    """A field of a driver's error as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _condition(state: str) -> str:
    """PostgreSQL's name of a condition, in words: `unique violation` for 23505."""
    from psycopg.errors import lookup

    try:
        name = lookup(state).__name__
    except KeyError:
        return "an error that the database's own code raised"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
