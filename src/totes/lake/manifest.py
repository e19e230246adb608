"""Manifests: the JSON documents that commit a batch. What no manifest names is not data; there is no other state."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr

from totes import __version__


class Document(BaseModel):
    """A frozen part of a manifest; unknown keys are kept out, so that a newer format is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredObject(Document):
    """An object of the store: rows counted when it was written, bytes and sha256 of the stored form."""

    path: str
    rows: int
    bytes: int
    sha256: str


class SourceColumn(Document):
    """A source column as it was read.

    `number` is the column's own in the table, which a new column of an old name does not share. `kind` is its form in
    the JSON lines: `integer`, `boolean` and `json` are JSON's own, `text` is a string with PostgreSQL's text form. `type` is
    PostgreSQL's name of the type, with its modifiers; a domain's is its base type's.
    """

    name: str
    number: int
    type: str
    kind: Literal["integer", "boolean", "json", "text"]
    nullable: bool


class Position(Document):
    """Where in the source's history a batch stands.

    All transactions below `horizon` were finished and seen; `next_transaction` had not begun. Both are PostgreSQL's
    64-bit transaction ids. `read_at` is the source's clock in UTC, moved forward where it would not advance.
    """

    system_identifier: str
    timeline: int
    database: str
    horizon: int
    next_transaction: int
    read_at: datetime


class TableChanges(Document):
    """What a batch found in one table; `rows` is how many the table then had."""

    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...]
    marked_by: Literal["transaction", "content"]
    upserts: int = 0
    deletes: int = 0
    rows: int = 0
    objects: tuple[StoredObject, ...] = ()
    marks: tuple[StoredObject, ...] = ()


class Manifest(Document):
    """What the manifests of both stores share; `previous_sha256` chains each to the one before it."""

    format: Literal[1] = 1
    totes: str = __version__
    batch: int
    previous_sha256: str | None
    started_at: datetime
    finished_at: datetime

    _stored: bytes | None = PrivateAttr(default=None)

    @classmethod
    def of_content(cls, content: bytes) -> Self:
        """Reads a stored manifest; its digest stays that of the stored bytes, whatever a later version adds."""
        manifest = cls.model_validate_json(content)
        manifest._stored = content
        return manifest

    def content(self) -> bytes:
        """The manifest as it is stored."""
        return self._stored or self.model_dump_json(indent=1).encode()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash(self.content())

    def sha256(self) -> str:
        """The digest of the stored manifest."""
        return hashlib.sha256(self.content()).hexdigest()


class IngestionManifest(Manifest):
    """A batch of source changes."""

    store: Literal["ingestion"] = "ingestion"
    schema_name: str
    compression: Literal["zstd", "gzip", "none"]
    position: Position
    tables: dict[str, TableChanges]


class OutputColumn(Document):
    """A column of a warehouse table with its DuckDB type."""

    name: str
    type: str


class ModelChanges(Document):
    """What a batch changed in one warehouse table.

    `table_sha256` identifies the declared table and `query_sha256` its query with the reference data that it reads.
    `key` are the columns that identify a row over time, `surrogate` the one that numbers versions.
    `objects` hold rows to be written, `removed` the keys of rows
    that left a latest table, `state` what a lost cache needs beyond these, `quarantine` rows that were set aside or
    are no more. `surrogates` is how many surrogate keys have been given out up to this batch, `quarantine_open` how
    many rows are in quarantine after it.
    """

    kind: Literal["latest", "versioned"]
    table_sha256: str
    query_sha256: str
    columns: tuple[OutputColumn, ...]
    key: tuple[str, ...]
    surrogate: str | None
    written: int = 0
    deleted: int = 0
    surrogates: int = 0
    objects: tuple[StoredObject, ...] = ()
    removed: tuple[StoredObject, ...] = ()
    state: tuple[StoredObject, ...] = ()
    quarantine: tuple[StoredObject, ...] = ()
    quarantined: int = 0
    quarantine_open: int = 0


class ProcessedManifest(Manifest):
    """A batch of warehouse rows, made from the ingestion batch of the same number."""

    store: Literal["processed"] = "processed"
    ingestion_sha256: str
    read_at: datetime
    calendar_years: tuple[int, ...]
    models: dict[str, ModelChanges]
