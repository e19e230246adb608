"""Which database is this? Of a source that is behind, beside, promoted, crashed or another, nothing wrong is captured."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.identity.clusters import (
    ROLE,
    TABLE,
    captured,
    catch_up,
    copy_of,
    crash,
    database_of,
    history,
    promote,
    running,
    transaction_of,
    wait_until,
)
from totes.errors import LakeOfAnotherSource, SourceBehind, SourceRefused
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer


def test_a_crash_that_lost_a_captured_commit_is_noticed(folder: Path, lake: Callable[..., Pipeline]) -> None:
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
    place = folder / "crashing"
    with running(place, **settings) as server:
        source = database_of(server)
        source.execute(*TABLE, *ROLE, "CHECKPOINT")
        writers = "backend_type IN ('walwriter', 'background writer')"  # what would flush the log in the end
        for (process_id,) in source.execute(f"SELECT pid FROM pg_stat_activity WHERE {writers}"):
            os.kill(process_id, signal.SIGSTOP)
        source.execute("INSERT INTO t VALUES (700, 'before'), (701, 'lost')")
        transaction = transaction_of(source, 700)
        lake(source).ingest()
        crash(server)
    with running(place, **settings) as server:
        source = database_of(server)
        assert source.execute("SELECT id FROM t ORDER BY 1") == [(1,), (2,)]
        source.execute("INSERT INTO t VALUES (700, 'after')")
        assert transaction_of(source, 700) == transaction
        assert captured(lake(source).ingest()) == {"t": (1, 1)}
        assert lake(source).ingest().batch is None
        # A clean restart loses nothing.
        source.execute("INSERT INTO t VALUES (702, 'c')")
        assert captured(lake(source).ingest()) == {"t": (1, 0)}
    with running(place, **settings) as server:
        source = database_of(server)
        assert lake(source).ingest().batch is None
        source.execute("INSERT INTO t VALUES (703, 'd')")
        assert captured(lake(source).ingest()) == {"t": (1, 0)}
        assert history(lake(source))[1] == [("delete", 701, None), ("upsert", 700, "after")]


@pytest.mark.parametrize(
    "writing", [True, False], ids=["while another transaction writes", "with nothing open"]
)
def test_a_standby_that_is_behind_changes_nothing(
    folder: Path, primary: LocalServer, lake: Callable[..., Pipeline], writing: bool
) -> None:
    source = database_of(primary)
    with running(copy_of(primary, folder / f"standby-{writing}", "-R")) as server:
        standby = database_of(server)
        with source.connect() as other:
            if writing:
                other.execute("CREATE TABLE other ()")
            source.execute("INSERT INTO t VALUES (59, 'x')")
            catch_up(source, standby)
            standby.execute("SELECT pg_wal_replay_pause()")
            wait_until(lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)])
            source.execute("INSERT INTO t VALUES (60, 'y')")
            assert lake(source).ingest().batch == 1
            with pytest.raises(
                SourceBehind, match=r"standby that has replayed .* run again when it has caught up"
            ):
                lake(standby).ingest()
            assert lake(source).ingest().batch is None
        standby.execute("SELECT pg_wal_replay_resume()")
        catch_up(source, standby)
        assert lake(standby).ingest().batch is None
        source.execute("DELETE FROM t WHERE id >= 59")
        catch_up(source, standby)
        assert captured(lake(standby).ingest()) == {"t": (0, 2)}
        assert lake(source).ingest().batch is None


def test_a_promoted_standby_is_compared_where_captured_commits_are_lost(
    folder: Path, lake: Callable[..., Pipeline]
) -> None:
    with running(folder / "failing") as server:
        source = database_of(server)
        source.execute(*TABLE, *ROLE)
        with running(copy_of(server, folder / "promoted", "-R")) as other:
            standby = database_of(other)
            catch_up(source, standby)
            lake(source, "early").ingest()
            catch_up(source, standby)
            standby.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
            wait_until(lambda: standby.execute("SELECT 1 FROM pg_stat_wal_receiver") == [])
            source.execute("INSERT INTO t VALUES (500, 'lost')", "UPDATE t SET v = 'lost' WHERE id = 1",
                           "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (501, 'lost')")  # fmt: skip
            transaction = transaction_of(source, 500)
            lake(source).ingest()
            crash(server)
            promote(standby)
            standby.execute("INSERT INTO t VALUES (500, 'kept')")
            assert transaction_of(standby, 500) == transaction
            # It lacks nothing that the early lake has, so its marks still serve.
            assert captured(lake(standby, "early").ingest()) == {"t": (1, 0)}
            assert captured(lake(standby).ingest()) == {"t": (3, 1)}
            assert history(lake(standby))[1] == [
                ("delete", 501, None), ("upsert", 1, "a"), ("upsert", 2, "b"), ("upsert", 500, "kept"),
            ]  # fmt: skip
            assert lake(standby).ingest().batch is None
    with (
        running(folder / "failing") as server,
        pytest.raises(SourceRefused, match=r"old primary.*promoted"),
    ):
        lake(database_of(server)).ingest()


def test_an_older_copy_is_refused(folder: Path, primary: LocalServer, lake: Callable[..., Pipeline]) -> None:
    source = database_of(primary)
    copy = copy_of(primary, folder / "copy")
    # What is lost is more than a crash can lose, whatever else writes to the log: all of it had reached the disk.
    source.execute("SELECT pg_switch_wal()", "INSERT INTO t VALUES (80, 'z')")
    lake(source).ingest()
    source.execute("DELETE FROM t WHERE id = 80")
    with running(copy) as server, pytest.raises(SourceRefused, match=r"it was restored.*totes adopt"):
        lake(database_of(server)).ingest()


def test_a_copy_recovered_to_a_point_in_time_is_refused(
    folder: Path, primary: LocalServer, lake: Callable[..., Pipeline]
) -> None:
    source = database_of(primary)
    copy = copy_of(primary, folder / "recovered")
    source.execute("INSERT INTO t VALUES (90, 'z')")
    lake(source).ingest()
    source.execute("DELETE FROM t WHERE id = 90")
    (copy / "data/recovery.signal").touch()
    recovery = {
        "restore_command": "false",
        "recovery_target": "immediate",
        "recovery_target_action": "promote",
    }
    with running(copy, **recovery) as server:
        recovered = database_of(server)
        wait_until(lambda: recovered.execute("SELECT pg_is_in_recovery()") == [(False,)])
        with pytest.raises(SourceRefused, match=r"it was restored.*totes adopt"):
            lake(recovered).ingest()


def test_a_copy_that_took_the_name_of_a_database_is_refused_and_a_renamed_database_is_not(
    primary: LocalServer, lake: Callable[..., Pipeline]
) -> None:
    server = database_of(primary)
    server.execute("CREATE DATABASE prod TEMPLATE postgres")
    prod = database_of(primary, "prod")
    assert lake(prod).ingest().batch == 1
    server.execute("CREATE DATABASE staging TEMPLATE prod")
    staging = database_of(primary, "staging")
    staging.execute("UPDATE t SET v = 'staging' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    prod.execute("UPDATE t SET v = 'prod' WHERE id = 1", "INSERT INTO t VALUES (3, 'c')")
    assert captured(lake(prod).ingest()) == {"t": (2, 0)}
    server.execute("ALTER DATABASE prod RENAME TO former", "ALTER DATABASE staging RENAME TO prod")
    with pytest.raises(LakeOfAnotherSource, match=r"another database of the same cluster.*totes adopt"):
        lake(prod).ingest()
    former = database_of(primary, "former")
    assert lake(former).ingest().batch is None
    former.execute("INSERT INTO t VALUES (4, 'd')")
    assert captured(lake(former).ingest()) == {"t": (1, 0)}


def test_a_server_that_does_not_answer_for_its_log_is_read_all_the_same(
    primary: LocalServer, lake: Callable[..., Pipeline]
) -> None:
    server = database_of(primary)
    server.execute("CREATE DATABASE reserved TEMPLATE postgres")
    source = database_of(primary, "reserved")
    source.execute("REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC")
    assert lake(source).ingest().batch == 1
    source.execute("UPDATE t SET v = 'c' WHERE id = 1")
    assert captured(lake(source).ingest()) == {"t": (1, 0)}
    assert lake(source).ingest().batch is None
    # Once it answers, the history goes on; and so it does when it ceases to.
    source.execute(
        "GRANT EXECUTE ON FUNCTION pg_current_wal_insert_lsn() TO PUBLIC", "UPDATE t SET v = 'd' WHERE id = 1"
    )
    assert captured(lake(source).ingest()) == {"t": (1, 0)}
    source.execute(
        "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn() FROM PUBLIC",
        "UPDATE t SET v = 'e' WHERE id = 1",
    )
    assert captured(lake(source).ingest()) == {"t": (1, 0)}
