"""What the owner of a source has to run is printed by `totes source sql`, and checked by `totes doctor`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.ingestion.log.conftest import MODEL


@pytest.fixture
def unprepared(source: Database) -> Database:
    """A source with tables of several kinds, and no publication."""
    source.execute(
        "DROP PUBLICATION totes", "CREATE TABLE k (n int, v text)", "CREATE UNLOGGED TABLE ul (id int PRIMARY KEY)",
        "CREATE TABLE none (id int PRIMARY KEY)", "ALTER TABLE none REPLICA IDENTITY NOTHING",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)", "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "ALTER TABLE p1 REPLICA IDENTITY NOTHING", "CREATE VIEW w AS SELECT * FROM t",
    )  # fmt: skip
    return source


@pytest.fixture
def settle(unprepared: Database, tmp_path: Path, write_project: Callable[..., Any]) -> Callable[[str], None]:
    """Writes the settings of a pipeline, by a role with a password."""

    def write(login: str) -> None:
        old = unprepared.url.partition("//")[2].partition("@")[0]
        (tmp_path / "totes.toml").write_text(
            f'[project]\nname = "p"\npath = "{write_project(MODEL)["path"]}"\n'
            f'[source]\nurl = "{unprepared.url.replace(old, login) if login else unprepared.url}"\ncapture = "log"\n'
        )

    return write


def test_the_printed_statements_prepare_the_source(
    unprepared: Database, settle: Callable[[str], None], totes: Any
) -> None:
    settle("reader:reads-only")
    before = totes("source", "sql", "--json")
    assert before.code == 0, before.err
    statements = json.loads(before.out)["statements"]
    assert statements == [
        f'GRANT CONNECT ON DATABASE "{unprepared.name}" TO "reader"',
        'GRANT USAGE ON SCHEMA "public" TO "reader"',
        'GRANT SELECT ON ALL TABLES IN SCHEMA "public" TO "reader"',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA "public" GRANT SELECT ON TABLES TO "reader"',
        "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'",
        "SELECT pg_reload_conf()",
        'ALTER TABLE public."none" REPLICA IDENTITY DEFAULT',
        "ALTER TABLE public.p1 REPLICA IDENTITY DEFAULT",
        'CREATE PUBLICATION "totes" FOR TABLE "public"."none", "public"."p", "public"."t" WITH (publish_via_partition_root = true)',
    ]
    checks = {check["name"]: check for check in json.loads(totes("doctor", "--json").out)["checks"]}
    assert (checks["publication"]["severity"], checks["publication"]["sql"]) == ("error", statements[-3:])
    assert checks["slot limit"]["severity"] == "warning"
    unprepared.execute(*(statement for statement in statements if "SYSTEM" not in statement))
    assert totes("ingest").code == 0
    unprepared.execute("INSERT INTO t VALUES (1, 'a')", "UPDATE none SET id = 2", "INSERT INTO p VALUES (1)")
    done = json.loads(totes("ingest", "--json").out)
    assert done["ingested"] == {name: {"upserts": 1, "deletes": 0} for name in ("p", "t")}
    checks = {check["name"]: check for check in json.loads(totes("doctor", "--json").out)["checks"]}
    assert [checks[name]["severity"] for name in ("log", "replication", "replica identity", "slot")] == [
        "ok"
    ] * 4
    assert "ul is unlogged" in checks["publication"]["found"]
    assert json.loads(totes("source", "sql", "--json").out)["statements"] == statements[:6]


def test_a_publication_that_stops_the_application_is_an_error(
    unprepared: Database, settle: Callable[[str], None], totes: Any
) -> None:
    unprepared.execute("CREATE PUBLICATION totes FOR ALL TABLES")
    settle("reader:reads-only")
    checks = {check["name"]: check for check in json.loads(totes("doctor", "--json").out)["checks"]}
    assert checks["replica identity"]["severity"] == "error"
    assert "public.k" in " ".join(checks["replica identity"]["sql"])


def test_a_superuser_gets_the_statements_for_a_role(settle: Callable[[str], None], totes: Any) -> None:
    settle("")
    statements = json.loads(totes("source", "sql", "--json").out)["statements"]
    assert statements[0] == 'CREATE ROLE "totes_reader" LOGIN'
    assert 'ALTER ROLE "totes_reader" REPLICATION' in statements
