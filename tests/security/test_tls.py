"""The TLS settings of a connection URL hold for every connection: the source's two, and the warehouse's."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import psycopg
import pytest

from tests.conftest import Command, rows_of, run_cleanly
from tests.security.certificates import Authority, binaries_with_tls, new_authority, tls_server
from totes.config import SourceSettings
from totes.errors import SourceError, WarehouseError
from totes.ingestion.session import BulkConnection
from totes.ingestion.source import open_snapshot
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer
from totes.warehouse.connection import Warehouses

MODEL = {
    "dim_tote": "CREATE TABLE dim_tote (tote_id INTEGER PRIMARY KEY, name VARCHAR) AS SELECT tote_id, name FROM tote"
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that both sides trust."""
    if not shutil.which("openssl"):
        pytest.skip("certificates cannot be made: there is no program openssl")
    return new_authority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def stranger(authority: Authority) -> Authority:
    """An authority that nobody trusts."""
    return new_authority(authority.folder.with_name("stranger"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[LocalServer]:
    """A server at `localhost` that refuses every connection without TLS, with the database `totes`."""
    binaries = binaries_with_tls()
    if binaries is None:
        pytest.skip("no PostgreSQL with TLS is at hand: the wheel's has none, and no other is installed")
    with tls_server(binaries, *authority.issue("server", host="localhost"), authority.certificate) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE certified LOGIN PASSWORD NULL")
            connection.execute("CREATE DATABASE totes")
        with psycopg.connect(server.url("totes"), autocommit=True) as connection:
            connection.execute("CREATE TABLE tote (tote_id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO tote VALUES (1, 'canvas')")
            connection.execute("GRANT SELECT ON tote TO certified")
        yield server


def url(server: LocalServer, *, database: str = "totes", host: str = "localhost", **parameters: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{server.url(database).replace('127.0.0.1', host)}?{query}"


def _source(target: str) -> None:
    with open_snapshot(target, SourceSettings.model_validate({"url": target}), frozenset()):
        pass


def _bulk(target: str) -> None:
    try:
        BulkConnection(target, "00000000-00000000-1", {}, None).close()
    except adbc_driver_manager.Error as error:
        if "snapshot" not in str(error):
            raise  # otherwise it was connected, and heard that there is no such snapshot


def _warehouse(target: str) -> None:
    with Warehouses(Path(), "", "1GB").open(target) as warehouse:
        assert warehouse.newest() is None


CLIENTS = pytest.mark.parametrize(
    ("connect", "raised"),
    [
        pytest.param(_source, SourceError, id="source"),
        pytest.param(_bulk, adbc_driver_manager.Error, id="source-bulk"),
        pytest.param(_warehouse, WarehouseError, id="warehouse"),
    ],
)
Connect = Callable[[str], None]


def test_source_and_warehouse_are_reached_through_verified_connections(
    secure: LocalServer,
    authority: Authority,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> None:
    verified = url(secure, sslmode="verify-full", sslrootcert=authority.certificate)
    pipeline = make_pipeline(
        verified, verified, project=write_project(MODEL), source={"tables": ["tote"]},
        warehouse={"schema": "verified"},
    )  # fmt: skip
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT * FROM verified.dim_tote") == [(1, "canvas")]


@CLIENTS
def test_trust_may_come_from_the_system_and_from_the_environment(
    connect: Connect,
    raised: type[Exception],
    secure: LocalServer,
    authority: Authority,
    stranger: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    connect(url(secure, sslrootcert="system"))
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.certificate))
    with pytest.raises(raised, match="certificate verify failed"):
        connect(url(secure, sslrootcert="system"))
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(authority.certificate))
    connect(url(secure))
    monkeypatch.setenv("PGSSLROOTCERT", str(stranger.certificate))
    with pytest.raises(raised, match="certificate verify failed"):
        connect(url(secure))


@CLIENTS
@pytest.mark.parametrize(
    ("host", "parameters", "reason"),
    [
        ("localhost", {"sslmode": "verify-full", "trusted": "stranger"}, "certificate verify failed"),
        ("localhost", {"sslmode": "verify-ca", "trusted": "stranger"}, "certificate verify failed"),
        ("127.0.0.1", {"sslmode": "verify-full", "trusted": "authority"}, "does not match host name"),
        ("localhost", {"sslmode": "verify-full", "sslrootcert": "/no/such.crt"}, "does not exist"),
        ("localhost", {"sslmode": "disable"}, "pg_hba.conf rejects connection .* no encryption"),
        ("localhost", {"sslmode": "verify-ful"}, "invalid sslmode value"),
    ],
    ids=["wrong-authority", "wrong-authority-ca", "wrong-host", "no-authority", "plain", "misspelt"],
)
def test_a_connection_that_does_not_meet_its_settings_is_refused_with_the_reason(
    connect: Connect,
    raised: type[Exception],
    host: str,
    parameters: dict[str, str],
    reason: str,
    secure: LocalServer,
    request: pytest.FixtureRequest,
) -> None:
    asked: dict[str, Any] = dict(parameters)
    if trusted := asked.pop("trusted", None):
        asked["sslrootcert"] = request.getfixturevalue(str(trusted)).certificate
    with pytest.raises(raised, match=reason) as caught:
        connect(url(secure, host=host, **asked))
    assert secure.password not in str(caught.value)


@CLIENTS
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_a_server_without_tls_is_refused(
    connect: Connect, raised: type[Exception], sslmode: str, server: LocalServer, authority: Authority
) -> None:
    with pytest.raises(raised, match="server does not support SSL, but SSL was required"):
        connect(url(server, database="postgres", sslmode=sslmode, sslrootcert=authority.certificate))


@CLIENTS
def test_nothing_is_told_to_one_who_denies_to_have_tls(
    connect: Connect, raised: type[Exception], authority: Authority
) -> None:
    with _denier() as (port, heard):
        target = f"postgresql://reader:told-to-nobody@localhost:{port}/totes"
        with pytest.raises(raised, match="does not support SSL"):
            connect(f"{target}?sslmode=verify-full&sslrootcert={authority.certificate}")
    assert set(heard) == {bytes.fromhex("00000008 04d2162f")}  # the request for TLS, and no name after it


@CLIENTS
def test_a_client_certificate_is_presented(
    connect: Connect,
    raised: type[Exception],
    secure: LocalServer,
    authority: Authority,
    stranger: Authority,
) -> None:
    def target(**parameters: Any) -> str:
        plain = url(secure, sslmode="verify-full", sslrootcert=authority.certificate, **parameters)
        return plain.replace(f"postgres:{secure.password}@", "certified@")

    certificate, key = authority.issue("certified")
    connect(target(sslcert=certificate, sslkey=key))
    with pytest.raises(raised, match="requires a valid client certificate"):
        connect(target())
    other_certificate, other_key = stranger.issue("certified")
    with pytest.raises(raised):
        connect(target(sslcert=other_certificate, sslkey=other_key))


def test_the_command_says_what_is_wrong_in_one_line(
    secure: LocalServer, stranger: Authority, totes: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "totes.toml").write_text('[source]\nurl = "set by the environment"\n', encoding="utf-8")
    target = url(secure, sslmode="verify-full", sslrootcert=stranger.certificate)
    done = totes("ingest", "--json", TOTES_SOURCE__URL=target)
    assert done.code == 3
    [line] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "connecting to the source failed" in line
    assert "certificate verify failed" in line
    assert secure.password not in done.out + done.err


@contextmanager
def _denier() -> Iterator[tuple[int, list[bytes]]]:
    """A port at which a server says that it has no TLS, and what it then hears of each client."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def deny() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    said = client.recv(4096)
                    client.sendall(b"N")
                    heard.append(said + client.recv(4096))

        thread = threading.Thread(target=deny, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
