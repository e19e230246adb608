"""Checkpoints: copies of a stage's cache in its store, for runners without a lasting folder, such as Lambda.

Nothing depends on a checkpoint: without one, the cache is rebuilt from all batches. It consists of the cache's tables as
Parquet objects, from which only the rows are read, and of a document that names them and the batch that the cache was
at: `checkpoints/<stage>/<batch>-<random>.json`, written last. The names are random, so that an unusable checkpoint, from
another version for instance, never blocks the name of a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import ValidationError

from totes import __version__, engine
from totes.errors import EngineFault
from totes.failpoint import reach
from totes.lake.document import Document, StoredObject
from totes.lake.layout import checkpoint_batch, checkpoint_place, checkpoints_folder
from totes.lake.store import Store
from totes.log import logger
from totes.scratch import temporary_folder

# The types that Parquet does not support, or not for all values; they are stored as text.
_Text = Literal[
    "HUGEINT", "UHUGEINT", "BIGNUM", "BIT", "INTERVAL", "TIME WITH TIME ZONE", "TIMESTAMP_S", "TIMESTAMP_MS"
]
_AS_TEXT: frozenset[str] = frozenset(get_args(_Text))
_log = logger()


class CheckpointTable(Document):
    """A table of the cache: the object with its rows, its comment, and the types of the columns that are stored as text."""

    name: str
    comment: str | None
    types: dict[str, _Text]
    file: StoredObject


class Checkpoint(Document):
    """A stored cache: the version of totes that wrote it, the batch it was at, its size in bytes, and its tables."""

    totes: str = __version__
    stage: str
    batch: int
    manifest_sha256: str
    bytes: int
    tables: tuple[CheckpointTable, ...]


def save_checkpoint(
    store: Store, connection: engine.Engine, stage: str, tables: dict[str, str | None], checkpoint: Checkpoint
) -> None:
    """Stores tables of a cache. If several runners are at the same batch, each stores a checkpoint of its own.

    Args:
        store: the stage's store.
        connection: a connection to the cache, outside of a transaction.
        stage: whose cache it is.
        tables: the tables by name, with the comment of each.
        checkpoint: the document, still without its tables.

    Raises:
        StoreError: an object cannot be written.
        EngineFault: DuckDB wrote a table with other rows or types than it has.
    """
    place = checkpoint_place(stage, checkpoint.batch)
    stored = tuple(
        _save_table(store, connection, f"{place}/{number}.parquet", table, comment)
        for number, (table, comment) in enumerate(sorted(tables.items()), start=1)
    )
    reach("checkpoint.file")
    document = checkpoint.model_copy(update={"tables": stored})
    store.put_new(f"{place}.json", document.model_dump_json(indent=1).encode())
    size = sum(table.file.bytes for table in stored)
    _log.info("checkpoint", cache=stage, batch=checkpoint.batch, bytes=size)


def _save_table(
    store: Store, connection: engine.Engine, path: str, table: str, comment: str | None
) -> CheckpointTable:
    columns = _columns(connection, engine.name(table))
    types = {column: kind for column, kind in columns.items() if kind in _AS_TEXT}
    selected = ", ".join(
        f"{engine.name(column)}::VARCHAR AS {engine.name(column)}" if column in types else engine.name(column)
        for column in columns
    )
    rows = int(engine.scalar(connection, f"SELECT count(*) FROM {engine.name(table)}"))
    with temporary_folder() as folder:
        file = folder / "table"
        engine.copy_out(
            connection,
            f"COPY (SELECT {selected} FROM {engine.name(table)}) TO {engine.text(str(file))} (FORMAT parquet, COMPRESSION zstd)",
            rows,
        )
        written = _columns(connection, engine.parquet([file]))
        if written != columns | dict.fromkeys(types, "VARCHAR"):
            raise EngineFault(f"the checkpoint of {table} has other types than the table: {written}")
        entry = store.put_file(path, file, rows)
    return CheckpointTable.model_validate({"name": table, "comment": comment, "types": types, "file": entry})


def _columns(connection: engine.Engine, relation: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE FROM {relation}").fetchall()}


def checkpoints(store: Store, stage: str) -> Iterator[Checkpoint]:
    """The stage's checkpoints that this version can use, the newest first.

    Raises:
        StoreError: the store cannot be read.
    """
    found = [
        (batch, path)
        for path in store.list(f"{checkpoints_folder(stage)}/")
        if (batch := checkpoint_batch(path))
    ]
    for batch, path in sorted(found, reverse=True):
        content = store.read(path)
        try:
            document = Checkpoint.model_validate_json(content) if content else None
        except ValidationError:
            continue  # another version's
        if document and (document.totes, document.stage, document.batch) == (__version__, stage, batch):
            yield document


def restore_tables(store: Store, connection: engine.Engine, checkpoint: Checkpoint) -> None:
    """Creates a checkpoint's tables in an empty cache, within a transaction.

    Raises:
        LakeDamaged: one of its objects is missing or does not match its digest.
        StoreError: the store cannot be read.
        duckdb.Error: an object is not a table of a cache.
    """
    for table in checkpoint.tables:
        name = engine.name(table.name)
        casts = ", ".join(f"{engine.name(c)}::{kind} AS {engine.name(c)}" for c, kind in table.types.items())
        selected = f"* REPLACE ({casts})" if casts else "*"
        with store.local([table.file]) as files:
            connection.execute(f"CREATE TABLE {name} AS SELECT {selected} FROM {engine.parquet(files)}")
        if table.comment is not None:
            connection.execute(f"COMMENT ON TABLE {name} IS {engine.text(table.comment)}")
