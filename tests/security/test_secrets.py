"""No secret is ever printed: planted in every place that takes one, looked for when everything fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.conftest import Bucket, Database, Mailbox
from tests.contracts.shop import MODELS, SCHEMA
from tests.security.conftest import Run
from tests.security.planting import PLANTED, at, encoded, found_below, found_in
from totes import log
from totes.cli.session import report
from totes.monitoring.alerts import watch
from totes.monitoring.health import health_file
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer
from totes.warehouse import duckdb_writer

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
Fails = Callable[[Pipeline, str, str], None]


@pytest.fixture(scope="module")
def roles(server: LocalServer) -> LocalServer:
    """The server, with the roles `source` and `warehouse`, whose passwords are the planted ones."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role in ("source", "warehouse"):
            password = PLANTED[role].replace("'", "''")
            connection.execute(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{password}'".encode())
    return server


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], planted: None) -> Fails:
    """Runs a cycle of which a stage fails, tells it in all ways there are, and looks for secrets in these."""

    def fails(pipeline: Pipeline, stage: str, reason: str) -> None:
        log.configure(verbose=True, terminal=False)
        cycle = pipeline.run()
        assert reason in str(cycle.failures[stage])
        sys.stdout.write(json.dumps(cycle.as_json()))
        watch(pipeline.settings, cycle)
        for failed, error in cycle.failures.items():
            report(f"{failed}: {error}", error, debug=True)
        said = capsys.readouterr()
        assert "Traceback" in said.err
        assert found_in(said.out) == found_in(said.err) == set()
        assert found_in(health_file(pipeline.settings).read_text(encoding="utf-8")) == set()

    return fails


def both(port: int, **arguments: Any) -> tuple[str, str]:
    return at(port, "source", **arguments), at(port, "warehouse", **arguments)


Urls = Callable[[LocalServer], tuple[str, str]]
FAILURES: dict[str, tuple[Urls, str]] = {
    "nobody listens": (lambda _: both(1), "Connection refused"),
    "a wrong password": (
        lambda server: (
            at(server.port, "postgres", password=encoded("source")),
            at(server.port, "postgres", password=encoded("warehouse")),
        ),
        "password authentication failed",
    ),
    "a wrong database": (lambda server: both(server.port, database="no_such_database"), "does not exist"),
    "no TLS": (lambda server: both(server.port, query="?sslmode=require"), "does not support SSL"),
    "a password as parameter": (
        lambda server: (
            f"postgresql://postgres@127.0.0.1:{server.port}/postgres?password={encoded('source')}",
            f"postgresql://postgres@127.0.0.1:{server.port}/postgres?password={encoded('warehouse')}",
        ),
        "password authentication failed",
    ),
    "a password that libpq takes from the environment": (
        lambda server: (f"postgresql://postgres@127.0.0.1:{server.port}/postgres",) * 2,
        "password authentication failed",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_server_that_cannot_be_reached_is_told_of_without_a_secret(
    failure: str, roles: LocalServer, make_pipeline: Callable[..., Pipeline], fails: Fails, tmp_path: Path
) -> None:
    urls, reason = FAILURES[failure]
    pipeline = make_pipeline(*urls(roles))
    for stage in ("ingest", "load"):
        fails(pipeline, stage, reason)
    assert found_below(tmp_path) == {}


def test_an_empty_warehouse_to_replay_into_is_told_of_without_its_password(
    roles: LocalServer, run: Run
) -> None:
    environment = {"TOTES_SOURCE__URL": at(1, "source"), "TOTES_LAKE__PROCESSED": "processed"}
    for url, code in (
        (at(1, "warehouse", password=PLANTED["warehouse"]), 3),
        (f"host=127.0.0.1 port=1 user=u password='{PLANTED['warehouse']}'", 2),
    ):
        assert run("replay", "--debug", f"--warehouse={url}", **environment).code == code


def test_a_pipeline_that_works_fails_and_is_killed_leaves_no_secret_anywhere(
    roles: LocalServer,
    new_database: Callable[..., Database],
    run: Run,
    smtp: Mailbox,
    write_project: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    smtp.password, smtp.url = PLANTED["mail"], smtp.url.replace(smtp.password, encoded("mail"))
    source, warehouse = new_database(), new_database()
    source.execute(*SCHEMA)
    write_project(MODELS)
    monkeypatch.delenv("TOTES_ALERTS__URLS")
    # Without compression, so that a secret in the lake is seen.
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "shop"\npath = "project"\n[lake]\ncompression = "none"\n[alerts]\nurls = ["{smtp.url}"]\n'
        f'[source]\nurl = "{at(roles.port, "source", source.name)}"\n'
        f'[warehouse]\nurl = "{at(roles.port, "warehouse", warehouse.name)}"\n',
        encoding="utf-8",
    )

    def stopped(code: int, **environment: str) -> None:
        done = run("run", "--json", "--debug", **environment)
        assert done.code == code, done.err
        assert found_below(tmp_path) == {}

    stopped(-signal.SIGKILL, TOTES_FAILPOINT="postgresql.commit.before")
    stopped(0)
    warehouse.execute("DROP VIEW fact_order_current", "ALTER TABLE fact_order RENAME TO elsewhere")
    source.execute('UPDATE "order" SET quantity = 99 WHERE order_id = 1')
    stopped(3)
    source.execute("ALTER TABLE customer RENAME COLUMN city TO town")
    stopped(3)
    assert "fails since" in run("status").out
    assert "[totes] shop: load fails" in smtp.subjects
    assert found_in("".join(mail.as_string() + mail.get_content() for mail in smtp.mails)) == set()
    assert found_below(tmp_path) == {}


def test_a_run_that_is_interrupted_tells_no_secret(run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "totes", "run", "--every", "1h", "--debug"]
    environment = {**os.environ, "TOTES_SOURCE__URL": at(1, "source")}
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        said = ""
        while "the stage failed; it is tried again" not in said:
            said += process.stderr.readline()
            assert process.poll() is None, said
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert found_in(out) == found_in(said + err) == set()


@pytest.mark.parametrize(
    ("lake", "reason"),
    [
        ("s3://lakes/wrong-key", "403 Forbidden"),
        ("s3://id:{}@lakes/prefix", "has more in it than a bucket"),
        ("s3://lakes/prefix?secret={}", "has more in it than a bucket"),
    ],
)
def test_a_bucket_that_refuses_is_told_of_without_its_key(
    lake: str,
    reason: str,
    s3: Bucket,
    fails: Fails,
    make_pipeline: Callable[..., Pipeline],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert s3.prefix.startswith("s3://lakes/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED["aws"])
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    pipeline = make_pipeline(at(1, "source"), lake={"processed": lake.format(quote(PLANTED["aws"]))})
    fails(pipeline, "load", reason)


def test_a_lake_that_cannot_be_written_is_told_of_without_a_secret(
    fails: Fails, make_pipeline: Callable[..., Pipeline], tmp_path: Path
) -> None:
    (tmp_path / "lake").write_text("a file", encoding="utf-8")
    fails(make_pipeline(*both(1)), "ingest", "cannot be used as a store")


def test_a_warehouse_file_that_another_program_keeps_is_told_of_without_a_secret(
    make_pipeline: Callable[..., Pipeline], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails
) -> None:
    monkeypatch.setattr(duckdb_writer, "_PATIENCE_SECONDS", 0.1)
    keep = "import duckdb, sys; kept = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", keep, tmp_path / "warehouse.duckdb"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        other.stdout.readline()
        fails(make_pipeline(at(1, "source")), "load", "is in use by process")
        other.communicate(b"\n")
    assert found_below(tmp_path) == {}


def test_a_secret_of_aws_is_masked_in_whatever_form_it_is_kept(
    secrets: dict[str, str],
    roles: LocalServer,
    make_pipeline: Callable[..., Pipeline],
    fails: Fails,
) -> None:
    parts = {"PG_USER": "postgres", "PG_HOST": "127.0.0.1", "PG_PORT": roles.port, "PG_DATABASE": "postgres"}
    secrets["source"] = json.dumps(parts | {"PG_PASSWORD": PLANTED["source"]})
    secrets["warehouse"] = at(roles.port, "postgres", password=encoded("warehouse"))
    pipeline = make_pipeline("secretsmanager:source", "secretsmanager:warehouse")
    for stage in ("ingest", "load"):
        fails(pipeline, stage, "password authentication failed")
    for wrong in (
        f"mysql://root:{encoded('source')}@db",
        f"password={encoded('source')} host=db",
        "[" + PLANTED["source"],
    ):
        secrets["source"] = wrong
        fails(pipeline, "ingest", "neither a URL nor JSON")
    del secrets["source"]
    fails(pipeline, "ingest", "could not be fetched")


def test_a_pipeline_keeps_its_health_when_its_password_changes(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    def file(url: str) -> str:
        return health_file(make_pipeline(at(1, "source"), url).settings).name

    assert file("postgresql://w:old@db/w") == file("postgresql://w:new@db/w") == file("postgresql://w:w@db/w")
    assert file("postgresql://w:old@db/w") != file("postgresql://w:old@db/v")
    assert file("postgresql://w@db/w?password=old") == file("postgresql://w@db/w?password=new")


def test_no_process_has_a_password_among_its_arguments(server: LocalServer) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("other processes' arguments are read from /proc")
    arguments = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments.append(process.read_bytes())
        except OSError:  # it has ended
            continue
    assert any(b"postgres" in line for line in arguments)
    assert not [line for line in arguments if server.password.encode() in line]
