"""Manifests: the JSON documents that commit a batch. An object that no manifest names is not data; there is no other state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from totes import __version__
from totes.lake.document import Document, StoredObject, objects_in


class SourceColumn(Document):
    """A source column as it was read.

    `number` is PostgreSQL's number of the column in its table; a new column with an old name has a new number. `kind` is the
    form of its values in the JSON lines: `integer`, `boolean` and `json` are JSON's own, `text` is a string with PostgreSQL's
    text form. `type` is PostgreSQL's name of the type, with modifiers; for a domain, of its base type. `labels` are an enum's.
    """

    name: str
    number: int
    type: str
    kind: Literal["integer", "boolean", "json", "text"]
    nullable: bool
    labels: tuple[str, ...] = ()

    @property
    def raw_type(self) -> str:
        """The engine's type for the column's values as they are in the lines."""
        return {"integer": "BIGINT", "boolean": "BOOLEAN"}.get(self.kind, "VARCHAR")


class Position(Document):
    """The point in the source's history at which a batch was read.

    All transactions below `horizon` were finished and visible; `next_transaction` had not begun. Both are PostgreSQL's
    64-bit transaction ids. `read_at` is the source's clock in UTC, moved forward if it is not later than the previous one.

    `lsn` is a position of the write-ahead log before which all that the batch saw had been written, and `flushed_lsn` how far
    the log was on disk when everything had been read. `instance` changes with a restart or a crash of the server. Earlier
    versions did not record these three, nor the database's OID.

    `log_lsn` is set in batches whose changes came from the log: everything that was committed up to there is captured. In
    other batches of a lake that is captured from the log, `log_from` is the position from which the log continues. `log_slot` is
    the slot. The log is not usable before all transactions below `log_waits_for` have ended.
    """

    system_identifier: str
    timeline: int
    database: str
    database_oid: int | None = None
    horizon: int
    next_transaction: int
    read_at: datetime
    lsn: str | None = None
    flushed_lsn: str | None = None
    instance: str | None = None
    log_lsn: str | None = None
    log_from: str | None = None
    log_slot: str | None = None
    log_waits_for: int | None = None


class Seam(Document):
    """Where a table's capture changes from queries to the log: the snapshot in which its rows were last read.

    The log is read again from before that, so transactions that `snapshot` shows as finished are dropped from it. All of
    these were committed before `lsn`.
    """

    snapshot: str
    lsn: str


class ResumePoint(Document):
    """Where the next batch continues reading a table: the rows from a block to the end of the table are still to be read.

    `file` is PostgreSQL's number of the table's file (its filenode); rows stay in their blocks as long as it is the same.
    With `since`, only rows written at that position or later are still to be read. With `compared`, some of the rows may be
    captured already, and with `by_content`, whether they are cannot be seen from their marks.
    """

    block: int = 0
    file: int = 0
    since: Position | None = None
    compared: bool = False
    by_content: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the table are still to be read."""
        return self.block == 0 and self.since is None


class TableChanges(Document):
    """A batch's changes of one table; `rows` is how many the table then had, or with a `rest`, how many are captured.

    `relation` and `partitions` are the OIDs of the table and of its leaf partitions: another table of the same name has
    another OID. `rest` is where the next batch continues reading, if this one did not read the whole table.
    `changed_at`, of batches from the log, is the column with the source's own time of a change. `seam` is set until the log has
    passed it. `published` identifies how the table is published. The log may lack what transactions below `waits_for` did.
    """

    columns: tuple[SourceColumn, ...]
    key: tuple[str, ...]
    marked_by: Literal["transaction", "content"]
    relation: int = 0
    partitions: tuple[int, ...] = ()
    upserts: int = 0
    deletes: int = 0
    rows: int = 0
    rest: ResumePoint | None = None
    changed_at: str | None = None
    seam: Seam | None = None
    published: str | None = None
    waits_for: int | None = None
    objects: tuple[StoredObject, ...] = ()
    marks: tuple[StoredObject, ...] = ()

    changes_quarantine: ClassVar[bool] = False

    @property
    def is_changed(self) -> bool:
        """Whether the batch changed the table."""
        return bool(self.objects or self.marks)

    @property
    def documents(self) -> tuple[str, ...]:
        """The columns that are JSON documents, in order."""
        return tuple(column.name for column in self.columns if column.kind == "json")

    @property
    def plain(self) -> dict[str, str]:
        """The raw types of the other columns."""
        return {column.name: column.raw_type for column in self.columns if column.kind != "json"}

    def called_as(self, later: TableChanges) -> Self:
        """The table with its columns under the names that they have in a later batch."""
        if self.relation != later.relation:
            return self
        names = {column.number: column.name for column in later.columns}
        named = {column.name: names.get(column.number, column.name) for column in self.columns}
        in_use = set(names.values())
        columns = tuple(
            column.model_copy(update={"name": named[column.name]})
            for column in self.columns
            if column.number in names or column.name not in in_use
        )
        return self.model_copy(update={"columns": columns, "key": tuple(named[part] for part in self.key)})

    def renames(self, before: TableChanges) -> bool:
        """Whether a column has another name than before, or a name belongs to another column."""
        numbers = {column.name: column.number for column in before.columns}
        names = {column.number: column.name for column in before.columns}
        return any(
            numbers.get(column.name, column.number) != column.number
            or names.get(column.number, column.name) != column.name
            for column in self.columns
        )

    def without_changes(self) -> Self:
        """The table, without the batch's changes."""
        return self.model_copy(update={"upserts": 0, "deletes": 0, "objects": (), "marks": ()})


class LeftOut(Document):
    """A table of the schema that a batch could not read, or did not have to, and why.

    `before` describes the table as it was when a batch last read it; null if none ever did. Once the table can be read again,
    its content is compared with that.
    """

    reason: str
    before: TableChanges | None = None


class Manifest(Document):
    """What the manifests of both stores have in common; `previous_sha256` chains each to the previous one.

    `content_sha256` is the digest of the stored document itself, computed with this value empty.
    """

    format: Literal[1] = 1
    totes: str = __version__
    batch: int
    previous_sha256: str | None
    started_at: datetime
    finished_at: datetime
    content_sha256: str = ""

    _stored: bytes | None = PrivateAttr(default=None)

    # The key of the tables' entries, and what they are.
    SECTION: ClassVar[str] = ""
    ENTRY: ClassVar[type[TableChanges | ModelChanges]]

    @property
    def entries(self) -> Mapping[str, TableChanges | ModelChanges]:
        """What the batch did with each table."""
        return getattr(self, self.SECTION, {})

    @classmethod
    def of_parts(cls, content: bytes, frame: str, entries: Mapping[str, Any]) -> Self:
        """A stored manifest whose entries were read before; `frame` is its JSON without them."""
        manifest = cls.model_validate_json(frame)
        if entries:
            manifest = manifest.model_copy(update={cls.SECTION: dict(entries)})
        manifest._stored = content
        return manifest

    @classmethod
    def of_content(cls, content: bytes) -> Self:
        """Reads a stored manifest; its digest is that of the stored bytes, even if this version writes more keys."""
        manifest = cls.model_validate_json(content)
        manifest._stored = content
        return manifest

    def content(self) -> bytes:
        """The stored form of the manifest."""
        if self._stored:
            return self._stored
        plain = self.model_copy(update={"content_sha256": ""}).model_dump_json(indent=1).encode()
        digest = hashlib.sha256(plain).hexdigest().encode()
        return plain.replace(b'"content_sha256": ""', b'"content_sha256": "' + digest + b'"', 1)

    def is_intact(self) -> bool:
        """Whether the stored document matches the digest in it."""
        plain = self.content().replace(self.content_sha256.encode(), b"", 1)
        return hashlib.sha256(plain).hexdigest() == self.content_sha256

    def named_objects(self) -> tuple[StoredObject, ...]:
        """Every object that the manifest names, for whatever purpose, once each."""
        return tuple({entry.path: entry for entry in objects_in(self)}.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash(self.content())

    def sha256(self) -> str:
        """The digest of the stored manifest."""
        return hashlib.sha256(self.content()).hexdigest()


class IngestionManifest(Manifest):
    """A batch of source changes."""

    SECTION, ENTRY = "tables", TableChanges
    store: Literal["ingestion"] = "ingestion"
    schema_name: str
    compression: Literal["zstd", "gzip", "none"]
    position: Position
    tables: dict[str, TableChanges]
    left_out: dict[str, LeftOut] = Field({})

    def followed_by_nothing(self) -> Self:
        """The next batch, with no changes: the source as this one describes it."""
        now = datetime.now(UTC)
        following = self.model_copy(
            update={
                "totes": __version__,
                "batch": self.batch + 1,
                "previous_sha256": self.sha256(),
                "started_at": now,
                "finished_at": now,
                "content_sha256": "",
                "tables": {name: table.without_changes() for name, table in self.tables.items()},
            }
        )
        following._stored = None
        return following

    def called_as(self, later: IngestionManifest) -> Self:
        """The manifest with all columns under the names that they have in a later manifest."""
        tables = {
            name: table.called_as(later.tables[name]) if name in later.tables else table
            for name, table in self.tables.items()
        }
        return self.model_copy(update={"tables": tables})

    def last_seen(self, table: str) -> TableChanges | None:
        """A table as it was when this batch or an earlier one last read it; None if none did."""
        if table in self.tables:
            return self.tables[table]
        return self.left_out[table].before if table in self.left_out else None


class OutputColumn(Document):
    """A column of a warehouse table with its DuckDB type.

    `unbounded` marks a NUMERIC without precision, in warehouses that support one; `length_max` is the most characters of a
    text; `references` is the table whose primary key the column refers to; `field_id` is 0 in manifests of earlier releases.
    """

    name: str
    type: str = Field(pattern=r"^[A-Z]+(\(\d+, \d+\))?$")  # goes into SQL unquoted
    not_null: bool = False
    unbounded: bool = False
    length_max: int | None = None
    references: str | None = None
    field_id: int = 0


class ProblemKind(Document):
    """How many rows in quarantine have the same kind of problem; `column` is null if it concerns the row as a whole."""

    column: str | None
    kind: str
    rows: int


class ModelChanges(Document):
    """What a batch changed in one warehouse table.

    `table_sha256` identifies the declared table, and `query_sha256` its query with the reference data that it reads.
    `key` has the columns that identify a row over time, `surrogate` the one that numbers versions. `objects` hold rows to be
    written, `removed` the keys of rows to be deleted from a latest table, `state` what else is needed to rebuild a lost
    cache, and `quarantine` rows that entered or left quarantine. `surrogates` is how many surrogate keys have been assigned up
    to this batch, `quarantine_open` how many rows are in quarantine after it, `quarantine_kinds` their problems, and `released`
    how many rows left it because they are now valid.

    With `soft_deletes`, deleted rows stay in a latest table, marked in its column `is_deleted`, and none is `removed`.
    `since` is the batch in which the table was first built or last rebuilt: that batch's objects hold all of its history, and
    replace what earlier batches wrote. It is 0 in manifests of releases that could not rebuild a table, and then means the
    first batch that has the table. `renamed` gives, in that batch, the previous names of columns by their present ones, and
    `definition` is the model's file. `field_ids` is the highest id that a column of the table has ever had.
    """

    kind: Literal["latest", "versioned"]
    table_sha256: str
    query_sha256: str
    columns: tuple[OutputColumn, ...]
    key: tuple[str, ...]
    surrogate: str | None
    soft_deletes: bool = False
    since: int = 0
    renamed: dict[str, str] = Field({})
    definition: str | None = None
    field_ids: int = 0
    written: int = 0
    deleted: int = 0
    surrogates: int = 0
    objects: tuple[StoredObject, ...] = ()
    removed: tuple[StoredObject, ...] = ()
    state: tuple[StoredObject, ...] = ()
    quarantine: tuple[StoredObject, ...] = ()
    quarantined: int = 0
    quarantine_open: int = 0
    quarantine_kinds: tuple[ProblemKind, ...] = ()
    released: int = 0

    @property
    def is_changed(self) -> bool:
        """Whether the batch changed the table, or what is known of it."""
        return bool(self.objects or self.removed or self.state or self.quarantine)

    @property
    def changes_quarantine(self) -> bool:
        """Whether rows entered or left quarantine."""
        return bool(self.quarantine)

    def without_changes(self, **updates: Any) -> Self:
        """The table, without the batch's changes."""
        nothing: dict[str, Any] = {
            "renamed": {},
            "definition": None,
            "written": 0,
            "deleted": 0,
            "objects": (),
            "removed": (),
            "state": (),
            "quarantine": (),
            "quarantined": 0,
            "released": 0,
        }
        return self.model_copy(update=nothing | updates)


class Failure(Document):
    """Why a model could not be computed, so that the batch left its table unchanged; `sha256` identifies the model."""

    reason: str
    sha256: str


class ProcessedManifest(Manifest):
    """A batch of warehouse rows, made from the ingestion batch of the same number."""

    SECTION, ENTRY = "models", ModelChanges
    store: Literal["processed"] = "processed"
    ingestion_sha256: str
    read_at: datetime
    calendar_years: tuple[int, ...]
    models: dict[str, ModelChanges]
    failures: dict[str, Failure] = Field({})
