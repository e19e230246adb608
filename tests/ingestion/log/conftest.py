"""A server whose log can be decoded, a database of the test's own there, and a pipeline that reads its log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from tests.plain_lake import changes_of, manifests_of, objects_of
from totes.ingestion.stage import Ingested
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer

SETTINGS = {
    "autovacuum": "off", "wal_level": "logical", "synchronous_commit": "on", "max_prepared_transactions": "5",
    "max_replication_slots": "20", "scram_iterations": "1",
}  # fmt: skip
ROLE = (
    "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'reads-only'",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader",
)
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
PUBLICATION = "CREATE PUBLICATION totes FOR ALL TABLES WITH (publish_via_partition_root = true)"
MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def log_server() -> Iterator[LocalServer]:
    """A server with wal_level = logical."""
    with LocalServer.start(settings=SETTINGS) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(ROLE[0].encode())
        yield server


@pytest.fixture
def source(log_server: LocalServer) -> Iterator[Database]:
    """A database with a table, a publication of all tables, and a role that may read both."""
    name = f"log_{next(_numbers)}"
    with psycopg.connect(log_server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        made = Database(log_server.url(name), name)
        made.execute(*ROLE[1:], TABLE, PUBLICATION)
        yield made
        for (slot,) in connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@dataclass
class Lake:
    """A pipeline, and its ingestion lake as anybody would read it."""

    pipeline: Pipeline

    def ingest(self) -> Ingested:
        """One call of the stage; nothing may fail."""
        done = self.pipeline.ingest()
        assert done.failure is None, done.failure
        return done

    @property
    def folder(self) -> str:
        """The folder of the ingestion lake."""
        return str(self.pipeline.settings.base / "lake/ingestion")

    def manifests(self) -> list[dict[str, Any]]:
        """All manifests, oldest first."""
        return manifests_of(objects_of(self.folder))

    def lines(self, batch: int, table: str = "t") -> list[dict[str, Any]]:
        """The lines of a table in a batch, in the order of the log."""
        objects = objects_of(self.folder)
        found = changes_of(objects, manifests_of(objects)[batch - 1], table)
        return sorted(found, key=lambda line: (number(line.get("_lsn", "0/0")), line.get("_seq", 0)))

    def steps(self, batch: int, table: str = "t") -> list[tuple[Any, ...]]:
        """The operation and the values of each line of a batch."""
        return [
            (line["_op"], *(value for name, value in line.items() if not name.startswith("_")))
            for line in self.lines(batch, table)
        ]


def number(lsn: str) -> int:
    """A position of the log as a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@pytest.fixture
def new_lake(make_pipeline: Any, write_project: Any, tmp_path: Path) -> Callable[..., Lake]:
    """Makes a pipeline that captures from the log, with a role that may only replicate and read."""

    def make(database: Database, /, capture: str = "log", lock_timeout: str = "30s", **sections: Any) -> Lake:
        url = database.url.replace(database.url.partition("//")[2].partition("@")[0], "reader:reads-only")
        options = {"capture": capture, "lock_timeout": lock_timeout} | sections.pop("source", {})
        project = sections.pop("project", None) or write_project(MODEL)
        return Lake(
            make_pipeline(
                url,
                project=project,
                source=options,
                lake={"compression": "gzip"} | sections.pop("lake", {}),
                **sections,
            )
        )

    return make


@pytest.fixture
def lake(source: Database, new_lake: Callable[..., Lake]) -> Lake:
    """A pipeline that captures from the log, and has captured what was there before."""
    made = new_lake(source)
    assert made.ingest().batch == 1
    return made
