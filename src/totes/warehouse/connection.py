"""Which adapter a warehouse URL means."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from totes.errors import ConfigurationError
from totes.warehouse.adapter import Warehouse
from totes.warehouse.ddl import OWN_SCHEMAS, Dialect


def open_warehouse(url: str, schema: str, *, base: Path, memory: str) -> AbstractContextManager[Warehouse]:
    """Opens a warehouse.

    Args:
        url: `duckdb:///FILE` (relative to `base`; with four slashes absolute) or a PostgreSQL URL.
        schema: the schema of its tables; empty for the dialect's own.
        base: the folder of the settings file.
        memory: the most memory for the engine.

    Raises:
        ConfigurationError: the URL is of neither kind.
        WarehouseError: it cannot be opened.
    """
    if dialect_of(url) == "duckdb":
        from totes.warehouse.duckdb_file import open_duckdb

        return open_duckdb(duckdb_file(url, base), schema, memory)
    from totes.warehouse.postgresql import open_postgresql

    return open_postgresql(url, schema, memory)


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
