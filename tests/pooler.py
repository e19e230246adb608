"""A real PgBouncer before the tests' server, and what an application's pooled sessions look like."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from totes.terrifictotes.binaries import server_account
from totes.terrifictotes.server import LocalServer

POOL_SIZE = 6
# All that a session can keep beyond a transaction.
_SESSION_SQL = """
    SELECT pg_backend_pid(),
        (SELECT json_agg(ARRAY[name, setting] ORDER BY name) FROM pg_settings WHERE name NOT IN ('transaction_isolation'))::text,
        (SELECT count(*) FROM pg_prepared_statements),
        (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
        (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
        (SELECT count(*) FROM pg_cursors WHERE NOT is_holdable AND name <> '')
"""


class Pooler(NamedTuple):
    """A running PgBouncer."""

    server: LocalServer
    port: int

    def url(self, database: str) -> str:
        """A database of the server, by way of the pool."""
        return f"postgresql://postgres:{self.server.password}@127.0.0.1:{self.port}/{database}"

    def sessions(self, database: str) -> dict[int, tuple[Any, ...]]:
        """What all sessions of the pool hold, by their server process: as many transactions as it has sessions are open at once."""
        found = {}
        with ExitStack() as opened:
            for _ in range(POOL_SIZE):
                connection = opened.enter_context(psycopg.connect(self.url(database), prepare_threshold=None))
                row = connection.execute(_SESSION_SQL.encode()).fetchone()
                assert row is not None
                found[int(row[0])] = row[1:]
        return found


@contextmanager
def pooler(server: LocalServer, mode: str, **settings: str) -> Iterator[Pooler]:
    """Runs PgBouncer in a pool mode; skips the test where there is none."""
    program = shutil.which(
        "pgbouncer", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin:/usr/bin:/usr/local/bin"
    )
    if program is None:
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer)")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    account = server_account()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        users, configuration = Path(folder, "users"), Path(folder, "pgbouncer.ini")
        users.write_text(f'"postgres" "{server.password}"\n')
        values = {
            "listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": "", "auth_type": "plain",
            "auth_file": str(users), "pool_mode": mode, "default_pool_size": str(POOL_SIZE), "server_reset_query": "",
            "server_round_robin": "1", "query_wait_timeout": "20", **settings,
        }  # fmt: skip
        lines = "\n".join(f"{name} = {value}" for name, value in values.items())
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n{lines}\n"
        )
        for path in (Path(folder), users, configuration):
            path.chmod(0o755)
        process = subprocess.Popen(
            [program, str(configuration)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            user=None if account is None else account.user_id,
            extra_groups=None if account is None else [],
        )
        try:
            _wait_until_open(process, port)
            yield Pooler(server, port)
        finally:
            process.terminate()
            process.communicate(timeout=30)


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"PgBouncer did not start: {process.stdout.read() if process.stdout else ''!r}")
