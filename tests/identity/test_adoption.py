"""`totes adopt`: a history goes on after an upgrade, a restore, a swap; only what differs is a change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.identity.clusters import (
    ROLE,
    TABLE,
    as_server,
    captured,
    database_of,
    history,
    program,
    transaction_of,
    use_transactions,
)
from totes.errors import LakeOfAnotherSource
from totes.pipeline import Pipeline
from totes.terrifictotes.binaries import prepare_folder, server_account
from totes.terrifictotes.server import LocalServer

DEBIAN = Path("/usr/lib/postgresql/15/bin")
ITEMS = (
    "CREATE TABLE item (id bigint PRIMARY KEY, name text, price numeric, seen timestamptz, doc jsonb, gone int, kept bool)",
    "ALTER TABLE item DROP COLUMN gone",
    """INSERT INTO item SELECT n, 'item ' || n, n / 8.0, timestamptz '2026-01-01 00:00Z' + n * interval '1 s',
       jsonb_build_object('n', n, 't', chr(9) || 'x'), n % 2 = 0 FROM generate_series(1, 5000) AS n""",
)
MODEL = {
    "fact_item": "CREATE TABLE fact_item (item_key BIGINT PRIMARY KEY, id BIGINT NOT NULL, name VARCHAR, price DECIMAL(20, 10))"
    " AS SELECT id, name, price FROM item"
}
VERSIONS = "SELECT id, name, is_deleted, batch_id FROM fact_item WHERE batch_id > 1 ORDER BY batch_id, id"


def settings(tmp_path: Path, source: Database, role: str = "reader:reads-only") -> None:
    """Writes the settings of a pipeline over a source, by a role that can only read."""
    parts = urlsplit(source.url)
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "postgresql://{role}@{parts.hostname}:{parts.port}{parts.path}"\n[project]\npath = "project"\n'
        '[lake]\ncompression = "gzip"\n'
    )


def readers(database: Database) -> None:
    """Lets the role that can only read do so; a role is of all databases of a server."""
    if not database.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
        database.execute(ROLE[0])
    database.execute(ROLE[1])


def dump_into(server: LocalServer, name: str, target: LocalServer, folder: Path) -> Database:
    """A database of a server, restored into another cluster."""
    prepare_folder(folder, server_account())
    other = database_of(target, f"{name}_restored")
    database_of(target).execute(f"CREATE DATABASE {other.name}")
    as_server(program("pg_dump"), "-Fc", "-f", folder / "dump", server.url(name), cwd=folder)
    as_server(program("pg_restore"), "--no-owner", "-d", other.url, folder / "dump", cwd=folder)
    return other


def test_a_dump_restored_into_a_new_cluster_is_adopted(
    folder: Path,
    primary: LocalServer,
    server: LocalServer,
    write_project: Callable[..., dict[str, Any]],
    totes: Callable[..., Command],
    tmp_path: Path,
) -> None:
    write_project(MODEL)
    database_of(primary).execute("CREATE DATABASE shop")
    source = database_of(primary, "shop")
    source.execute(*ITEMS, "GRANT SELECT ON item TO reader")
    settings(tmp_path, source)
    assert totes("run").code == 0
    assert json.loads(totes("adopt", "--json").out)["note"].startswith(
        "the source is the database that this lake"
    )
    readers(database_of(server))
    restored = dump_into(primary, "shop", server, folder / "dump")
    restored.execute(
        "UPDATE item SET name = 'changed' WHERE id = 1", "DELETE FROM item WHERE id = 2",
        "INSERT INTO item VALUES (5001, 'new', 1)",
    )  # fmt: skip
    settings(tmp_path, restored)
    refused = totes("run")
    assert refused.code == 3
    assert "another database cluster" in refused.err
    assert "totes adopt --dry-run" in refused.err
    lake = sorted(str(path) for path in (tmp_path / "lake").rglob("*"))
    dry = totes("adopt", "--dry-run", "--json")
    found, differs = json.loads(dry.out), {"item": {"upserts": 2, "deletes": 1, "unchanged": 4998}}
    assert (dry.code, found["tables"], found["batch"]) == (0, differs, None), dry.err
    assert sorted(str(path) for path in (tmp_path / "lake").rglob("*")) == lake
    done = totes("adopt", "--json")
    found = json.loads(done.out)
    assert (done.code, found["tables"], found["batch"]) == (0, differs, 2), done.err
    assert totes("run").code == 0
    assert totes("verify").code == 0
    assert totes("verify").code == 0


def test_marks_of_the_previous_cluster_are_forgotten_also_by_a_runner_without_a_cache(
    primary: LocalServer, server: LocalServer, folder: Path, lake: Callable[..., Pipeline]
) -> None:
    first, second = database_of(server, "marks"), database_of(primary, "marks_restored")
    database_of(server).execute("CREATE DATABASE marks")
    first.execute(*TABLE)
    readers(first)
    restored = dump_into(server, "marks", primary, folder / "marks")
    assert restored.name == second.name
    following = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8"
    [[ahead]], [[behind]] = restored.execute(following), first.execute(following)
    use_transactions(first, int(ahead) + 40 - int(behind))
    first.execute("UPDATE t SET v = 'b' WHERE id = 1")
    restored.execute("UPDATE t SET v = 'b' WHERE id = 1")
    former = int(transaction_of(first, 1))
    assert lake(first).ingest().batch == 1
    assert lake(restored).adopt().tables == {"t": {"upserts": 0, "deletes": 0, "unchanged": 2}}
    assert lake(restored).ingest().batch is None
    shutil.rmtree(lake(restored).settings.cache_folder)
    # In the new cluster the same transaction id comes once more, for the same row.
    use_transactions(restored, former - int(restored.execute(following)[0][0]))
    restored.execute("UPDATE t SET v = 'c' WHERE id = 1")
    assert int(transaction_of(restored, 1)) == former
    assert captured(lake(restored).ingest()) == {"t": (1, 0)}
    assert lake(restored).ingest().batch is None


def test_a_major_upgrade_goes_on_with_its_history(
    folder: Path, make_pipeline: Any, write_project: Any
) -> None:
    if not (DEBIAN / "pg_upgrade").exists():
        pytest.skip(f"PostgreSQL 15 is not in {DEBIAN}")
    account, project = server_account(), write_project(MODEL)
    old, new = folder / "fifteen", folder / "eighteen"
    for place, binaries in ((old, DEBIAN), (new, program("initdb").parent)):
        prepare_folder(place, account)
        checksums = [] if binaries == DEBIAN else ["--no-data-checksums"]
        as_server(
            binaries / "initdb", "-D", place / "data", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--no-sync", *checksums, cwd=place,
        )  # fmt: skip

    def pipeline(server: LocalServer) -> Pipeline:
        return make_pipeline(server.url(user="reader"), project=project)

    with LocalServer.start(old, binaries=DEBIAN) as server:
        source = database_of(server)
        source.execute(*ITEMS, "CREATE ROLE reader LOGIN", "GRANT SELECT ON item TO reader")
        assert run_cleanly(pipeline(server)).ingested.batch == 1
        source.execute("DELETE FROM item WHERE id = 4", "UPDATE item SET name = 'b' WHERE id = 5")
        assert run_cleanly(pipeline(server)).ingested.batch == 2
        source.execute("UPDATE item SET name = 'c' WHERE id = 6")
    as_server(
        program("pg_upgrade"), "-b", DEBIAN, "-B", program("initdb").parent, "-d", old / "data", "-D", new / "data",
        "-U", "postgres", "-s", new, "--no-sync", cwd=new,
    )  # fmt: skip
    with LocalServer.start(new) as server:
        assert isinstance(pipeline(server).run().failures["ingest"], LakeOfAnotherSource)
        assert pipeline(server).adopt(dry_run=True).tables == {
            "item": {"upserts": 1, "deletes": 0, "unchanged": 4998}
        }
        assert pipeline(server).adopt().tables == {"item": {"upserts": 1, "deletes": 0, "unchanged": 4998}}
        database_of(server).execute("UPDATE item SET name = 'd' WHERE id = 6")
        assert run_cleanly(pipeline(server)).ingested.batch == 4
        assert rows_of(pipeline(server), VERSIONS) == [
            (4, "item 4", True, 2), (5, "b", False, 2), (6, "c", False, 3), (6, "d", False, 4),
        ]  # fmt: skip


def test_a_copy_that_took_the_name_of_a_database_is_adopted(
    primary: LocalServer, lake: Callable[..., Pipeline]
) -> None:
    server = database_of(primary)
    server.execute("CREATE DATABASE original TEMPLATE postgres")
    original = database_of(primary, "original")
    original.execute("INSERT INTO t VALUES (3, 'c')")
    lake(original).ingest()
    server.execute("CREATE DATABASE swapped TEMPLATE original")
    swapped = database_of(primary, "swapped")
    swapped.execute("UPDATE t SET v = 'swapped' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    original.execute("INSERT INTO t VALUES (99, 'x')")
    lake(original).ingest()
    server.execute("ALTER DATABASE original RENAME TO old", "ALTER DATABASE swapped RENAME TO original")
    assert lake(original).adopt().tables == {"t": {"upserts": 1, "deletes": 2, "unchanged": 1}}
    assert history(lake(original))[2] == [
        ("delete", 2, None), ("delete", 99, None), ("upsert", 1, "swapped"),
    ]  # fmt: skip
    assert lake(original).ingest().batch is None


def test_a_lake_of_another_source_is_not_processed_or_loaded(
    primary: LocalServer,
    database: Database,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    project = write_project(MODEL)
    database.execute(*ITEMS[:2], "INSERT INTO item VALUES (1, 'theirs')")
    theirs = make_pipeline(database.url, folder=tmp_path / "theirs", project=project)
    run_cleanly(theirs)
    other = database_of(primary)
    other.execute("CREATE DATABASE ours")
    ours = database_of(primary, "ours")
    ours.execute(*ITEMS[:2], "INSERT INTO item VALUES (2, 'ours')")
    folder = tmp_path / "theirs/lake"
    for number, (stores, stage) in enumerate(
        (
            ({"ingestion": str(folder / "ingestion"), "processed": str(folder / "processed")}, "ingest"),
            ({"ingestion": str(folder / "ingestion")}, "ingest"),
            ({"processed": str(folder / "processed")}, "process"),
        )
    ):
        place = tmp_path / f"ours-{number}"
        place.mkdir()
        pipeline = make_pipeline(ours.url, folder=place, project=project, lake=stores)
        cycle = pipeline.run()
        assert list(cycle.failures) == [stage]
        assert cycle.loaded is None
        assert not (place / "warehouse.duckdb").exists()
