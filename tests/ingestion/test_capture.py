"""Promises 1 to 3 at the source: nothing lost, nothing twice, deletes are history."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tests.conftest import Database
from totes import engine
from totes.errors import SourceError, SourceRefused
from totes.ingestion.stage import Ingested
from totes.lake.journal import ingestion_journal
from totes.pipeline import Pipeline

MODEL = {"dim_t": "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS SELECT id, v FROM t"}


@pytest.fixture
def capture(make_pipeline: Any, write_project: Any) -> Callable[..., Pipeline]:
    def make(database: Database, models: dict[str, str] = MODEL, **source: Any) -> Pipeline:
        return make_pipeline(database.url, project=write_project(models), source=source)

    return make


def changes(done: Ingested) -> dict[str, tuple[int, int]]:
    return {table: (found.upserts, found.deletes) for table, found in done.changes.items()}


def lines(pipeline: Pipeline, table: str, batch: int) -> list[str]:
    manifest = ingestion_journal(pipeline.ingestion_store).read(batch)
    with pipeline.ingestion_store.local(list(manifest.tables[table].objects)) as files:
        listed = ", ".join(engine.text(str(file)) for file in files)
        rows = engine.connect(None, memory="1GB", reads=pipeline.lake_folders).execute(
            f"SELECT * FROM read_csv([{listed}], header = false, delim = e'\\x01', quote = '', escape = '',"
            " columns = {'line': 'VARCHAR'}, compression = 'zstd', hive_partitioning = false)"
        )
        return sorted(line for (line,) in rows.fetchall())


def test_only_what_was_committed_since_is_captured(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    pipeline = capture(database)
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    assert pipeline.ingest().batch is None
    database.execute("UPDATE t SET v = 'c' WHERE id = 2", "INSERT INTO t VALUES (3, 'd')")
    done = pipeline.ingest()
    assert (done.batch, changes(done)) == (2, {"t": (2, 0)})
    assert pipeline.ingest().batch is None


def test_a_transaction_that_commits_after_a_later_batch_is_not_lost(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text, last_updated timestamp DEFAULT '2020-01-01')",
                     "INSERT INTO t VALUES (1, 'a')")  # fmt: skip
    pipeline = capture(database)
    with database.connect() as late:
        late.execute("INSERT INTO t VALUES (2, 'late')")
        late.execute("SAVEPOINT inner_one")
        late.execute("INSERT INTO t VALUES (3, 'in a savepoint')")
        late.execute("RELEASE inner_one")
        assert changes(pipeline.ingest()) == {"t": (1, 0)}
        database.execute("INSERT INTO t VALUES (4, 'on time')")
        assert changes(pipeline.ingest()) == {"t": (1, 0)}
        assert pipeline.ingest().batch is None
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    assert pipeline.ingest().batch is None


def test_rows_seen_while_an_older_transaction_ran_are_not_captured_twice(
    database: Database, capture: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "CREATE TABLE other (id int PRIMARY KEY)")
    pipeline = capture(database)
    with database.connect() as older:
        older.execute("INSERT INTO other VALUES (1)")
        database.execute("INSERT INTO t VALUES (1, 'a')")
        assert changes(pipeline.ingest()) == {"t": (1, 0)}
        database.execute("INSERT INTO t VALUES (2, 'b')")
        assert changes(pipeline.ingest()) == {"t": (1, 0)}
        shutil.rmtree(pipeline.settings.cache_folder)
        older.rollback()
    assert pipeline.ingest().batch is None


def test_rolled_back_work_leaves_nothing(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    pipeline = capture(database)
    with database.connect() as session:
        session.execute("UPDATE t SET v = 'never'")
        assert changes(pipeline.ingest()) == {"t": (1, 0)}
        session.rollback()
    assert pipeline.ingest().batch is None
    assert '"v":"a"' in lines(pipeline, "t", 1)[0]


def test_deletes_are_found_by_their_keys_also_behind_inserts(database: Database, capture: Any) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5) i",
    )
    pipeline = capture(database)
    pipeline.ingest()
    database.execute("DELETE FROM t WHERE id IN (1, 2)", "INSERT INTO t VALUES (6, 'y'), (7, 'z')")
    done = pipeline.ingest()
    assert changes(done) == {"t": (2, 2)}
    at = done.read_at.isoformat(timespec="microseconds")
    assert lines(pipeline, "t", 2)[0] == f'{{"id":1,"_op":"delete","_at":"{at}"}}'
    database.execute("TRUNCATE t")
    assert changes(pipeline.ingest()) == {"t": (0, 5)}
    assert pipeline.ingest().batch is None


def test_a_row_deleted_and_inserted_again_under_its_key_is_one_change(
    database: Database, capture: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    pipeline = capture(database)
    pipeline.ingest()
    database.execute("DELETE FROM t", "INSERT INTO t VALUES (1, 'b')")
    assert changes(pipeline.ingest()) == {"t": (1, 0)}


def test_a_changed_key_is_a_delete_and_an_insert(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    pipeline = capture(database)
    pipeline.ingest()
    database.execute("UPDATE t SET id = 9 WHERE id = 1")
    assert changes(pipeline.ingest()) == {"t": (1, 1)}


def test_a_lost_cache_changes_nothing(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    pipeline = capture(database)
    pipeline.ingest()
    database.execute("DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (3, 'c')")
    pipeline.ingest()
    shutil.rmtree(pipeline.settings.cache_folder)
    assert pipeline.ingest().batch is None
    database.execute("DELETE FROM t WHERE id = 2")
    assert changes(pipeline.ingest()) == {"t": (0, 1)}


@pytest.mark.parametrize("damage", [b"not a database", b""])
def test_a_damaged_cache_is_made_again(damage: bytes, database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    pipeline = capture(database)
    pipeline.ingest()
    (pipeline.settings.cache_folder / "ingestion.duckdb").write_bytes(damage)
    assert pipeline.ingest().batch is None


def test_names_and_keys_may_be_anything_that_postgresql_allows(database: Database, capture: Any) -> None:
    database.execute(
        """CREATE TABLE "Order ""Details""/x" ("select" uuid, "Ünï code" numeric(5, 2), "two  words" text, "'" date,
           PRIMARY KEY ("Ünï code", "select"))""",
        """INSERT INTO "Order ""Details""/x" VALUES
           ('00000000-0000-0000-0000-000000000001', 1.50, E'line\\nbreak "quoted" \\\\ \\u2028 \\x01', '2024-02-29'),
           ('00000000-0000-0000-0000-000000000001', 1.5000, 'x', NULL) ON CONFLICT DO NOTHING""",
    )
    pipeline = capture(database, {"dim_o": """
        CREATE TABLE dim_o (a UUID, b DECIMAL(5, 2), c VARCHAR, PRIMARY KEY (a, b)) AS
        SELECT "select" AS a, "Ünï code" AS b, "two  words" AS c FROM "Order ""Details""/x" """})  # fmt: skip
    assert changes(pipeline.ingest()) == {'Order "Details"/x': (1, 0)}
    [line] = lines(pipeline, 'Order "Details"/x', 1)
    assert line.startswith(
        '{"select":"00000000-0000-0000-0000-000000000001","Ünï code":"1.50",'
        '"two  words":"line\\nbreak \\"quoted\\" \\\\ \u2028 \\u0001","\'":"2024-02-29","_op":"upsert",'
    )


def test_columns_that_differ_in_case_only_are_captured(database: Database, capture: Any) -> None:
    database.execute('CREATE TABLE t (id int PRIMARY KEY, v text, "V" text)', "INSERT INTO t VALUES (1, 'a', 'A')",
                     'CREATE TABLE "T" (id int PRIMARY KEY)', 'INSERT INTO "T" VALUES (7)')  # fmt: skip
    pipeline = capture(database)
    assert changes(pipeline.ingest()) == {"t": (1, 0), "T": (1, 0)}
    assert '"v":"a","V":"A"' in lines(pipeline, "t", 1)[0]
    assert pipeline.ingest().batch is None


def test_partitioned_tables_are_one_and_generated_columns_are_read(database: Database, capture: Any) -> None:
    database.execute(
        "CREATE TABLE t (id int, v text, d date, up text GENERATED ALWAYS AS (upper(v)) STORED, PRIMARY KEY (id, d))"
        " PARTITION BY RANGE (d)",
        "CREATE TABLE t_2023 PARTITION OF t FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')",
        "CREATE TABLE t_rest PARTITION OF t DEFAULT",
        "INSERT INTO t VALUES (1, 'a', '2023-05-05'), (2, 'b', '2025-05-05')",
    )
    pipeline = capture(database)
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    assert '"up":"A"' in lines(pipeline, "t", 1)[0]
    database.execute("UPDATE t SET d = '2025-01-01' WHERE id = 1")
    assert changes(pipeline.ingest()) == {"t": (1, 1)}


def test_views_are_captured_by_content_under_the_key_they_are_given(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE base (id int PRIMARY KEY, v text)", "INSERT INTO base VALUES (1, 'a'), (2, 'b')",
                     "CREATE VIEW t AS SELECT id, upper(v) AS v FROM base")  # fmt: skip
    pipeline = capture(database, keys={"t": ["id"]}, exclude=["base"])
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    database.execute("UPDATE base SET v = 'A' WHERE id = 1")
    assert pipeline.ingest().batch is None
    database.execute("UPDATE base SET v = 'z' WHERE id = 1", "DELETE FROM base WHERE id = 2")
    assert changes(pipeline.ingest()) == {"t": (1, 1)}


def test_a_needed_table_without_a_key_is_refused_with_the_way_out(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int, v text)")
    with pytest.raises(SourceRefused, match=r"public\.t has no primary key.*source\.keys") as refused:
        capture(database).ingest()
    assert "ALTER TABLE" in str(refused.value)
    assert changes(capture(database, keys={"t": ["id"]}).ingest()) == {}


def test_a_declared_key_that_is_not_one_is_refused(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int, v text)", "INSERT INTO t VALUES (1, 'a'), (1, 'b')")
    failure = capture(database, keys={"t": ["id"]}).ingest().failure
    assert re.search("several rows with the same id", str(failure))


def test_a_table_that_no_model_needs_and_that_has_no_key_is_left_out(
    database: Database, capture: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')",
                     "CREATE TABLE scratch (x int)", "INSERT INTO scratch VALUES (1)")  # fmt: skip
    assert changes(capture(database).ingest()) == {"t": (1, 0)}


def test_a_role_that_may_only_select_is_enough(database: Database, capture: Any, server: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')",
                     f"CREATE ROLE reader_{database.name} LOGIN PASSWORD 'a reader'",
                     f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC",
                     f"GRANT CONNECT ON DATABASE {database.name} TO reader_{database.name}",
                     f"GRANT SELECT ON t TO reader_{database.name}")  # fmt: skip
    pipeline = capture(Database(server.url(database.name, f"reader_{database.name}", "a%20reader"), ""))
    assert changes(pipeline.ingest()) == {"t": (1, 0)}


def test_a_table_that_the_role_may_not_read_is_named_with_the_grant(
    database: Database, capture: Any, server: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", f"CREATE ROLE blind_{database.name} LOGIN PASSWORD 'x'"
    )
    pipeline = capture(Database(server.url(database.name, f"blind_{database.name}", "x"), ""))
    with pytest.raises(SourceRefused, match=r'GRANT SELECT ON "public"\."t"'):
        pipeline.ingest()


def test_a_missing_table_is_named_with_the_nearest_one(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE tt (id int PRIMARY KEY)")
    failure = capture(database).ingest().failure
    assert re.search(r"no table public\.t .*Did you mean tt\?", str(failure))


def test_another_database_cluster_is_refused(database: Database, capture: Any) -> None:
    from totes.terrifictotes.server import LocalServer

    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    capture(database).ingest()
    with LocalServer.start() as other:
        with psycopg.connect(other.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
        with pytest.raises(SourceRefused, match="another database cluster"):
            capture(Database(other.url(), "")).ingest()


def test_a_source_that_cannot_be_reached_is_a_retryable_error_without_the_password(
    database: Database, capture: Any
) -> None:
    with pytest.raises(SourceError) as failed:
        capture(Database("postgresql://user:a-secret-word@127.0.0.1:1/nowhere", "")).ingest()
    assert failed.value.retryable
    assert "a-secret-word" not in str(failed.value)


def test_many_changed_rows_go_into_several_parts(
    database: Database, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("totes.ingestion.objects.PART_ROWS_MAX", 400)
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i",
    )
    pipeline = capture(database)
    parts = pipeline.ingest().changes["t"].objects
    assert [part.rows for part in parts] == [400, 400, 200]
    assert len(set(lines(pipeline, "t", 1))) == 1000


def test_transactions_past_two_to_the_32nd_are_seen_once(database: Database) -> None:
    from totes.ingestion.capture import changed_since
    from totes.lake.manifest import Position

    def at(horizon: int, following: int) -> Position:
        return Position.model_validate({"system_identifier": "1", "timeline": 1, "database": "d", "horizon": horizon,
                                        "next_transaction": following, "read_at": "2024-01-01T00:00:00"})  # fmt: skip

    epoch = 1 << 32
    early, late = at(epoch - 2, epoch - 1), at(epoch + 3, epoch + 4)
    assert changed_since(at(100, 100), at(100, 100), listed=False) is None
    within = changed_since(at(100, 120), at(130, 140), listed=False)
    assert within == "xmin::text::int8 >= 100 AND xmin::text::int8 < 140"
    wrapped = changed_since(early, late, listed=False)
    assert wrapped == "(xmin::text::int8 >= 4294967294 OR xmin::text::int8 BETWEEN 3 AND 3)"
    listed = "'{4294967294,4294967295,0,1,2,3}'"
    assert changed_since(early, late, listed=True) == f"xmin = ANY ({listed}::xid[])"
    assert database.execute(
        f"SELECT '4294967295'::xid = ANY ({listed}::xid[]), '4'::xid = ANY ({listed}::xid[])"
    ) == [(True, False)]


def test_a_column_that_is_added_with_a_default_is_captured_with_its_values(
    database: Database, capture: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    pipeline = capture(database)
    pipeline.ingest()
    database.execute("ALTER TABLE t ADD COLUMN nothing text")
    assert changes(pipeline.ingest()) == {}
    assert pipeline.ingest().batch is None
    database.execute("ALTER TABLE t ADD COLUMN more json DEFAULT '{}'")
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    assert pipeline.ingest().batch is None
    database.execute("ALTER TABLE t DROP COLUMN more", "UPDATE t SET v = 'c' WHERE id = 1")
    assert changes(pipeline.ingest()) == {"t": (1, 0)}


def test_another_primary_key_is_refused_with_the_way_out(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    capture(database).ingest()
    database.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v)")
    failure = capture(database).ingest().failure
    assert re.search(r"key of public\.t was \(id\) and is \(v\).*source\.keys", str(failure))
    assert capture(database, keys={"t": ["id"]}).ingest().batch is None


def test_renamed_and_replaced_columns_make_their_table_be_captured_again(
    database: Database, capture: Any
) -> None:
    database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text)",
        "INSERT INTO t VALUES (1, 'a', 'b'), (2, 'c', NULL)",
    )
    pipeline = capture(database)
    pipeline.ingest()
    database.execute(
        "ALTER TABLE t RENAME v TO x", "ALTER TABLE t RENAME w TO v", "ALTER TABLE t RENAME x TO w"
    )
    assert changes(pipeline.ingest()) == {"t": (2, 0)}
    database.execute(
        "ALTER TABLE t DROP COLUMN v", "ALTER TABLE t ADD COLUMN v text", "DELETE FROM t WHERE id = 2"
    )
    assert changes(pipeline.ingest()) == {"t": (1, 1)}
    assert '"v":null' in lines(pipeline, "t", 3)[0] + lines(pipeline, "t", 3)[1]
    assert pipeline.ingest().batch is None


def test_a_key_for_a_table_that_is_not_there_is_an_error(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    failure = capture(database, keys={"tt": ["id"]}).ingest().failure
    assert re.search(r"source\.keys names tt.*Did you mean t\?", str(failure))


def test_a_wider_key_is_captured_and_one_of_another_type_is_refused(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    capture(database).ingest()
    database.execute("ALTER TABLE t ALTER id TYPE bigint", "INSERT INTO t VALUES (3000000000, 'b')")
    assert changes(capture(database).ingest()) == {"t": (2, 0)}
    database.execute("ALTER TABLE t ALTER id TYPE text")
    failure = capture(database).ingest().failure
    assert re.search(r"key column id of public\.t was a bigint and is a text", str(failure))


def test_a_declared_key_without_a_value_is_refused(database: Database, capture: Any) -> None:
    database.execute("CREATE TABLE t (id int, v text)", "INSERT INTO t VALUES (1, 'a'), (NULL, 'b')")
    failure = capture(database, keys={"t": ["id"]}).ingest().failure
    assert re.search("has rows without a value in id", str(failure))
