"""One PostgreSQL for a test run, and databases of it that are a test's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

ORDERS = 200
_numbers = itertools.count(1)
_made: list[str] = []  # databases, in the order in which they were made


@dataclass
class Database:
    """A database of the test's own."""

    url: str
    name: str

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements, each committed at once, and gives the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def connect(self) -> psycopg.Connection:
        """A session that commits when it is told to."""
        return psycopg.connect(self.url)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One PostgreSQL for the whole run; its hundreds of small databases are not worth being vacuumed in turn, nor a disk.

    A password is hashed once, not 4096 times at either end of each of the thousands of connections.
    """
    with LocalServer.start(settings={"autovacuum": "off", "scram_iterations": "1"}) as running:
        with psycopg.connect(running.url(), autocommit=True) as connection:
            connection.execute(f"ALTER ROLE postgres PASSWORD '{running.password}'".encode())
        yield running


@pytest.fixture(scope="session")
def administer(server: LocalServer) -> Iterator[Callable[[str], None]]:
    """Runs a statement of the server's administrator, all in one session: to begin one takes as long as to drop a database."""
    session = psycopg.connect(server.url(), autocommit=True)

    def run(statement: str) -> None:
        nonlocal session
        try:
            session.execute("SELECT")
        except psycopg.OperationalError:  # a test has ended all sessions
            session = psycopg.connect(server.url(), autocommit=True)
        session.execute(statement.encode())

    yield run
    session.close()


@pytest.fixture(scope="session")
def new_database(server: LocalServer, administer: Callable[[str], None]) -> Callable[..., Database]:
    """Makes a database: empty, or a copy of another."""

    def make(template: str = "template0") -> Database:
        name = f"test_{next(_numbers)}"
        administer(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        _made.append(name)
        return Database(server.url(name), name)

    return make


@pytest.fixture(autouse=True)
def _databases_go(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drops the databases of a test after it, so that the next ones take the same memory; those of wider fixtures stay."""
    before = len(_made)
    yield
    if len(_made) == before:
        return
    administer: Callable[[str], None] = request.getfixturevalue("administer")
    for name in _made[before:]:
        with suppress(psycopg.errors.ObjectInUse):  # by a subscription or a prepared transaction
            administer(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    del _made[before:]


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """An empty database."""
    return new_database()


@pytest.fixture(scope="session")
def _totesys_template(new_database: Callable[..., Database]) -> Database:
    template = new_database()
    demo_source.create(template.url, ORDERS)
    return template


@pytest.fixture
def totesys(new_database: Callable[..., Database], _totesys_template: Database) -> Database:
    """A `totesys` with 200 sales orders."""
    return new_database(_totesys_template.name)
