"""`totes doctor` and the source's server: what goes on there, what it is, and this machine beside it."""

from __future__ import annotations

import re
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Database, rows_of, run_cleanly
from tests.monitoring.checks import listed, said, statements
from totes.monitoring.diagnosis import server as diagnosed_server
from totes.monitoring.diagnosis.activity import check_age
from totes.monitoring.diagnosis.check import Area
from totes.monitoring.health import utc_now
from totes.terrifictotes.server import LocalServer

ROOT = Path(__file__).parents[2]


def test_transactions_that_hold_the_horizon_back_are_named_with_what_ends_them(
    write_project: Any, doctor: Any
) -> None:
    """Then the same server is started as a standby: what it may cancel is told."""
    folder = Path(tempfile.mkdtemp(prefix="totes-doctor-"))
    folder.chmod(0o755)  # where root runs the tests, another account runs the server
    model = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY) AS SELECT id FROM a"
    sections = {"project": write_project({"dim_a": model}), "schedule": {"every": "1s"}}
    try:
        with LocalServer.start(folder, {"max_prepared_transactions": "2"}) as server:
            base = Database(server.url(), "postgres")
            base.execute("CREATE TABLE a (id int PRIMARY KEY)")
            with base.connect() as half:
                half.execute("INSERT INTO a VALUES (1)")
                half.execute("PREPARE TRANSACTION 'it''s half done'")
            open_one = base.connect()
            open_one.execute("INSERT INTO a VALUES (2)")
            base.execute("SELECT pg_sleep(1.1)")
            checks = doctor(server.url(), **sections)
            assert "1 prepared since" in said(checks, "source", "prepared transactions")
            assert "for longer than a cycle of 0:00:01" in said(checks, "source", "transactions")
            shown = statements(checks, "source: prepared transactions", "source: transactions")
            assert shown == [
                "ROLLBACK PREPARED 'it''s half done'",
                f"SELECT pg_terminate_backend({open_one.info.backend_pid})",
            ]
            base.execute(*shown)
            open_one.close()
            checks = doctor(server.url(), **sections)
            assert said(checks, "source", "transactions").startswith("none that this role can see is open")
            assert ("source", "prepared transactions") not in checks
            assert said(checks, "source", "standby") == "the server is a primary"
        (folder / "data" / "standby.signal").touch()
        shutil.chown(folder / "data" / "standby.signal", (folder / "data" / "PG_VERSION").owner())
        with LocalServer.start(folder, {"max_prepared_transactions": "2"}) as standby:
            checks = doctor(standby.url(), **sections)
            assert listed(checks, "error") == set()
            assert "may be cancelled, because vacuum on the primary" in said(checks, "source", "standby")
            assert "1 table be read" in said(checks, "source", "rehearsal")
            Database(standby.url(), "").execute(*statements(checks, "source: standby"))
            assert "its queries are not cancelled" in said(
                doctor(standby.url(), **sections), "source", "standby"
            )
            checks = doctor(standby.url(), warehouse={"url": standby.url(), "schema": "star"}, **sections)
            assert "is a standby, and accepts no writes" in said(checks, "warehouse", "read only")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_partition_on_another_server_is_named_and_its_changes_are_captured(
    database: Database,
    new_database: Any,
    doctor: Any,
    write_project: Any,
    make_pipeline: Any,
    server: LocalServer,
) -> None:
    far = new_database()
    far.execute("CREATE TABLE r (id int, region int, n text)", "INSERT INTO r VALUES (1, 1, 'a')")
    database.execute(
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '127.0.0.1', port '{server.port}', dbname '{far.name}')",
        f"CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password '{server.password}')",
        "CREATE TABLE a (id int NOT NULL, region int NOT NULL, n text) PARTITION BY LIST (region)",
        "CREATE TABLE a_2 PARTITION OF a FOR VALUES IN (2)",
        "INSERT INTO a VALUES (2, 2, 'near')",
    )
    model = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY, n VARCHAR) AS SELECT id, n FROM a"
    sections = {"source": {"keys": {"a": ["id"]}}, "project": write_project({"dim_a": model})}
    pipeline = make_pipeline(database.url, **sections)
    run_cleanly(pipeline)
    database.execute(
        "CREATE FOREIGN TABLE a_1 PARTITION OF a FOR VALUES IN (1) SERVER far OPTIONS (table_name 'r')"
    )
    checks = doctor(database.url, **sections)
    assert listed(checks, "error") == set()
    assert "on another server (a_1): their rows have no transaction ids" in said(
        checks, "source", "foreign partitions"
    )
    for value in ("a", "b"):
        far.execute(f"UPDATE r SET n = '{value}'")
        run_cleanly(pipeline)
        assert rows_of(pipeline, "SELECT id, n FROM dim_a ORDER BY id") == [(1, value), (2, "near")]
    database.execute("ALTER TABLE a DETACH PARTITION a_1")
    run_cleanly(pipeline)
    assert rows_of(pipeline, "SELECT id, n FROM dim_a") == [(2, "near")]
    assert run_cleanly(pipeline).ingested.batch is None


def test_what_is_captured_otherwise_than_people_may_think_is_named(
    database: Database, small: Any, doctor: Any
) -> None:
    database.execute(
        "CREATE TABLE parent (id int PRIMARY KEY)", "CREATE TABLE child () INHERITS (parent)",
        "CREATE TABLE unknown_to_models (n text)",
    )  # fmt: skip
    source = {"tables": ["*", "sales_*"], "exclude": ["tmp_*"], "changed_at": "touched"}
    checks = doctor(database.url, source=source, **small)
    assert listed(checks, "warning") >= {
        "source: keys",
        "source: inheritance",
        "source: choice",
        "source: changed at",
    }
    assert "with the rows of the tables that inherit from it (child)" in said(checks, "source", "inheritance")
    assert "source.tables has sales_*" in said(checks, "source", "choice")
    assert "source.exclude has tmp_*" in said(checks, "source", "choice")
    excluded = doctor(database.url, source={"exclude": ["unknown_to_models", "child"]}, **small)
    assert ("source", "keys") not in excluded


def test_a_table_that_is_costly_to_scan_is_named(database: Database, small: Any, doctor: Any) -> None:
    database.execute(
        "SET allow_system_table_mods = on; UPDATE pg_class SET relpages = 2 * 1310720 WHERE oid = 'a'::regclass"
    )
    assert "public.a has 20 GiB" in said(doctor(database.url, **small), "source", "size")


def test_a_database_of_bytes_is_named(server: LocalServer, write_project: Any, doctor: Any) -> None:
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(
            "CREATE DATABASE of_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C'"
        )
        try:
            base = Database(server.url("of_bytes"), "of_bytes")
            base.execute("CREATE TABLE a (id int PRIMARY KEY)")
            model = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY) AS SELECT id FROM a"
            checks = doctor(
                base.url,
                project=write_project({"dim_a": model}),
                warehouse={"url": base.url, "schema": "star"},
            )
            assert "encoding is SQL_ASCII" in said(checks, "source", "encoding")
            assert "encoding is SQL_ASCII" in said(checks, "warehouse", "encoding")
        finally:
            admin.execute("DROP DATABASE of_bytes WITH (FORCE)")


def test_a_clock_that_is_off_and_a_disk_that_is_full_are_named(
    database: Database, small: Any, doctor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither can be brought about on the machine that runs the tests."""
    monkeypatch.setattr(diagnosed_server, "utc_now", lambda: utc_now() - timedelta(seconds=90))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=(1 << 30) - 1))
    checks = doctor(database.url, **small)
    assert re.fullmatch(
        r"the source's clock is (89|90|91) s ahead of this machine's", said(checks, "source", "clock")
    )
    assert checks["settings", "disk"][0]["severity"] == "warning"


@pytest.mark.parametrize(
    ("age", "severity"), [(10, "ok"), (1_600_000_000, "warning"), (2_100_000_000, "error")]
)
def test_transaction_ids_that_run_out_are_told_in_time(age: int, severity: str) -> None:
    area = Area("source")
    check_age(area, age)
    assert [check.severity for check in area.checks] == [severity]


def test_every_check_is_in_the_documentation() -> None:
    folder = ROOT / "src" / "totes" / "monitoring" / "diagnosis"
    text = "".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    names = set(re.findall(r'(?:ok|warn|fail|skip|attempt|note)\(\s*"([a-z ]+)"', text))
    page = (ROOT / "docs" / "how-to" / "doctor.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([a-z ]+)` \|", page, re.MULTILINE))
    assert len(names) > 40
    assert names - documented == set()
    by_variable = {f"{store}{what}" for store in ("ingestion", "processed") for what in ("", " batches")}
    assert documented - names == by_variable | {"temporary"}
