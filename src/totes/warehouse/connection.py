"""Which adapter a warehouse URL means."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from totes.errors import ConfigurationError
from totes.warehouse.adapter import Warehouse
from totes.warehouse.ddl import OWN_SCHEMAS
from totes.warehouse.table import Dialect


def open_warehouse(
    url: str,
    schema: str,
    *,
    base: Path,
    memory: str,
    reads: tuple[Path, ...] = (),
    read_only: bool = False,
) -> AbstractContextManager[Warehouse]:
    """Opens a warehouse.

    Args:
        url: `duckdb:///FILE` (relative to `base`; with four slashes absolute) or a PostgreSQL URL.
        schema: the schema of its tables; empty for the dialect's own.
        base: the folder of the settings file.
        memory: the most memory for the engine.
        reads: the folders of the lake whose objects are loaded.
        read_only: whether it is only read: a file is then shared with others that read it, and none is made.

    Raises:
        ConfigurationError: the URL is of neither kind.
        WarehouseError: it cannot be opened.
    """
    if dialect_of(url) == "duckdb":
        from totes.warehouse.duckdb_file import open_duckdb

        return open_duckdb(duckdb_file(url, base), schema, memory, reads, read_only=read_only)
    from totes.warehouse.postgresql import open_postgresql

    return open_postgresql(url, schema, memory, reads)


def state_of(url: str, base: Path) -> str | None:
    """What changes with every write to a warehouse that is a file, while nobody is writing it; None for a server."""
    if dialect_of(url) != "duckdb":
        return None
    from totes.warehouse.duckdb_shadow import known_state

    return known_state(duckdb_file(url, base))


def dialect_of(url: str) -> Dialect:
    """The dialect of a warehouse URL."""
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        return "postgresql"
    if scheme == "duckdb" and re.fullmatch("duckdb:///[^?#]*[^?#/]", url):
        return "duckdb"
    raise ConfigurationError(
        "warehouse.url is neither duckdb:///FILE nor postgresql://…",
        hint="A DuckDB file beside totes.toml is duckdb:///warehouse.duckdb; write %23 for # in its name",
    )


def duckdb_file(url: str, base: Path) -> Path:
    """The file of a DuckDB warehouse's URL."""
    return base / unquote(urlsplit(url).path.removeprefix("/"))


def schema_of(url: str, schema: str) -> str:
    """The schema of the warehouse's tables."""
    return schema or OWN_SCHEMAS[dialect_of(url)]


def role_of(url: str) -> str | None:
    """The role that loads into a PostgreSQL warehouse, where its URL says it."""
    if dialect_of(url) == "duckdb":
        return None
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        return str(conninfo_to_dict(url).get("user") or "") or None
    except ProgrammingError:
        return None
