"""What every connection to PostgreSQL is opened with, whichever driver opens it: an end to waiting for a dead peer.

The URL stays as it was but for what it does not say itself.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import parse_qsl, urlencode

import adbc_driver_postgresql
from adbc_driver_manager import AdbcConnection, AdbcDatabase, dbapi

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
    """The URL with a limit to how long a peer that does not answer is waited for, unless it sets one itself.

    A process at the other end that is alive and slow is no such peer: its system answers the probes.
    """
    password_end = url.find("@", 0, url.find("/", url.find("://") + 3)) + 1  # a password may have a `?` in it
    question_mark = url.find("?", password_end)
    query = url[question_mark + 1 :] if question_mark >= 0 else ""
    said = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    added = urlencode({name: value for name, value in _LIMITS.items() if name not in said})
    separator = "&" if query else "" if question_mark >= 0 else "?"
    return f"{url}{separator}{added}" if added else url


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
