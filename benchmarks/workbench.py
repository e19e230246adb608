"""Where benchmarks run: two PostgreSQL servers with default durability, databases in them, and a folder for the rest."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from benchmarks.digest import Column, Digest, kind_of, of_postgresql, raw_columns
from benchmarks.measurement import BenchmarkFailed
from totes.star.project import CALENDAR, Project, load_project
from totes.terrifictotes import demo_source
from totes.terrifictotes.server import LocalServer

_DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_level", "max_wal_size", "commit_delay")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Source:
    """A source database.

    Attributes:
        url: of a role that can read and nothing else; pipelines and peers use it.
        admin_url: of its owner.
        database: its name.
        project: the folder of its models; None for the built-in project.
        changes: whether its rows are changed once it is made.
    """

    url: str
    admin_url: str
    database: str
    project: Path | None = None
    changes: bool = False

    @cached_property
    def tables(self) -> dict[str, tuple[Column, ...]]:
        """Its tables with their columns."""
        return raw_columns(self.admin_url)

    @cached_property
    def digests(self) -> dict[str, Digest]:
        """The digest of each of its tables as they were when they were first asked for."""
        return {name: of_postgresql(self.admin_url, f'"{name}"', self.tables[name]) for name in self.tables}

    @property
    def rows(self) -> int:
        """How many rows it has in all."""
        return sum(digest.rows for digest in self.digests.values())

    def load_project(self) -> Project:
        """The star that is made of it."""
        return load_project("benchmark" if self.project else "terrifictotes", self.project)

    @property
    def star(self) -> dict[str, tuple[str, tuple[Column, ...]]]:
        """The relation of the current rows of each warehouse table, and its columns; without the calendar."""
        models = self.load_project().models
        return {
            f"{model.name}_current" if model.versioned else model.name: (
                model.query.sql("postgres"),
                tuple(Column(column.name, kind_of(column.type)) for column in model.produced),
            )
            for model in models
            if CALENDAR not in model.relations
        }

    @property
    def star_digests(self) -> dict[str, Digest]:
        """What the current rows of each warehouse table must be: the models' plain SQL, run by PostgreSQL."""
        return self._digest_star() if self.changes else self._star_digests

    @cached_property
    def _star_digests(self) -> dict[str, Digest]:
        return self._digest_star()

    def _digest_star(self) -> dict[str, Digest]:
        return {
            name: of_postgresql(self.admin_url, f"({query})", columns)
            for name, (query, columns) in self.star.items()
        }

    def execute(self, *statements: str) -> None:
        """Runs statements as its owner, in one transaction."""
        with psycopg.connect(self.admin_url) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def add_references(self) -> None:
        """Puts the project's reference files into a schema beside the tables, where the models' plain SQL finds them."""
        with psycopg.connect(self.admin_url) as connection:
            connection.execute("CREATE SCHEMA reference")
            for name, reference in self.load_project().references.items():
                header, _, body = reference.path.read_text("utf-8").partition("\n")
                columns = [sql.SQL("{} text").format(sql.Identifier(column)) for column in header.split(",")]
                table = sql.Identifier("reference", name)
                connection.execute(sql.SQL("CREATE TABLE {} ({})").format(table, sql.SQL(", ").join(columns)))
                rows = sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(table)
                with connection.cursor().copy(rows) as copy:
                    copy.write(body)


class Workbench:
    """The servers and the folder, for as long as the context lasts.

    Attributes:
        orders: the number of sales orders.
        repeat: how often each time is taken.
        batches: how many small batches, and how many of `totes status`.
        seconds: how long rows change at the source.
        folder: for all that is not in a database.
    """

    def __init__(
        self, orders: int, repeat: int, batches: int, seconds: int = 0, *, peers: bool = False
    ) -> None:
        self.orders = orders
        self.repeat = repeat
        self.batches = batches
        self.seconds = seconds
        self.with_peers = peers
        self._sources: dict[int, Source] = {}
        self._opened = ExitStack()

    def __enter__(self) -> Workbench:
        """Starts the servers."""
        self.folder = Path(self._opened.enter_context(tempfile.TemporaryDirectory(prefix="totes-benchmark-")))
        self.source_server = self._opened.enter_context(LocalServer.start(durable=True))
        self.warehouse_server = self._opened.enter_context(LocalServer.start(durable=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops the servers and removes everything."""
        self._opened.close()

    def say(self, doing: str) -> None:
        """Says what is being done."""
        print(f"{time.strftime('%H:%M:%S')}  {doing}", file=sys.stderr, flush=True)

    def source(self, orders: int) -> Source:
        """TerrificTotes with so many sales orders, which nobody may change."""
        if orders not in self._sources:
            self.say(f"creating {orders:,} sales orders")
            source = self.new_source(f"totesys_{orders}")
            demo_source.create(source.admin_url, orders)
            self.finish_source(source)
            self._sources[orders] = source
        return self._sources[orders]

    def changing_source(self, orders: int) -> Source:
        """A copy of it, to be changed."""
        self.source(orders)
        copy = self.new_source(f"changing_{next(_numbers)}", template=f"totesys_{orders}")
        return replace(copy, changes=True)

    def new_source(self, database: str, project: Path | None = None, template: str = "template1") -> Source:
        """A source database of a name, empty or a copy of another one."""
        server, role = self.source_server, f"reader_of_{database}"
        _administer(server, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", database, template)
        demo_source.create_reader(server.url(), database, role, "benchmark")
        return Source(server.url(database, role, "benchmark"), server.url(database), database, project)

    def finish_source(self, source: Source) -> None:
        """Leaves tables that were filled as a server that has been up for a while has them."""
        with psycopg.connect(source.admin_url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        source.add_references()

    def new_warehouse(self) -> str:
        """An empty database on the other server; gives its URL."""
        database = f"warehouse_{next(_numbers)}"
        _administer(self.warehouse_server, "CREATE DATABASE {}", database)
        return self.warehouse_server.url(database)

    def drop_warehouse(self, url: str) -> None:
        """Drops a database of `new_warehouse`; any other URL is left alone."""
        if url.startswith("postgresql://"):
            _administer(self.warehouse_server, "DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])

    def new_folder(self) -> Path:
        """An empty folder."""
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        return folder

    def remove(self, folder: Path) -> None:
        """Removes a folder of `new_folder`."""
        shutil.rmtree(folder)

    def settle(self) -> None:
        """Has everything that was written before go to the disk, so that the next run does not pay for it."""
        for server in (self.source_server, self.warehouse_server):
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute("CHECKPOINT")
        os.sync()

    def durability(self) -> dict[str, str]:
        """What both servers have for durability.

        Raises:
            BenchmarkFailed: that is not PostgreSQL's default.
        """
        found: dict[str, str] = {}
        for server in (self.source_server, self.warehouse_server):
            with psycopg.connect(server.url()) as connection:
                for name, value, default in connection.execute(
                    "SELECT name, setting || coalesce(unit, ''), setting = boot_val FROM pg_settings WHERE name = ANY(%s)",
                    [list(_DURABILITY)],
                ).fetchall():
                    if not default:
                        raise BenchmarkFailed(f"{name} is {value}, not PostgreSQL's default")
                    found[name] = value
        return found


def _administer(server: LocalServer, statement: str, *names: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
