"""`totes doctor` and the places that a pipeline writes to: the lake, the warehouse, and this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Bucket, Command, Database, run_cleanly
from tests.monitoring.checks import PASSWORD, listed, said, statements
from totes.lake.layout import PROBE
from totes.lake.store import Store
from totes.terrifictotes.server import LocalServer


@pytest.fixture
def careless_s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes objects as S3 does, and pays no heed to `If-None-Match`."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b"")

        def do_GET(self) -> None:
            self._answer(200 if self.path in objects else 404, objects.get(self.path, b""))

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            for header, value in {
                "Content-Length": len(content), "ETag": '"1"', "Last-Modified": "Mon, 02 Nov 2026 09:00:00 GMT",
            }.items():  # fmt: skip
                self.send_header(header, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for variable, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)
    yield
    server.shutdown()
    server.server_close()


def test_a_store_that_writes_objects_over_is_an_error(
    careless_s3: None, database: Database, small: Any, doctor: Any
) -> None:
    lake = {"ingestion": "s3://lakes/i", "processed": "s3://lakes/p"}
    checks = doctor(database.url, lake=lake, **small)
    assert listed(checks, "error") == {"lake: ingestion", "lake: processed"}
    assert "s3://lakes/i overwrites objects: its server ignores If-None-Match" in said(
        checks, "lake", "ingestion"
    )


def test_a_store_that_honours_put_if_absent_passes_each_time(
    s3: Bucket, database: Database, small: Any, doctor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = {"ingestion": s3.url("ingestion"), "processed": s3.url("processed")}
    for _ in range(2):
        checks = doctor(database.url, lake=lake, **small)
        assert listed(checks, "error") == set()
        assert "refuses to overwrite it" in said(checks, "lake", "ingestion")
    store = Store.open(s3.url("ingestion"), Path())
    assert list(store.list("")) == [PROBE]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    checks = doctor(database.url, lake=lake, **small)
    assert listed(checks, "error") == {"lake: ingestion", "lake: processed"}
    assert "docs/how-to/s3-lake.md" in checks["lake", "ingestion"][0]["fix"]


def test_a_lake_that_is_of_another_source_or_does_not_belong_together_is_an_error(
    database: Database, small: Any, doctor: Any, new_database: Any, make_pipeline: Any, tmp_path: Path
) -> None:
    run_cleanly(make_pipeline(database.url, **small))
    other = new_database()
    other.execute("CREATE TABLE a (id int, n text PRIMARY KEY)")
    checks = doctor(other.url, **small)
    assert listed(checks, "error") == {"lake: source", "lake: keys"}
    assert f"another database of the same cluster: {other.name} " in said(checks, "lake", "source")
    assert "the key of public.a was (id) and is (n)" in said(checks, "lake", "keys")

    checks = doctor(database.url, lake={"processed": "lake/ingestion"}, **small)
    assert listed(checks, "error") >= {"lake: places"}

    second = make_pipeline(database.url, folder=tmp_path / "second", **small)
    second.ingest()
    checks = doctor(database.url, lake={"ingestion": "second/lake/ingestion"}, **small)
    assert "was made from another ingestion lake" in said(checks, "lake", "batches")

    (model,) = (small["project"]["path"] / "models").iterdir()
    model.write_text(model.read_text().replace("n VARCHAR", "n VARCHAR NOT NULL"))
    assert "dim_a differs from the star (columns), and loses rows in which n is NULL" in said(
        doctor(database.url, **small), "lake", "models"
    )

    database.execute("INSERT INTO a VALUES (2, 'y')")
    make_pipeline(database.url, **small).ingest()
    (tmp_path / "lake" / "ingestion" / "batches" / "000000000001.json").unlink()
    assert "000000000001.json is missing" in said(doctor(database.url, **small), "lake", "ingestion batches")


def test_what_a_loader_lacks_is_named_with_the_statement_that_grants_it(
    database: Database, small: Any, doctor: Any, new_database: Any, make_role: Any, totes: Any
) -> None:
    target = new_database()
    url, role, base = make_role(target, "loader"), f"loader_{target.name}", target.name
    target.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")

    def look() -> Any:
        return doctor(database.url, warehouse={"url": url, "schema": "star"}, **small)

    checks = look()
    assert listed(checks, "error") == {"warehouse: grants", "warehouse: read only"}
    shown = statements(checks, "warehouse: grants", "warehouse: read only")
    assert sorted(shown) == [
        f'ALTER ROLE "{role}" IN DATABASE "{base}" SET default_transaction_read_only = off',
        f'GRANT CREATE ON DATABASE "{base}" TO "{role}"',
        f'GRANT TEMPORARY ON DATABASE "{base}" TO "{role}"',
    ]
    target.execute(*shown)
    assert listed(look(), "error") == set()

    target.execute("CREATE SCHEMA star", "CREATE TABLE star.dim_a (id int, n text)")
    checks = look()
    assert statements(checks, "warehouse: grants", "warehouse: tables") == [
        f'GRANT USAGE, CREATE ON SCHEMA "star" TO "{role}"',
        f'GRANT SELECT, INSERT, UPDATE, DELETE ON "star"."dim_a" TO "{role}"',
        'ALTER TABLE "star"."dim_a" RENAME TO "dim_a_of_others"',
    ]
    target.execute(*statements(checks, "warehouse: grants", "warehouse: tables"))
    assert listed(look(), "error") == set()

    assert totes("run").code == 0
    assert "batches 1 to 1 of this lake are loaded" in said(look(), "warehouse", "ledger")
    target.execute(
        f"REVOKE INSERT ON star.totes_batches FROM {role}", 'ALTER TABLE star.dim_a RENAME n TO "N"'
    )
    checks = look()
    assert listed(checks, "error") == {"warehouse: grants", "warehouse: tables"}
    assert "dim_a does not have the columns that its model declares: n is missing" in said(
        checks, "warehouse", "tables"
    )
    target.execute(*statements(checks, "warehouse: grants"), 'ALTER TABLE star.dim_a RENAME "N" TO n')
    assert listed(look(), "error") == set()

    assert statements(checks, "warehouse: tables") == []  # no load of totes is told to rename its own table
    target.execute("UPDATE star.totes_batches SET manifest_sha256 = 'x'")
    assert "holds batch 1 of another lake" in said(look(), "warehouse", "ledger")
    assert "CONNECT privilege" not in said(look(), "warehouse", "connection")
    target.execute(f"REVOKE CONNECT ON DATABASE {base} FROM {role}")
    checks = look()
    assert statements(checks, "warehouse: connection") == [f'GRANT CONNECT ON DATABASE "{base}" TO "{role}"']
    assert PASSWORD not in json.dumps(list(checks.values()))


def test_a_loaded_table_has_the_columns_that_its_model_declares_whatever_their_types(
    warehouse_url: str, database: Database, write_project: Any, doctor: Any, totes: Any
) -> None:
    kinds = (
        "BOOLEAN", "SMALLINT", "INTEGER", "BIGINT", "TINYINT", "FLOAT", "DOUBLE", "DECIMAL(9, 2)", "NUMERIC", "VARCHAR", "VARCHAR(9)",
        "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL", "UUID", "BLOB", "JSON",
    )  # fmt: skip
    declared = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
    given = ", ".join(f"CAST(NULL AS {kind}) AS c{number}" for number, kind in enumerate(kinds))
    model = f"CREATE TABLE dim_a (id INTEGER PRIMARY KEY, {declared}) AS SELECT id, {given} FROM a"
    database.execute("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    sections = {"project": write_project({"dim_a": model}), "warehouse": {"url": warehouse_url}}
    doctor(database.url, **sections)
    assert totes("run").code == 0
    assert listed(doctor(database.url, **sections), "error") == set()


def test_a_view_in_the_way_and_a_warehouse_among_the_sources_tables_are_errors(
    database: Database, small: Any, doctor: Any
) -> None:
    database.execute("CREATE VIEW dim_a AS SELECT 1 AS id")
    checks = doctor(database.url, warehouse={"url": database.url}, **small)
    assert listed(checks, "error") == {"warehouse: schema", "warehouse: tables"}
    assert statements(checks, "warehouse: tables") == [
        'ALTER VIEW "public"."dim_a" RENAME TO "dim_a_of_others"'
    ]
    checks = doctor(database.url, warehouse={"url": database.url, "schema": "star"}, **small)
    assert listed(checks, "error") == set()


def test_a_duckdb_file_that_cannot_be_loaded_is_an_error(
    database: Database, small: Any, doctor: Any, tmp_path: Path
) -> None:
    checks = doctor(database.url, warehouse={"url": "duckdb:///star.duckdb", "schema": "star"}, **small)
    assert "DuckDB could not distinguish them" in said(checks, "warehouse", "schema")
    assert not (tmp_path / "star.duckdb").exists()
    with duckdb.connect(tmp_path / "warehouse.duckdb") as warehouse:
        warehouse.execute("CREATE TABLE dim_a (id INTEGER)")
    checks = doctor(database.url, **small)
    assert listed(checks, "error") == {"warehouse: tables"}
    [statement] = statements(checks, "warehouse: tables")
    with duckdb.connect(tmp_path / "warehouse.duckdb") as warehouse:
        warehouse.execute(statement)
    assert listed(doctor(database.url, **small), "error") == set()
    (tmp_path / "text.duckdb").write_text("no database " * 1000)
    checks = doctor(database.url, warehouse={"url": "duckdb:///text.duckdb"}, **small)
    assert listed(checks, "error") == {"warehouse: connection"}


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # one of Apprise's services imports it
def test_settings_that_would_do_harm_are_named(
    database: Database, small: Any, doctor: Any, tmp_path: Path, totes: Any, server: LocalServer
) -> None:
    (tmp_path / "file").write_text("")
    checks = doctor(
        database.url,
        lake={"memory": "900TB", "cache": "file/cache", "ingestion": "file/lake"},
        schedule={"every": "1h"},
        alerts={"urls": ["json://localhost/hook", "nonsense://x", "mailto://u:hidden-word@example.com"]},
        **small,
    )
    assert listed(checks, "error") == {"lake: ingestion", "alerts: urls"}
    assert (
        said(checks, "alerts", "urls") == "alerts.urls[1] (nonsense:…) is not a URL that Apprise understands"
    )
    assert listed(checks, "warning") == {
        "settings: memory",
        "alerts: freshness",
        "lake: batches",
        "source: rights",
    }
    assert "hidden-word" not in json.dumps(list(checks.values()))

    (tmp_path / "totes.toml").chmod(0o644)
    done: Command = totes("doctor")
    assert "other users of this machine may read it (mode 644)" in done.out
    assert "\n            chmod 600 totes.toml\n" in done.out
    assert totes("doctor", TOTES_LAKE__COMPRESSION="none-such").code == 2
    # With a key the service is asked, and does not answer.
    for key in ("", "a-key"):
        secret = totes(
            "doctor",
            TOTES_SOURCE__URL="secretsmanager:not-there",
            AWS_ACCESS_KEY_ID=key,
            AWS_SECRET_ACCESS_KEY=key,
            AWS_DEFAULT_REGION="none",
            AWS_ENDPOINT_URL="http://127.0.0.1:1",
        )
        assert secret.code == 1
        assert "  error    secrets                source.url" in secret.out
        assert "not checked: source.url is not known" in secret.out


def test_what_totes_made_is_not_to_be_renamed(
    database: Database, small: Any, doctor: Any, totes: Any, tmp_path: Path
) -> None:
    model = tmp_path / "project" / "models" / "dim_a.sql"
    model.write_text(
        "CREATE TABLE dim_a (row_id BIGINT PRIMARY KEY, id INTEGER, n VARCHAR) AS SELECT id, n FROM a"
    )
    doctor(database.url, **small)
    assert totes("run").code == 0
    with duckdb.connect(tmp_path / "warehouse.duckdb") as warehouse:
        warehouse.execute("DROP VIEW dim_a_current")
    checks = doctor(database.url, **small)
    assert (listed(checks, "error"), statements(checks, "warehouse: tables")) == (set(), [])
    [gone] = checks["warehouse", "views"]
    assert (gone["severity"], gone["found"]) == ("warning", "dim_a_current is missing")
    model.write_text(model.read_text().replace("n VARCHAR", "n INTEGER"))
    checks = doctor(database.url, **small)
    assert statements(checks, "warehouse: tables") == []
    assert "totes replay --table dim_a" in checks["warehouse", "tables"][0]["fix"]
