"""PostgreSQL 15 beside the 18 of all other tests: what it has to be asked otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.identity.clusters import as_server
from tests.ingestion.log.conftest import PUBLICATION, ROLE, TABLE, Lake
from totes.terrifictotes.binaries import prepare_folder, server_account
from totes.terrifictotes.server import LocalServer

DEBIAN = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a server that its account can enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made) / "fifteen"


def test_changes_a_truncate_and_a_new_column(new_lake: Callable[..., Lake], folder: Path) -> None:
    if not (DEBIAN / "initdb").exists():
        pytest.skip(f"PostgreSQL 15 is not in {DEBIAN}")
    prepare_folder(folder, server_account())
    options = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    as_server(DEBIAN / "initdb", "-D", folder / "data", *options, cwd=folder)
    with LocalServer.start(
        folder, {"wal_level": "logical", "synchronous_commit": "on"}, binaries=DEBIAN
    ) as server:
        source = Database(server.url("postgres"), "postgres")
        source.execute(
            *ROLE,
            TABLE,
            "GRANT SELECT ON t TO reader",
            PUBLICATION,
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        )
        lake = new_lake(source)
        assert lake.ingest().batch == 1
        source.execute(
            "UPDATE t SET v = 'c' WHERE id = 1",
            "UPDATE t SET v = 'd' WHERE id = 1",
            "UPDATE t SET id = 3 WHERE id = 2",
        )
        assert lake.ingest().batch == 2
        assert lake.steps(2) == [("upsert", 1, "c"), ("upsert", 1, "d"), ("delete", 2), ("upsert", 3, "b")]
        source.execute(
            "TRUNCATE t", "INSERT INTO t VALUES (4, 'e')", "ALTER TABLE t ADD w text DEFAULT 'new'"
        )
        while lake.ingest().batch is not None:
            continue
        assert sorted(lake.steps(3)) == [("delete", 1), ("delete", 3), ("upsert", 4, "e")]
        assert lake.steps(len(lake.manifests())) == [("upsert", 4, "e", "new")]
