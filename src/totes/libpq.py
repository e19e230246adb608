"""What every connection to PostgreSQL is opened with, whichever driver opens it: an end to waiting for a dead peer, and TLS.

The URL stays as it was but for what it does not say itself.
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

# Seconds, and a number of probes. A host that is gone is noticed after two minutes: libpq's own way is to wait for it for
# ever while connecting, and the system's is to wait for two hours while reading.
_LIMITS = {
    "connect_timeout": "15",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}


def with_limits(url: str) -> str:
    """The URL with a limit to how long a peer that does not answer is waited for, and with TLS, unless it sets these itself.

    A process at the other end that is alive and slow is no such peer: its system answers the probes. Without `sslmode`, libpq
    would send the password in the clear to whoever denies TLS: that is left to it on this machine only.
    """
    password_end = url.find("@", 0, url.find("/", url.find("://") + 3)) + 1  # a password may have a `?` in it
    question_mark = url.find("?", password_end)
    query = url[question_mark + 1 :] if question_mark >= 0 else ""
    said = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    wanted = _LIMITS | ({"sslmode": "require"} if _crosses_a_network(url) else {})
    added = urlencode({name: value for name, value in wanted.items() if name not in said})
    separator = "&" if query else "" if question_mark >= 0 else "?"
    return f"{url}{separator}{added}" if added else url


def _crosses_a_network(url: str) -> bool:
    """Whether a server is on another machine, as far as that is known, and nothing says how to speak to it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        return False  # connecting says what is wrong with it

    def setting(name: str, variable: str) -> str:
        return str(parts.get(name) or os.environ.get(variable) or "")

    decided = ("sslmode", "PGSSLMODE"), ("service", "PGSERVICE"), ("gssencmode", "PGGSSENCMODE")
    # `system` stands for verify-full, and goes with nothing less.
    if any(setting(*each) for each in decided) or setting("sslrootcert", "PGSSLROOTCERT") == "system":
        return False
    hosts = setting("hostaddr", "PGHOSTADDR") or setting("host", "PGHOST")
    return not all(is_this_machine(host) for host in hosts.split(","))


def is_this_machine(host: str) -> bool:
    """Whether what is sent to a host stays on this machine: a socket's folder, nothing, or a loopback address."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return False


class _Database(AdbcDatabase):
    """What ADBC knows of a server's types: asking for that takes ten times as long as connecting, so it is kept.

    It holds no connection.
    """

    def close(self) -> None:
        """Leaves it open for the next connection."""


def connect_arrow(target: str, *, autocommit: bool) -> dbapi.Connection:
    """An ADBC connection, on which rows come and go as Arrow.

    Args:
        target: a URL or connection string, with its limits.
        autocommit: whether each statement is a transaction.

    Raises:
        adbc_driver_manager.Error: the server cannot be reached.
    """
    database = _database(target)
    return dbapi.Connection(database, AdbcConnection(database), autocommit=autocommit)


@lru_cache(maxsize=8)
def _database(target: str) -> _Database:
    return _Database(driver=adbc_driver_postgresql._driver_path(), uri=target)
