"""Which tables the log has in full: what the publication publishes of each, and why a table cannot be captured from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from totes import engine
from totes.errors import SourceRefused
from totes.ingestion.catalog import SourceTable

_PARTS_SINCE = 150000  # column lists, row filters and whole schemas
_GENERATED_SINCE = 180000
RESERVED = ("_lsn", "_seq")
_BY_QUERY = 'Otherwise leave it out with source.exclude, or set source.capture = "query"'
_PUBLICATION_SQL = """
    SELECT oid::int8, xmin::text, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, {generated}
    FROM pg_publication WHERE pubname = %s
"""
# The columns of a table's keys, of one key if an index identifies it.
_KEY_SQL = """
    SELECT string_agg(attribute.attname::text, E'\\n') FROM pg_index AS index
    CROSS JOIN LATERAL unnest(index.indkey::int2[]) WITH ORDINALITY AS part (number, place)
    JOIN pg_attribute AS attribute ON attribute.attrelid = index.indrelid AND attribute.attnum = part.number
    WHERE part.place <= index.indnkeyatts AND index.indrelid = {table}
"""
# The tables that have a table's rows: itself, or its partitions. Each has a replica identity of its own.
_LEAVES_SQL = """(
    SELECT relation.oid AS leaf WHERE relation.relkind = 'r'
    UNION ALL SELECT relid FROM pg_partition_tree(relation.oid) WHERE isleaf AND relation.relkind = 'p'
) AS leaves"""
# For each table its own rows of the catalog are looked up: a schema may have thousands of tables.
_TABLES_SQL = """
    SELECT relation.relname::text,
           relation.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = relation.oid),
           relation.relpersistence::text,
           ARRAY(
               SELECT leaf.relreplident::text || concat_ws(E'\\n', leaf.oid::regclass::text, (
                   {key_of_leaf} AND (leaf.relreplident = 'd' AND index.indisprimary
                       OR leaf.relreplident = 'i' AND index.indisreplident)
               ))
               FROM {leaves} JOIN pg_class AS leaf ON leaf.oid = leaves.leaf
           ),
           ARRAY(
               {key} AND (index.indisprimary OR index.indisreplident) GROUP BY index.indexrelid
               HAVING bool_and(index.indimmediate)
           ),
           ARRAY(
               SELECT attname::text FROM pg_attribute
               WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped AND attgenerated <> ''
                   AND attgenerated <> %(generated)s
           ),
           published.tablename IS NOT NULL,
           {parts},
           -- A rewrite of all rows is not in the log: with ALTER it changes attributes, in a partition its file.
           concat_ws('/', (
               SELECT md5(string_agg(attribute.attnum || '.' || attribute.xmin, ' ' ORDER BY attribute.attnum))
               FROM pg_attribute AS attribute WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0
           ), (
               SELECT md5(string_agg(leaves.leaf || '.' || pg_relation_filenode(leaves.leaf), ' ' ORDER BY leaves.leaf))
               FROM {leaves} WHERE relation.relkind = 'p'
           ), (
               SELECT string_agg(rel.oid::text || '.' || rel.xmin, '/') FROM pg_publication_rel AS rel
               WHERE rel.prrelid = relation.oid AND rel.prpubid = %(publication)s
           ), {whole_schema})
    FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    LEFT JOIN pg_publication_tables AS published ON published.pubname = %(name)s
        AND published.schemaname = namespace.nspname AND published.tablename = relation.relname
    WHERE namespace.nspname = %(schema)s AND relation.relkind IN ('r', 'p') AND NOT relation.relispartition
"""
_WHOLE_SCHEMA = """(
               SELECT string_agg(whole.oid::text || '.' || whole.xmin, '/') FROM pg_publication_namespace AS whole
               WHERE whole.pnnspid = relation.relnamespace AND whole.pnpubid = %(publication)s
           )"""


class Identity(NamedTuple):
    """The columns of the old row that an update or delete of a table sends; None if these are all of them."""

    table: str
    columns: frozenset[str] | None

    def has(self, key: Iterable[str]) -> bool:
        """Whether it shows which row was changed, by a key."""
        return self.columns is None or set(key) <= self.columns


@dataclass(frozen=True)
class Published:
    """How a table is in the publication and in the log.

    `identities` are those of the tables that hold its rows: itself, or its partitions.
    `unique` are sets of columns that identify a row. `unsent` are generated columns that are not sent.
    `columns` are those of a column list. `version` changes with how the table is published, and with what changes rows without
    being in the log: a rewrite by ALTER, a TRUNCATE of one partition.
    """

    is_published: bool
    inherited: bool
    persistence: str
    identities: tuple[Identity, ...]
    unique: tuple[frozenset[str], ...]
    unsent: frozenset[str]
    columns: frozenset[str] | None
    filtered: bool
    version: str


@dataclass(frozen=True)
class Publication:
    """A publication, and its tables in one schema by name."""

    name: str
    exists: bool
    complete: bool
    by_root: bool
    tables: dict[str, Published] = field(default_factory=dict)


def find_publication(connection: psycopg.Connection, name: str, schema: str) -> Publication:
    """The publication of a name, whether it exists or not, and what it publishes of a schema's tables."""
    server = connection.info.server_version
    generated = "pubgencols::text" if server >= _GENERATED_SINCE else "'n'"
    row = connection.execute(_PUBLICATION_SQL.format(generated=generated).encode(), [name]).fetchone()
    number, version, complete, by_root, sent = row or (None, None, False, False, "n")
    with_parts = server >= _PARTS_SINCE
    sql = _TABLES_SQL.format(
        parts="published.attnames::text[], published.rowfilter IS NOT NULL" if with_parts else "NULL, false",
        whole_schema=_WHOLE_SCHEMA if with_parts else "NULL",
        leaves=_LEAVES_SQL,
        key_of_leaf=_KEY_SQL.format(table="leaf.oid"),
        key=_KEY_SQL.format(table="relation.oid"),
    )
    given = {"generated": "s" if sent == "s" else "", "publication": number, "name": name, "schema": schema}
    tables = {}
    for each in connection.execute(sql.encode(), given).fetchall():
        table, inherited, persistence, identities, unique, unsent, published, columns, filtered, own = each
        tables[table] = Published(
            is_published=published,
            inherited=inherited,
            persistence=persistence,
            identities=tuple(map(_identity, identities)),
            unique=tuple(frozenset(listed.split("\n")) for listed in unique),
            unsent=frozenset(unsent),
            columns=frozenset(columns) if columns is not None else None,
            filtered=filtered,
            version=f"{number}.{version}/{own}",
        )
    return Publication(name, row is not None, complete, by_root, tables)


def _identity(described: str) -> Identity:
    table, _, listed = described[1:].partition("\n")
    if described.startswith("f"):
        return Identity(table, None)
    return Identity(table, frozenset(listed.split("\n")) if listed else frozenset())


def not_in_log(tables: Iterable[SourceTable], publication: Publication) -> dict[str, SourceRefused]:
    """The tables that cannot be captured from the log, by name, each with the reason and what to do."""
    found = {}
    for table in tables:
        for what, hint in _obstacles(table, publication):
            found[table.name] = SourceRefused(f"{table.schema}.{table.name} {what}", hint=hint)
            break
    return found


def _obstacles(table: SourceTable, publication: Publication) -> Iterator[tuple[str, str]]:
    """Why a table cannot be captured from the log, and what to do; each assumes that the ones before are no obstacles."""
    quoted, place = table.reference, engine.name(publication.name)
    entry = publication.tables.get(table.name)
    if entry is None or not table.has_transaction_ids:
        yield "is not a table, or has foreign partitions, so the log does not have its changes", _BY_QUERY
        return
    if entry.inherited:
        yield "has rows of tables that inherit from it, which the log has as theirs", _BY_QUERY
    if entry.persistence == "u":
        yield (
            "is unlogged, so the log does not have its changes",
            f"ALTER TABLE {quoted} SET LOGGED. {_BY_QUERY}",
        )
    if not entry.is_published and table.partitions and not publication.by_root:
        yield (
            f"is partitioned, and the publication {publication.name} has at most its partitions",
            f"ALTER PUBLICATION {place} SET (publish_via_partition_root = true), and ADD TABLE {quoted}",
        )
    if not entry.is_published:
        yield f"is not in the publication {publication.name}", f"ALTER PUBLICATION {place} ADD TABLE {quoted}"
    if not publication.complete:
        yield (
            f"is in the publication {publication.name} without all operations",
            f"ALTER PUBLICATION {place} SET (publish = 'insert, update, delete, truncate')",
        )
    if entry.filtered:
        yield "is published with a row filter", f"Publish {quoted} without WHERE"
    yield from _obstacles_of_columns(table, entry)
    if not any(columns <= set(table.key) for columns in entry.unique):
        key = ", ".join(table.key)
        yield (
            f"is not known to have only one row for each ({key}) at any moment",
            f"Make that its primary key, NOT DEFERRABLE. {_BY_QUERY}",
        )
    if not all(identity.has(table.key) for identity in entry.identities):
        yield (
            f"does not identify updated and deleted rows by ({', '.join(table.key)}) in the log",
            f"ALTER TABLE {quoted} REPLICA IDENTITY FULL, or the same for each of its partitions",
        )


def _obstacles_of_columns(table: SourceTable, entry: Published) -> Iterator[tuple[str, str]]:
    names = {column.name for column in table.columns}
    for name in sorted(names):
        if name.lower() in RESERVED:
            yield f"has a column {name}, a name that the lake uses itself", f"Rename the column. {_BY_QUERY}"
        if name in entry.unsent:
            yield (
                f"has a generated column {name}, which the log does not have",
                "With PostgreSQL 18 and later, ALTER PUBLICATION … SET (publish_generated_columns = stored) "
                f"if it is a stored one. {_BY_QUERY}",
            )
        elif entry.columns is not None and name not in entry.columns:
            yield f"is published without its column {name}", "Publish it without a list of columns"
    if any("to_char(" in column.expression for column in table.columns):
        yield "has money without cents, or with thousandths, which the log does not show", _BY_QUERY
