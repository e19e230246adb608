"""What tests run against: a real PostgreSQL, a fresh database each, pipelines over them, and the real command."""

from __future__ import annotations

import email
import email.policy
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests import processes, readers
from tests.databases import (  # noqa: F401  fixtures
    ORDERS,
    Database,
    _databases_go,
    _totesys_template,
    administer,
    database,
    new_database,
    server,
    totesys,
)
from tests.order import pytest_collection_modifyitems  # noqa: F401  a hook
from tests.processes import Command
from totes import engine, log, redaction
from totes.config import Settings
from totes.lake.journal import processed_journal
from totes.pipeline import Pipeline
from totes.warehouse.connection import dialect_of, duckdb_file

# A disk in memory, where there is one, takes a third of the time to make and remove a database, each of 8 MB; and nothing
# waits there for the forty times that a cycle has the disk store what it wrote.
_MEMORY_DISK, _MEMORY_DISK_BYTES_MIN = Path("/dev/shm"), 12 << 30
_numbers = itertools.count(1)


# Where the adapter plays no part one kind of warehouse will do; the other has its turn in the sweep.
EITHER_KIND = pytest.mark.parametrize(
    "warehouse_url", ["duckdb", pytest.param("postgresql", marks=pytest.mark.sweep)], indirect=True
)


@dataclass
class Bucket:
    """A place of the test's own in a bucket of a real S3 server."""

    prefix: str

    def url(self, store: str) -> str:
        """The URL of a store."""
        return f"{self.prefix}/{store}"


@dataclass
class Mailbox:
    """What a real SMTP server has taken in; `url` is the Apprise URL that sends to it, with `password` in it."""

    url: str = ""
    password: str = "opensesame-4711"
    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Takes a mail in."""
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        """The subjects of all mails, in the order in which they came."""
        return [str(mail["Subject"]) for mail in self.mails]

    def text(self, number: int) -> str:
        """The text of a mail."""
        body = self.mails[number].get_body(("plain",))
        assert body is not None
        return str(body.get_content())


def pytest_configure() -> None:
    """Has all temporary folders on a disk in memory, those of processes too, unless TMPDIR says where they are."""
    if (
        _MEMORY_DISK.is_dir()
        and not os.statvfs(_MEMORY_DISK).f_flag & os.ST_NOEXEC
        and shutil.disk_usage(_MEMORY_DISK).free > _MEMORY_DISK_BYTES_MIN
    ):
        os.environ.setdefault("TMPDIR", str(_MEMORY_DISK))
        tempfile.tempdir = None
    tempfile.gettempdir()  # from here on it stays that, whatever a test has its commands find in their environment


@pytest.fixture(scope="session", autouse=True)
def _server_of_processes() -> None:
    """Starts it before a test can change what its processes inherit."""
    processes.start_server()


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    log.configure(terminal=False)


@pytest.fixture(autouse=True)
def _own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password of one test is not masked in what another one reads."""
    monkeypatch.setattr(redaction, "_secrets", set())


@pytest.fixture(params=["duckdb", "postgresql"])
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty warehouse of each kind."""
    if request.param == "duckdb":
        return f"duckdb:///{tmp_path}/warehouse.duckdb"
    made: Database = request.getfixturevalue("new_database")()
    return made.url


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """SeaweedFS with one bucket, `lakes`; gives the environment in which clients find it."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    services = ("master", "volume", "filer", "s3", "admin")
    flags = [f"{service}.port{kind}" for service in services for kind in ("", ".grpc")]
    ports = dict(zip(flags, _free_ports(len(flags)), strict=True))
    identity = {
        "name": "tests",
        "actions": ["Admin"],
        "credentials": [{"accessKey": "tests", "secretKey": "s3-secret"}],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("weed"), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-master.telemetry=false", "-bucket=lakes", f"-s3.config={folder / 's3.json'}",
                *(f"-{flag}={port}" for flag, port in ports.items()),
            ],
            stdout=output, stderr=output, cwd=folder,
        )  # fmt: skip
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}", "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "s3-secret", "AWS_REGION": "us-east-1",
    }  # fmt: skip
    try:
        _wait_for_bucket(process, environment, folder / "log")
        yield environment
    finally:
        process.kill()
        process.wait()
        for port in ports.values():  # killed, it leaves its sockets in a place of its own choice
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def s3(_s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A real S3 server, which the environment points to."""
    for variable, value in _s3_server.items():
        monkeypatch.setenv(variable, value)
    return Bucket(f"s3://lakes/test-{next(_numbers)}")


@pytest.fixture
def smtp() -> Iterator[Mailbox]:
    """A real SMTP server that asks for a password."""
    mailbox = Mailbox()

    def authenticate(*arguments: Any) -> AuthResult:
        return AuthResult(success=arguments[-1].password == mailbox.password.encode())

    [port] = _free_ports(1)
    controller = Controller(
        mailbox, hostname="127.0.0.1", port=port, authenticator=authenticate, auth_require_tls=False
    )
    controller.start()
    mailbox.url = (
        f"mailto://robot:{mailbox.password}@127.0.0.1:{port}"
        "?mode=insecure&from=robot@totes.example&to=people@totes.example"
    )
    yield mailbox
    controller.stop()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Secrets that an HTTP server gives to AWS's own client, by name."""
    kept: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SecretId"]
            assert self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
            found = name in kept
            answer = (
                {"Name": name, "SecretString": kept[name]}
                if found
                else {"__type": "ResourceNotFoundException"}
            )
            body = json.dumps(answer).encode()
            self.send_response(200 if found else 400)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{listener.server_port}", "AWS_REGION": "eu-west-2",
        "AWS_DEFAULT_REGION": "eu-west-2", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    yield kept
    listener.shutdown()
    thread.join()
    listener.server_close()


@pytest.fixture
def make_pipeline(tmp_path: Path) -> Callable[..., Pipeline]:
    """Makes a pipeline with its lake in the test's folder.

    Keyword arguments are sections of the settings: `source={"schema": "shop"}`; `folder` is another place for the lake.
    """

    def make(
        source_url: str, warehouse_url: str | None = None, folder: Path | None = None, **sections: Any
    ) -> Pipeline:
        base = folder or tmp_path
        source = {"url": source_url} | sections.pop("source", {})
        warehouse = {"url": warehouse_url or "duckdb:///warehouse.duckdb"} | sections.pop("warehouse", {})
        return Pipeline(Settings(source=source, warehouse=warehouse, base=base, **sections))

    return make


@pytest.fixture
def write_project(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes a project: `models={"dim_x": "CREATE TABLE …"}` and reference files; gives its section of the settings."""

    def write(
        models: dict[str, str], references: dict[str, str] | None = None, name: str = "project"
    ) -> dict[str, Any]:
        folder = tmp_path / name
        for kind, ending, files in (("models", "sql", models), ("reference", "csv", references or {})):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (folder / kind / f"{file}.{ending}").write_text(text, encoding="utf-8")
        return {"name": name, "path": folder}

    return write


@pytest.fixture
def totes(tmp_path: Path) -> Callable[..., Command]:
    """Runs the command as a user does, in the test's folder."""

    def run(*arguments: str, cwd: Path | None = None, timeout: float = 120, **environment: str) -> Command:
        return processes.command(arguments, cwd or tmp_path, {**os.environ, **environment}, timeout)

    return run


def _free_ports(number: int) -> list[int]:
    listeners = [socket.socket() for _ in range(number)]
    for listener in listeners:
        listener.bind(("127.0.0.1", 0))
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_for_bucket(process: subprocess.Popen[bytes], environment: dict[str, str], output: Path) -> None:
    """Waits until the bucket can be listed."""
    bucket = S3Store(
        "lakes", config=environment, client_options={"allow_http": True}, retry_config={"max_retries": 0}
    )  # type: ignore[call-overload]
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            bucket.list().collect()
        except BaseError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"SeaweedFS did not start: {output.read_text(errors='replace')[-2000:]}")


def processed_rows(pipeline: Pipeline, columns: str = "*") -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the processed lake, with these columns, by batch, table and what they are; with their surrogates."""
    journal, connection = (
        processed_journal(pipeline.processed_store),
        engine.connect(None, memory="1GB", reads=pipeline.lake_folders),
    )
    found: dict[str, list[tuple[Any, ...]]] = {}
    for batch in range(1, journal.last() + 1):
        for name, model in journal.read(batch).models.items():
            for kind in ("objects", "removed", "state", "quarantine"):
                objects = getattr(model, kind)
                if objects:
                    with pipeline.processed_store.local(list(objects)) as files:
                        rows = connection.execute(f"SELECT {columns} FROM {engine.parquet(files)}").fetchall()
                    found[f"{batch} {name} {kind}"] = sorted(rows, key=str)
    return found


def rows_of(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query over the pipeline's warehouse."""
    url = pipeline.settings.warehouse_url()
    if dialect_of(url) == "duckdb" and (file := duckdb_file(url, pipeline.settings.base)).exists():
        return readers.rows(file, sql)
    with pipeline.warehouse() as warehouse:
        return warehouse.query(sql)[1]


def run_cleanly(pipeline: Pipeline) -> Any:
    """Runs one cycle, and raises what a stage raised."""
    cycle = pipeline.run()
    for error in cycle.failures.values():
        raise error
    return cycle
