"""Rows of a warehouse taken into another engine, in the types that their columns are declared to have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from totes import engine
from totes.lake.manifest import OutputColumn

# True of a row that has a value which the declared types cannot hold: somebody has changed the table or its types.
BENT = "~bent"
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}


def take_in(
    into: engine.Engine,
    stream: Any,
    columns: Iterable[OutputColumn],
    target: str,
    *,
    as_text: bool,
    condition: str,
) -> None:
    """Makes a table of the rows of an Arrow stream: the columns in their declared types, and whether a value did not fit.

    Args:
        into: the engine that the table is made in.
        stream: the rows; it is read once.
        columns: the columns, which the stream has in this order.
        target: the quoted name of the table.
        as_text: whether all values come in PostgreSQL's text form.
        condition: which rows are taken, in the engine's SQL.
    """
    chosen = tuple(columns)
    values = [
        f"{_typed(engine.name(column.name), column.type, as_text=as_text)} AS {engine.name(column.name)}"
        for column in chosen
    ]
    bent = " OR ".join(
        f"({engine.name(column.name)} IS NOT NULL AND"
        f" ({_typed(engine.name(column.name), column.type, as_text=as_text)} IS NULL"
        f"{_rounded(engine.name(column.name), column.type) if as_text else ''}))"
        for column in chosen
    )
    into.register("incoming", stream)
    try:
        into.execute(
            f"CREATE OR REPLACE TABLE {target} AS SELECT * FROM"
            f" (SELECT {', '.join(values)}, {bent} AS {engine.name(BENT)} FROM incoming) WHERE {condition}"
        )
    finally:
        into.unregister("incoming")


def _typed(value: str, kind: str, *, as_text: bool) -> str:
    return engine.parse_text(value, kind) if as_text else f"TRY_CAST({value} AS {kind})"


def _rounded(text: str, kind: str) -> str:
    """Whether a number's text has digits that the type would round away."""
    match = re.match(r"DECIMAL\(\d+, ?(\d+)\)", kind)
    if not match and kind not in _WHOLE:
        return ""
    kept = int(match.group(1)) if match else 0
    return f" OR regexp_matches({text}, '\\.\\d{{{kept}}}\\d*[1-9]')"
