"""Opens warehouses: which adapter a URL means, and what it is given."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from totes import engine
from totes.errors import ConfigurationError
from totes.reused import Reused
from totes.warehouse.adapter import Warehouse
from totes.warehouse.ddl import OWN_SCHEMAS
from totes.warehouse.table import Dialect


class Warehouses:
    """Opens warehouses. Rows pass through one engine in memory on their way to a server; it can be kept open between uses."""

    def __init__(self, base: Path, schema: str, memory: str, reads: tuple[Path, ...] = ()) -> None:
        """Prepares it.

        Args:
            base: the folder of the settings file.
            schema: the schema of the tables; empty for the dialect's own.
            memory: the most memory for an engine.
            reads: the folders of the lake whose objects are loaded.
        """
        self._base = base
        self._schema = schema
        self._memory = memory
        self._reads = reads
        self._local = Reused(lambda: closing(engine.connect(None, memory=memory, reads=reads)))

    def open(self, url: str, *, read_only: bool = False) -> AbstractContextManager[Warehouse]:
        """Opens a warehouse.

        Args:
            url: `duckdb:///FILE` (relative to `base`; with four slashes absolute) or a PostgreSQL URL.
            read_only: whether it is only read: a file is then shared with others that read it, and none is made.

        Raises:
            ConfigurationError: the URL is of neither kind.
            WarehouseError: it cannot be opened.
        """
        if dialect_of(url) == "duckdb":
            from totes.warehouse.duckdb_file import open_duckdb

            file = duckdb_file(url, self._base)
            return open_duckdb(file, self._schema, self._memory, self._reads, read_only=read_only)
        from totes.warehouse.postgresql import open_postgresql

        return open_postgresql(url, self._schema, self._local)

    def kept(self) -> AbstractContextManager[None]:
        """Keeps the engine open until the context ends."""
        return self._local.kept()

    def close(self) -> None:
        """Closes the engine if it is kept open; the next use opens another."""
        self._local.close()


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
