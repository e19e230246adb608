"""A model's own text, untouched, over tables that have the names and columns that it means."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from totes import engine
from totes.errors import ModelError
from totes.processing.bound.relation import Relation, Relations
from totes.star.model import Model

_SCHEMA = "totes_source"


def written_types(model: Model, relations: Relations, connection: engine.Engine) -> list[str]:
    """The type of each column that the query gives, by DuckDB.

    Raises:
        ModelError: DuckDB refuses the query.
    """
    with named(model, relations, connection, no_rows):
        try:
            described = connection.execute(f"DESCRIBE {model.text}").fetchall()
        except duckdb.Error as error:
            raise refused(model, error) from error
    return [str(row[1]) for row in described]


def written_plan(model: Model, relations: Relations, connection: engine.Engine) -> dict[str, Any]:
    """DuckDB's plan of the query, with the types of all that it computes."""
    with named(model, relations, connection, no_rows):
        text = f"json_serialize_plan({engine.text(model.text)}, skip_null := true, skip_empty := true)"
        plan: dict[str, Any] = json.loads(engine.scalar(connection, f"SELECT {text}::VARCHAR"))
    return plan


@contextmanager
def named(
    model: Model, relations: Relations, connection: engine.Engine, rows: Callable[[Relation], str]
) -> Iterator[None]:
    """Makes the relations that a model reads known under the names that it writes, while the context lasts.

    Args:
        model: the model.
        relations: all that it may read.
        connection: the engine.
        rows: a query for the rows of a relation, as the model's expressions see them.
    """
    connection.execute(f"CREATE SCHEMA {_SCHEMA}")
    try:
        # DuckDB ignores the case of names; the binder has refused a model to which that would matter.
        for written in {name.lower(): name for name in sorted(model.relations)}.values():
            relation = relations.find(written)
            if relation is not None:  # a common table expression's name is none
                connection.execute(f"CREATE VIEW {engine.name(_SCHEMA, written)} AS {rows(relation)}")
        connection.execute(f"SET search_path = '{_SCHEMA},main'")
        yield
    finally:
        connection.execute("RESET search_path")
        connection.execute(f"DROP SCHEMA {_SCHEMA} CASCADE")


def no_rows(relation: Relation) -> str:
    """The columns of a relation as expressions see them, without a row."""
    columns = (f"NULL::{column.typed} AS {engine.name(column.name)}" for column in relation.columns)
    return f"SELECT {', '.join(columns)} WHERE false"


def refused(model: Model, error: duckdb.Error) -> ModelError:
    """DuckDB's error over a model's text, with the line of the file."""
    message, _, place = str(error).partition("\n")
    line = re.search(r"LINE (\d+):", place)
    hint = re.search(r"Did you mean .*|Candidate.*", place)
    return ModelError(
        model.path,
        model.line + int(line.group(1)) - 1 if line else model.line,
        f"DuckDB refuses it: {message}",
        hint=hint.group().strip() if hint else None,
    )
