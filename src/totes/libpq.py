"""Connection parameters for PostgreSQL, for every driver: timeouts for dead peers, and TLS.

Parameters that are in the URL already are not changed.
"""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode

import adbc_driver_postgresql
import psycopg
from adbc_driver_manager import AdbcConnection, AdbcDatabase, dbapi
from psycopg.conninfo import conninfo_to_dict

# Seconds, and a number of probes. A dead host is noticed after two minutes: by default, libpq waits forever while connecting,
# and the system for two hours while reading.
_LIMITS = {
    "connect_timeout": "15",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}


def with_limits(url: str) -> str:
    """The URL with timeouts for a peer that does not answer, and with TLS, unless it sets these itself.

    A slow process at the other end is not cut off, since its system answers the probes. Without `sslmode`, libpq would send
    the password in the clear to a server that refuses TLS; that is allowed on this machine only.
    """
    password_end = url.find("@", 0, url.find("/", url.find("://") + 3)) + 1  # a password may have a `?` in it
    question_mark = url.find("?", password_end)
    query = url[question_mark + 1 :] if question_mark >= 0 else ""
    given = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    wanted = _LIMITS | ({"sslmode": "require"} if _crosses_a_network(url) else {})
    added = urlencode({name: value for name, value in wanted.items() if name not in given})
    separator = "&" if query else "" if question_mark >= 0 else "?"
    return f"{url}{separator}{added}" if added else url


def _crosses_a_network(url: str) -> bool:
    """Whether a server is, or may be, on another machine, and nothing else decides whether TLS is used."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return False  # connecting will report what is wrong with it

    def setting(name: str, variable: str) -> str:
        return str(parts.get(name) or os.environ.get(variable) or "")

    decided = ("sslmode", "PGSSLMODE"), ("service", "PGSERVICE"), ("gssencmode", "PGGSSENCMODE")
    # `system` implies verify-full, and is refused with anything less.
    if any(setting(*each) for each in decided) or setting("sslrootcert", "PGSSLROOTCERT") == "system":
        return False
    hosts = setting("hostaddr", "PGHOSTADDR") or setting("host", "PGHOST")
    return not all(is_this_machine(host) for host in hosts.split(","))


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine: the folder of a socket, empty, or a loopback address."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


class _Database(AdbcDatabase):
    """ADBC's knowledge of a server's types, cached because reading them takes ten times as long as connecting.

    It has no open connection.
    """

    def close(self) -> None:
        """Does nothing: it stays open for the next connection."""


def connect_arrow(target: str, *, autocommit: bool) -> dbapi.Connection:
    """An ADBC connection, which reads and writes rows as Arrow.

    Args:
        target: a URL or connection string, with timeouts.
        autocommit: whether each statement is a transaction.

    Raises:
        adbc_driver_manager.Error: the server cannot be reached.
    """
    database = _database(target)
    return dbapi.Connection(database, AdbcConnection(database), autocommit=autocommit)


@lru_cache(maxsize=8)
def _database(target: str) -> _Database:
    return _Database(driver=adbc_driver_postgresql._driver_path(), uri=target)
