"""How a BI tool reaches a warehouse: an address without a password, read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from totes.dashboards.superset import Connection
from totes.errors import ConfigurationError
from totes.warehouse.connection import dialect_of, duckdb_file, schema_of

# What Superset writes in the place of a password, and asks for when it reads it.
PASSWORD_ASKED = "XXXXXXXXXX"
_READ_ONLY = "-c default_transaction_read_only=on"
# Parameters that are secret, or hold on the pipeline's machine only.
_LEFT_OUT = {
    "password",
    "sslpassword",
    "passfile",
    "sslkey",
    "sslcert",
    "oauth_client_secret",
    "service",
    "servicefile",
}
_ADDRESS = {"user", "host", "port", "dbname"}


def connection(url: str, schema: str, base: Path) -> Connection:
    """How Superset reaches a warehouse.

    Args:
        url: the warehouse's URL.
        schema: the schema of its tables; empty for the dialect's own.
        base: the folder that a relative file is in.

    Raises:
        ConfigurationError: the URL cannot be read.
    """
    dialect = dialect_of(url)
    if dialect == "duckdb":
        file = quote(str(duckdb_file(url, base).absolute()))
        return Connection(f"duckdb:///{file}", {"read_only": True}, dialect, schema_of(url, schema))
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except ProgrammingError as error:
        raise ConfigurationError(
            "warehouse.url cannot be read as a URL of PostgreSQL",
            hint="Write postgresql://user@host:5432/database",
        ) from error
    options = " ".join(part for part in (parts.pop("options", ""), _READ_ONLY) if part)
    arguments: dict[str, Any] = {"options": options}
    return Connection(_address(parts), arguments, dialect, schema_of(url, schema))


def _address(parts: dict[str, str]) -> str:
    """The address in SQLAlchemy's form, which has one host; a socket's folder and several hosts are parameters."""
    user = quote(parts.get("user", ""), safe="")
    if user and "password" in parts:
        user += f":{PASSWORD_ASKED}"
    host, port = parts.get("host", ""), parts.get("port", "").strip(",")
    others = {name: value for name, value in parts.items() if name not in _LEFT_OUT | _ADDRESS}
    if "/" in host or "," in host:
        others |= {"host": host} | ({"port": port} if port else {})
        place = ""
    else:
        place = (f"[{host}]" if ":" in host else quote(host, safe="")) + (f":{port}" if port else "")
    query = f"?{urlencode(others)}" if others else ""
    database = quote(parts.get("dbname", ""), safe="")
    return f"postgresql+psycopg2://{user}{'@' if user else ''}{place}/{database}{query}"
