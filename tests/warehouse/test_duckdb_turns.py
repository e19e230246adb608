"""A large DuckDB file and the one before it take turns: a small batch is written into the former, after what is missing there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.conftest import Command, Database, run_cleanly
from tests.warehouse.test_duckdb_file import reading
from totes.pipeline import Pipeline

RANDOM_TABLE = "CREATE TABLE theirs AS SELECT gen_random_uuid() AS n FROM range(6000000)"


@pytest.fixture
def pipeline(into_duckdb: Pipeline) -> Pipeline:
    return into_duckdb


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file of somebody else."""
    file = tmp_path_factory.mktemp("theirs") / "theirs.duckdb"
    with closing(duckdb.connect(file)) as connection:
        connection.execute(RANDOM_TABLE)
    assert file.stat().st_size > 80_000_000
    return file


@pytest.fixture
def file(pipeline: Pipeline, theirs: Path, tmp_path: Path) -> Path:
    """Its warehouse with one batch, in a file that somebody else's table makes large."""
    file = tmp_path / "warehouse.duckdb"
    shutil.copy(theirs, file)
    run_cleanly(pipeline)
    return file


@pytest.fixture
def load(pipeline: Pipeline, database: Database) -> Callable[[str], Any]:
    """Changes a customer's city and an order, and runs a cycle."""

    def load(city: str) -> Any:
        change(database, city)
        return run_cleanly(pipeline)

    return load


def change(database: Database, city: str) -> None:
    database.execute(
        f"UPDATE customer SET city = '{city}' WHERE customer_id = 10",
        "UPDATE \"order\" SET quantity = quantity + 1, last_updated = last_updated + interval '1 hour' WHERE order_id = 1",
    )


def shadows(file: Path) -> list[Path]:
    return list(file.parent.glob(f".{file.name}.*.shadow*"))


def star(file: Path) -> dict[str, Any]:
    with closing(duckdb.connect(file, read_only=True)) as connection:
        return {
            table: connection.execute(f"FROM {table} ORDER BY ALL").fetchall()
            for table in ("dim_customer", "fact_order", "totes_batches")
        }


def replayed(totes: Callable[..., Command], url: str, folder: Path) -> dict[str, Any]:
    """What a new warehouse has that all batches are loaded into, without when these were."""
    target = folder / "replayed.duckdb"
    target.unlink(missing_ok=True)
    environment = {"TOTES_SOURCE__URL": url, "TOTES_PROJECT__PATH": "project"}
    done = totes("replay", "--warehouse", f"duckdb:///{target}", **environment)
    assert done.code == 0, done.err
    return without_times(star(target))


def without_times(tables: dict[str, Any]) -> dict[str, Any]:
    return tables | {"totes_batches": [(row[0], row[1], row[2], row[4]) for row in tables["totes_batches"]]}


def test_two_files_take_turns_and_have_every_batch_once(
    database: Database,
    file: Path,
    load: Callable[[str], Any],
    totes: Callable[..., Command],
    tmp_path: Path,
) -> None:
    files, sizes = [], []
    for number in range(6):
        assert list(load(f"Bath {number}").loaded.batches) == [number + 2]
        files.append(file.stat().st_ino)
        sizes.append(file.stat().st_size)
        assert len(shadows(file)) == 1
        with closing(duckdb.connect(file, read_only=True)) as connection:
            assert connection.execute("SELECT max(batch_id) FROM totes_batches").fetchall() == [(number + 2,)]
    assert files[0::2] == files[:1] * 3
    assert files[1::2] == files[1:2] * 3
    assert files[0] != files[1]
    assert max(sizes) < min(sizes) + 5_000_000
    assert without_times(star(file)) == replayed(totes, database.url, tmp_path)


def test_several_batches_at_once_are_missing_in_the_other_file(
    pipeline: Pipeline, database: Database, file: Path, load: Callable[[str], Any], totes: Any, tmp_path: Path
) -> None:
    load("Bath")
    for number in range(3):
        change(database, f"Hull {number}")
        pipeline.ingest()
        pipeline.process()
    assert sorted(pipeline.load().batches) == [3, 4, 5]
    one = file.stat().st_ino
    assert list(load("York").loaded.batches) == [6]
    assert file.stat().st_ino != one
    assert without_times(star(file)) == replayed(totes, database.url, tmp_path)


def test_what_somebody_reads_is_not_written(file: Path, load: Callable[[str], Any]) -> None:
    load("Bath")
    with reading(file) as ask:
        seen, read = ask(), file.stat().st_ino
        for number in range(3):
            load(f"Hull {number}")
        assert ask() == seen
        assert read not in {path.stat().st_ino for path in (file, *shadows(file))}


def test_what_is_just_being_copied_is_not_written(file: Path, load: Callable[[str], Any]) -> None:
    """Though whoever does that takes no lock, and may have been at it since several loads."""
    load("Bath")
    with file.open("rb") as copied:
        began = copied.read(1 << 20)
        for number in range(3):
            load(f"Hull {number}")
        copied.seek(0)
        assert copied.read(1 << 20) == began
        assert os.fstat(copied.fileno()).st_ino not in {path.stat().st_ino for path in (file, *shadows(file))}


def test_what_others_write_or_drop_stays_so_when_turns_are_taken(
    pipeline: Pipeline, file: Path, load: Callable[[str], Any]
) -> None:
    load("Bath")
    load("Hull")
    with closing(duckdb.connect(file)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT 1 AS n")
        connection.execute("DROP VIEW fact_order_current")
    for number in range(3):
        load(f"York {number}")
        with closing(duckdb.connect(file, read_only=True)) as connection:
            assert connection.execute("FROM mine").fetchall() == [(1,)]
            assert connection.execute("SELECT count(*) FROM fact_order_current").fetchall() == [(3,)]


@pytest.mark.parametrize("damage", ["overwritten", "cut", "gone"])
def test_a_damaged_file_of_before_is_not_needed(file: Path, load: Callable[[str], Any], damage: str) -> None:
    load("Bath")
    [former] = shadows(file)
    if damage == "gone":
        former.unlink()
    elif damage == "cut":
        os.truncate(former, 5000)
    else:
        former.write_bytes(b"\0" * former.stat().st_size)
    assert list(load("Hull").loaded.batches) == [3]
    assert next(row for row in star(file)["dim_customer"] if row[0] == 10)[2] == "Hull"


def test_a_load_that_fails_half_way_publishes_nothing_of_before(
    pipeline: Pipeline, database: Database, file: Path, load: Callable[[str], Any], tmp_path: Path
) -> None:
    load("Bath")
    for number in range(2):
        change(database, f"Hull {number}")
        pipeline.ingest()
        pipeline.process()
    assert sorted(pipeline.load().batches) == [3, 4]
    newest = star(file)
    [missing] = (tmp_path / "lake/processed/fact_order").rglob("000000000004-*.parquet")
    shutil.move(missing, tmp_path / "kept")
    change(database, "York")
    assert "load" in pipeline.run().failures  # batch 3 was loaded where it was missing, and 4 cannot be
    assert star(file) == newest
    assert run_cleanly(pipeline).loaded.batches.keys() == {5}  # a copy of the file needs neither
    assert next(row for row in star(file)["dim_customer"] if row[0] == 10)[2] == "York"


SWEPT = (
    "duckdb.shadow.copied:1",
    "duckdb.rows:1",
    "duckdb.commit.before:1",
    "duckdb.commit.after:2",
    "duckdb.shadow.published:1",
)


@pytest.mark.parametrize(
    "point",
    [
        "duckdb.commit.after:1",
        "duckdb.commit.before:2",
        "duckdb.shadow.closed:1",
        *(pytest.param(point, marks=pytest.mark.sweep) for point in SWEPT),
    ],
)
def test_killed_when_it_is_its_turn(
    pipeline: Pipeline,
    database: Database,
    file: Path,
    load: Callable[[str], Any],
    totes: Callable[..., Command],
    tmp_path: Path,
    point: str,
) -> None:
    load("Bath")
    before = without_times(star(file))
    change(database, "Hull")
    environment = {"TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": "project"}
    assert totes("run", TOTES_FAILPOINT=point, **environment).code == -9
    expected = replayed(totes, database.url, tmp_path)
    assert without_times(star(file)) in (before, expected)
    run_cleanly(pipeline)
    assert without_times(star(file)) == expected
    load("York")
    load("Leeds")
    assert without_times(star(file)) == replayed(totes, database.url, tmp_path)
