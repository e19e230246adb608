"""Servers of the older versions of PostgreSQL that a source may be, whose programs `make postgresql-versions` installs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.identity.clusters import as_server
from tests.ingestion.log.conftest import ROLE, SETTINGS, lake, new_lake, source  # noqa: F401  fixtures
from totes.terrifictotes.binaries import prepare_folder, server_account
from totes.terrifictotes.server import LocalServer

PROGRAMS = Path(__file__).parents[2] / ".venv-postgresql/node_modules"
BY_QUERY, BY_LOG = (13, 14, 15, 16, 17), (14, 15, 16, 17)


@contextmanager
def server_of(version: int) -> Iterator[LocalServer]:
    """A running server of a version, whose log can be decoded, with the role of a pipeline."""
    package = PROGRAMS / f"postgresql-{version}"
    if not (package / "native/bin/postgres").exists():
        pytest.skip(f"PostgreSQL {version} is not installed: make postgresql-versions")
    with tempfile.TemporaryDirectory(dir="/tmp") as made:  # which the server's account can enter
        Path(made).chmod(0o755)
        native, folder = Path(made) / "native", Path(made) / "server"
        shutil.copytree(package / "native", native)
        for link in json.loads(
            (native / "pg-symlinks.json").read_text()
        ):  # which an archive of npm cannot hold
            (Path(made) / link["target"]).symlink_to(Path(link["source"]).name)
        prepare_folder(folder, server_account())
        options = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        as_server(native / "bin/initdb", "-D", folder / "data", *options, cwd=folder)
        settings = dict(SETTINGS)
        if version < 16:
            del settings["scram_iterations"]
        with LocalServer.start(folder, settings, binaries=native / "bin") as server:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(ROLE[0].encode())
            yield server


@pytest.fixture(scope="session", params=BY_LOG)
def log_server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A server of each version from which the log can be captured."""
    with server_of(request.param) as server:
        yield server
