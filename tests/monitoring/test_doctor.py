"""`totes doctor` names what would stop a batch before there is one, and the statements that it shows do mend it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Database
from tests.monitoring.checks import PASSWORD, listed, said, statements
from totes.terrifictotes.server import LocalServer


def test_the_built_in_project_passes_before_and_after_a_batch(
    totesys: Database, doctor: Any, make_role: Any, totes: Any, tmp_path: Path
) -> None:
    url = make_role(totesys, "reader")
    role = f"reader_{totesys.name}"
    totesys.execute(
        f"GRANT USAGE ON SCHEMA public TO {role}", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    before = doctor(url)
    assert listed(before, "error") == set()
    assert listed(before, "warning") == {"project: values", "alerts: urls"}
    assert said(before, "source", "standby") == "the server is a primary"
    assert totes("run").code == 0
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    after = doctor(url)
    assert listed(after, "warning") == {"project: values", "alerts: urls"}
    assert said(after, "warehouse", "ledger") == "batches 1 to 1 of this lake are loaded, and 0 are to come"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == made
    probes = {name for name in made if "doctor" in name}
    assert probes == {
        f"lake/{s}/.doctor{f}" for s in ("ingestion", "processed") for f in ("", "/put-if-absent")
    }


def test_it_is_printed_for_people_with_what_mends_it_below(
    small: dict[str, Any], database: Database, totes: Any, make_role: Any
) -> None:
    url = make_role(database, "reader")
    for command in (("doctor",), ("doctor", "--json")):
        done = totes(
            *command,
            TOTES_SOURCE__URL=url,
            TOTES_PROJECT__NAME="p",
            TOTES_PROJECT__PATH=str(small["project"]["path"]),
        )
        assert done.code == 1
        assert PASSWORD not in done.out + done.err
        assert re.fullmatch(
            r"error: 2 checks failed \(source: grants, source: tables\)\. Fix them as described.*\n",
            done.err,
        )
    assert len(json.loads(done.out)["checks"]) > 20
    people = totes(
        "doctor",
        TOTES_SOURCE__URL=url,
        TOTES_PROJECT__NAME="p",
        TOTES_PROJECT__PATH=str(small["project"]["path"]),
    ).out
    assert "\nsource\n" in people
    grant = f'GRANT SELECT ON "public"."a" TO "reader_{database.name}";'
    assert f"\n  error    grants                 reader_{database.name} may not read public.a\n" in people
    assert f"\n            {grant}\n" in people
    assert re.search(r"\n\d+ checks: 2 errors, \d warnings\.\n$", people)


def test_every_obstacle_at_the_source_is_named_with_the_statement_that_mends_it(
    database: Database, doctor: Any, make_role: Any, write_project: Any
) -> None:
    """Everything is wrong at once; then each statement that is shown is run, and nothing is wrong."""
    url, role, base = make_role(database, "reader"), f"reader_{database.name}", database.name
    writer = f"writer_{database.name}"
    make_role(database, "writer")
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.fine (id int PRIMARY KEY, n text, last_updated timestamp)",
        'CREATE TABLE shop."No Grant" (id int PRIMARY KEY, n text)',
        "CREATE TABLE shop.secured (id int PRIMARY KEY, n text)",
        "ALTER TABLE shop.secured ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE shop.by_index (a int NOT NULL, b int NOT NULL, UNIQUE (a, b))",
        "CREATE TABLE shop.by_identity (n text, number bigint GENERATED ALWAYS AS IDENTITY)",
        "CREATE TABLE shop.by_nothing (n text)",
        'CREATE TABLE shop.reserved (id int PRIMARY KEY, _op text, op text, "_AT" text)',
        "CREATE TABLE shop.chosen (n text)",
        "CREATE MATERIALIZED VIEW shop.cold AS SELECT * FROM shop.fine WITH NO DATA",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA shop TO {role}",
        f'REVOKE SELECT ON shop."No Grant" FROM {role}',
        f"GRANT INSERT, DELETE ON shop.fine TO {role}",
        "GRANT UPDATE ON shop.secured TO PUBLIC",
        *(f"REVOKE EXECUTE ON FUNCTION pg_control_{f}() FROM PUBLIC" for f in ("system", "checkpoint")),
        f"ALTER ROLE {role} CONNECTION LIMIT 1",
        f"ALTER ROLE {role} SET statement_timeout = '5s'",
        f"ALTER DATABASE {base} SET transaction_timeout = '6s'",
        f"ALTER DATABASE {base} SET TimeZone TO 'Europe/London'",
        f"ALTER ROLE {writer} IN DATABASE {base} SET TimeZone TO 'Asia/Tokyo'",
    )
    model = "CREATE TABLE dim_{0} (id BIGINT PRIMARY KEY, n VARCHAR) AS SELECT {1} AS id, n FROM {2}"
    read = {"fine": "fine", "no_grant": '"No Grant"', "secured": "secured", "cold": "cold"}
    models = {f"dim_{n}": model.format(n, "id", table) for n, table in read.items()}
    project = write_project(
        models | {"dim_by_identity": model.format("by_identity", "number", "by_identity")}
    )
    settings = {"schema": "shop", "keys": {"cold": ["id"], "chosen": ["n"]}}

    checks = doctor(url, source=settings, project=project)
    assert listed(checks, "error") == {
        "source: functions", "source: connections", "source: schema", "source: grants", "source: row security",
        "source: keys", "source: materialized views",
    }  # fmt: skip
    assert listed(checks, "warning") == {
        "project: binding", "source: column names", "source: keys", "source: rights", "source: time zones",
        "source: rehearsal", "alerts: urls",
    }  # fmt: skip
    shown = statements(checks, *listed(checks, "error"), *listed(checks, "warning"))
    assert sorted(shown) == sorted(
        [
            f'GRANT USAGE ON SCHEMA "shop" TO "{role}"',
            f'GRANT SELECT ON "shop"."No Grant" TO "{role}"',
            f'ALTER ROLE "{role}" BYPASSRLS',
            'ALTER TABLE "shop"."by_index" ADD PRIMARY KEY ("a", "b")',
            'ALTER TABLE "shop"."by_identity" ADD PRIMARY KEY ("number")',
            'ALTER TABLE "shop"."by_nothing" ADD COLUMN "row_id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY',
            'ALTER TABLE "shop"."reserved" RENAME COLUMN "_op" TO "op_2"',
            'ALTER TABLE "shop"."reserved" RENAME COLUMN "_AT" TO "AT"',
            'ALTER TABLE "shop"."chosen" ALTER COLUMN "n" SET NOT NULL',
            'CREATE UNIQUE INDEX ON "shop"."chosen" ("n")',
            'REFRESH MATERIALIZED VIEW "shop"."cold"',
            f'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "shop"."fine" FROM "{role}"',
            'REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON "shop"."secured" FROM PUBLIC',
            f'GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO "{role}"',
            f'GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_checkpoint() TO "{role}"',
            f'ALTER ROLE "{role}" CONNECTION LIMIT 4',
            f"ALTER DATABASE \"{base}\" SET TimeZone TO 'UTC'",
            f'ALTER ROLE "{writer}" IN DATABASE "{base}" SET TimeZone TO \'UTC\'',
        ]
    )
    found = said(checks, "source", "timeouts")
    assert found.startswith(
        "statement_timeout = 5s, transaction_timeout = 6s: set for the role or the database, and lifted"
    )

    database.execute(*shown)
    mended = doctor(url, source=settings, project=project)
    assert listed(mended, "error") == set()
    assert listed(mended, "warning") == {"alerts: urls"}
    assert "9 tables be read at one instant" in said(mended, "source", "rehearsal")


@pytest.mark.parametrize(
    ("wrong", "found", "mends"),
    [
        ("REVOKE CONNECT ON DATABASE {base} FROM {role}", "CONNECT privilege", 'GRANT CONNECT ON DATABASE "{base}" TO "{role}"'),
        ("ALTER ROLE {role} NOLOGIN", "not permitted to log in", 'ALTER ROLE "{role}" LOGIN'),
        ("ALTER ROLE {role} PASSWORD 'another'", "password authentication failed", None),
    ],
)  # fmt: skip
def test_why_there_is_no_connection_is_told_and_the_other_areas_are_looked_at_all_the_same(
    wrong: str, found: str, mends: str | None, database: Database, small: Any, doctor: Any, make_role: Any
) -> None:
    url, names = make_role(database, "reader"), {"role": f"reader_{database.name}", "base": database.name}
    database.execute(f"GRANT SELECT ON a TO {names['role']}", wrong.format(**names))
    checks = doctor(url, **small)
    assert listed(checks, "error") == {"source: connection"}
    assert {"project: binding", "source: tables", "lake: source"} <= listed(checks, "warning") | listed(
        checks, "ok"
    )
    assert said(checks, "project", "binding") == "not checked: the source's tables are not known"
    assert found in said(checks, "source", "connection")
    assert PASSWORD not in json.dumps(list(checks.values()))
    if mends:
        assert statements(checks, "source: connection") == [mends.format(**names)]
        database.execute(mends.format(**names))
        assert listed(doctor(url, **small), "error") == set()


def test_a_superuser_is_told_how_to_make_a_role_that_can_only_read(
    database: Database, small: Any, doctor: Any, server: LocalServer
) -> None:
    checks = doctor(database.url, **small)
    assert "postgres is a superuser" in said(checks, "source", "rights")
    database.execute(*statements(checks, "source: rights"))
    try:
        database.execute(f"ALTER ROLE totes_reader PASSWORD '{PASSWORD}'")
        reader = doctor(server.url(database.name, "totes_reader", PASSWORD), **small)
        assert listed(reader, "warning") == {"alerts: urls"}
    finally:
        database.execute("DROP OWNED BY totes_reader", "DROP ROLE totes_reader")
