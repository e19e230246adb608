"""Promise 4, point by point: killed at every failpoint of every stage, then run again, the end is as if undisturbed.

The points are read from the source code: one that no scenario here reaches fails the suite.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import totes
from tests import processes
from tests.conftest import Bucket, Command, Database
from tests.faults import kiosk
from tests.plain_lake import manifests_of, objects_of, rows_of_lake, rows_of_source

SOURCE = Path(totes.__file__).parent
KINDS = ("duckdb", "postgresql")
# At which of the times that a cycle reaches a point it is killed: in the first batch, and in those of changes.
MOMENTS = {"duckdb": ("first", "last", "middle"), "postgresql": ("last", "middle", "first")}
# Of a lake on S3, in each of its batches: in the stages' order, so that each stage goes on from where it was killed.
S3_KILLS = (
    ("store.put.before:3", "journal.commit.before:1", "journal.commit.after:1", "store.put.after:4"),
    ("store.put.after:5", "journal.commit.after:1", "journal.commit.before:1", "journal.commit.after:1"),
    ("journal.commit.before:1", "journal.commit.after:1", "duckdb.commit.before:1"),
)
# Tables are new in the first batch only.
ONLY_FIRST = {"postgresql.built"}
LEDGER = "SELECT batch_id FROM totes_batches ORDER BY batch_id"
VERSIONS = """
SELECT id, customer_id, region, CAST(amount AS VARCHAR), valid_from, is_deleted, batch_id, valid_to, sale_record
FROM fact_sale ORDER BY id, sale_record
"""
TABLE_NAMES = "SELECT CAST(table_name AS VARCHAR) FROM information_schema.tables"
TABLES = (
    "SELECT * FROM dim_region ORDER BY code",
    "SELECT id, name, region FROM dim_customer_current ORDER BY id",
    "SELECT id, customer_id, region, amount FROM fact_sale_current ORDER BY id",
)


def failpoints() -> list[str]:
    """The names of all failpoints in the code, each as often as it stands there."""
    calls = [
        node
        for file in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "reach"
    ]
    names = [argument.value for call in calls for argument in call.args if isinstance(argument, ast.Constant)]
    assert len(names) == len(calls), "a failpoint's name is a literal"
    return names


# Where nothing has failed no alert is sent; tests/monitoring/test_alert_delivery.py kills there.
ONLY_ALERTS = {"alert.sent"}
# Where no table is declared otherwise none is switched; tests/warehouse/test_switch_killed.py kills there.
ONLY_SWITCHES = {f"{kind}.{point}" for kind in KINDS for point in ("loosened", "switched", "rebuilt")} - {
    "duckdb.loosened"
}
# These sources are captured by query; tests/ingestion/log/test_killed.py kills where the log is read.
ONLY_LOG = {point for point in failpoints() if point.startswith("ingest.log.")}
# These are published nowhere; tests/publishing/test_killed.py kills where batches are.
ONLY_PUBLISHED = {point for point in failpoints() if point.startswith("publish.")}
POINTS = sorted(set(failpoints()) - ONLY_ALERTS - ONLY_SWITCHES - ONLY_LOG - ONLY_PUBLISHED)


def reached_with(point: str, kind: str) -> bool:
    """Whether a cycle over a warehouse of a kind can reach a point: not those of the other adapter."""
    return point.partition(".")[0] not in set(KINDS) - {kind}


@dataclass
class Kiosk:
    """A shop with its pipeline, of which every process is a real one."""

    folder: Path
    database: Database
    warehouse: str
    store: str

    def change(self, state: int) -> None:
        """Brings the source to its next state."""
        self.database.execute(kiosk.STATES[state])

    def check(self, batch: int) -> None:
        """Lake and warehouse hold the first batches, all of each and each once, and nothing that is in the way."""
        stored = objects_of(f"{self.store}/ingestion")
        ingested = manifests_of(stored)
        processed = manifests_of(objects_of(f"{self.store}/processed"))
        assert (len(ingested), len(processed)) == (batch, batch)
        assert rows_of_lake(stored) == rows_of_source(self.database.url, ingested[-1])
        times = {
            datetime.fromisoformat(one["position"]["read_at"]): f"read {one['batch']}" for one in ingested
        }
        ledger, found = kiosk.query(self.warehouse, LEDGER, VERSIONS)
        assert ledger == [(number,) for number in range(1, batch + 1)]
        versions = [(*row[:4], times.get(row[4], f"{row[4]:%Y-%m-%d}"), *row[5:7]) for row in found]
        assert versions == kiosk.versions_up_to(batch)
        assert sorted(row[8] for row in found) == list(range(1, len(found) + 1))
        for one, following in itertools.pairwise([*found, (None,)]):
            assert one[7] == (following[4] if following[0] == one[0] else None)
        [tables] = kiosk.query(self.warehouse, TABLE_NAMES)
        assert [name for (name,) in tables if name.startswith("totes_loading")] == []

    def check_end(self) -> None:
        """After the last batch the tables with one row a key are right too, and the present equals the source's."""
        assert kiosk.query(self.warehouse, *TABLES) == [
            kiosk.REGIONS,
            kiosk.CUSTOMERS,
            self.database.execute(kiosk.PRESENT),
        ]
        processed = manifests_of(objects_of(f"{self.store}/processed"))
        assert [manifest["models"]["fact_sale"]["quarantine_open"] for manifest in processed] == [1, 3, 0]


@pytest.fixture
def make_kiosk(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[..., Database]
) -> Callable[..., Kiosk]:
    """Makes a shop in its first state."""

    def make(kind: str, store: str = "") -> Kiosk:
        folder = tmp_path_factory.mktemp("kiosk")
        kiosk.write_project(folder)
        warehouse = f"duckdb:///{folder}/warehouse.duckdb" if kind == "duckdb" else new_database().url
        made = Kiosk(folder, new_database(), warehouse, store or str(folder))
        (folder / "totes.toml").write_text(
            f'[project]\nname = "kiosk"\npath = "{folder}"\n[source]\nurl = "{made.database.url}"\n'
            f'[warehouse]\nurl = "{warehouse}"\n'
            f'[lake]\ncompression = "gzip"\ncheckpoints = true\ningestion = "{made.store}/ingestion"\nprocessed = "{made.store}/processed"\n',
            encoding="utf-8",
        )
        made.change(0)
        return made

    return make


@dataclass(frozen=True)
class Undisturbed:
    """Of a run that nothing disturbed: how often each batch reaches each point, and what each cycle reports."""

    reached: list[Counter[str]]
    reports: list[dict[str, Any]]

    def turn(self, state: int, point: str, moment: str) -> int:
        """The number of the time that is meant."""
        times = self.reached[state][point]
        return {"first": 1, "middle": (times + 1) // 2, "last": times}[moment]


_undisturbed: dict[str, Undisturbed] = {}


@pytest.fixture
def undisturbed(make_kiosk: Callable[..., Kiosk]) -> Callable[[str], Undisturbed]:
    """Gives the run that nothing disturbed over a kind of warehouse; it is made once."""

    def give(kind: str) -> Undisturbed:
        if kind not in _undisturbed:
            made, reached, reports = make_kiosk(kind), [], []
            for state in range(len(kiosk.STATES)):
                if state:
                    made.change(state)
                trace = made.folder / f"trace-{state}"
                outcome = processes.run(made.folder, TOTES_FAILPOINT_TRACE=str(trace))
                assert outcome.code == 0
                assert not outcome.failures
                made.check(state + 1)
                reached.append(Counter(trace.read_text().split()))
                reports.append(report_of(outcome))
            made.check_end()
            _undisturbed[kind] = Undisturbed(reached, reports)
        return _undisturbed[kind]

    return give


def report_of(outcome: processes.Outcome) -> dict[str, Any]:
    """What a cycle says that it did, without when and how long it took."""
    return {name: value for name, value in outcome.cycle.items() if name not in ("at", "seconds")}


def run_killed_and_again(made: Kiosk, point: str, turn: int) -> None:
    """Runs a cycle that is killed at a failpoint, and one that is not."""
    killed = processes.run(made.folder, failpoint=f"{point}:{turn}")
    assert killed.code == processes.KILLED, f"it did not die at {point}:{turn}: {killed}"
    again = processes.run(made.folder)
    assert (again.code, again.failures) == (0, {})


def test_each_failpoint_has_a_name_of_its_own() -> None:
    assert [name for name, times in Counter(failpoints()).items() if times > 1] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_failpoint_is_reached_in_the_first_batch_and_in_a_batch_of_changes(
    kind: str, undisturbed: Callable[[str], Undisturbed]
) -> None:
    first, changes = undisturbed(kind).reached[:2]
    points = [point for point in POINTS if reached_with(point, kind)]
    assert sorted(first) == points
    assert sorted(changes) == [point for point in points if point not in ONLY_FIRST]


def usual_kind(number: int) -> str:
    """Over which kind of warehouse a point is reached every day.

    The stages before it know nothing of the warehouse, so that either kind will do for them, and both have their turn.
    """
    kinds = [kind for kind in KINDS if reached_with(POINTS[number], kind)]
    return kinds[number % len(kinds)]


def lives() -> list[Any]:
    """Lives with a kill in each of their three batches, in which every point has its turn once."""
    chosen = []
    for kind in KINDS:
        points = [point for number, point in enumerate(POINTS) if usual_kind(number) == kind]
        points.sort(key=lambda point: point not in ONLY_FIRST)
        lives = -(-len(points) // 3)
        # Where there are not enough for all, some lives have two kills, and their third batch is calm.
        chosen += [(kind, tuple(points[number::lives])) for number in range(lives)]
    return chosen


def kills() -> list[Any]:
    """Every point in both batches, over each kind of warehouse, or over the only one twice at other moments."""
    chosen = []
    for number, point in enumerate(POINTS):
        kinds = [kind for kind in KINDS if reached_with(point, kind)]
        for moments_of in KINDS:
            kind = moments_of if moments_of in kinds else usual_kind(number)
            moments = MOMENTS[moments_of][:2]
            chosen.append(pytest.param(kind, point, moments, id=f"{kind}-{point}-{'-'.join(moments)}"))
    return chosen


def live_killed(made: Kiosk, calm: Undisturbed, points: tuple[str, ...], moments: tuple[str, ...]) -> None:
    """A life in which the run of each batch is killed at a point, and run again; a third that has none is calm."""
    for state, (point, moment) in enumerate(zip(points, moments, strict=False)):
        if state:
            made.change(state)
        if state and point in ONLY_FIRST:
            assert processes.run(made.folder).code == 0
        else:
            run_killed_and_again(made, point, calm.turn(state, point, moment))
        made.check(state + 1)
    if len(points) < 3:
        made.change(2)
        assert report_of(processes.run(made.folder)) == calm.reports[2]
        made.check(3)
    made.check_end()


def test_every_failpoint_has_its_turn() -> None:
    assert sorted(point for _, points in lives() for point in points) == POINTS


@pytest.mark.parametrize(
    ("kind", "points"), lives(), ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_runs_killed_at_failpoints_end_as_those_that_were_not(
    kind: str,
    points: tuple[str, ...],
    make_kiosk: Callable[..., Kiosk],
    undisturbed: Callable[[str], Undisturbed],
) -> None:
    live_killed(make_kiosk(kind), undisturbed(kind), points, MOMENTS[kind])


@pytest.mark.sweep
@pytest.mark.parametrize(("kind", "point", "moments"), kills())
def test_a_run_killed_at_a_failpoint_ends_as_one_that_was_not(
    kind: str,
    point: str,
    moments: tuple[str, str],
    make_kiosk: Callable[..., Kiosk],
    undisturbed: Callable[[str], Undisturbed],
) -> None:
    live_killed(make_kiosk(kind), undisturbed(kind), (point, point), moments)


def test_a_lake_on_s3_stands_it_to_be_killed_around_every_commit(
    make_kiosk: Callable[..., Kiosk], s3: Bucket
) -> None:
    made = make_kiosk("duckdb", s3.url("kiosk"))
    for state in range(3):
        if state:
            made.change(state)
        for failpoint in S3_KILLS[state]:
            assert processes.run(made.folder, failpoint=failpoint).code == processes.KILLED, failpoint
        assert processes.run(made.folder).failures == {}
        made.check(state + 1)
    made.check_end()


def test_the_command_itself_is_killed_and_goes_on(
    make_kiosk: Callable[..., Kiosk], totes: Callable[..., Command]
) -> None:
    made = make_kiosk("duckdb")
    for failpoint in (
        "ingest.table:2",
        "journal.commit.after:1",
        "duckdb.commit.before:1",
        "health.write.before:1",
    ):
        assert totes("run", cwd=made.folder, TOTES_FAILPOINT=failpoint).code == processes.KILLED, failpoint
    done = totes("run", cwd=made.folder)
    assert (done.code, done.err) == (0, "")
    assert totes("status", cwd=made.folder).code == 0
    made.check(1)


def test_what_a_write_that_was_cut_short_leaves_is_in_nobodys_way(
    make_kiosk: Callable[..., Kiosk], undisturbed: Callable[[str], Undisturbed]
) -> None:
    made = make_kiosk("duckdb")
    for batch in (1, 2, 3):
        if batch > 1:
            made.change(batch - 1)
        for place in ("ingestion/batches", "processed/batches", "ingestion/sale/date=2026-01-01", ".totes"):
            (made.folder / place).mkdir(parents=True, exist_ok=True)
        for store in ("ingestion", "processed"):
            cut = (
                made.folder / store / "batches" / f"{batch:012d}.json#0a1b2c3d"
            )  # the name that is written to first
            cut.write_text('{"format": 1, "bat', encoding="utf-8")
        (made.folder / f"ingestion/sale/date=2026-01-01/{batch:012d}-0001-0badcafe.jsonl.gz").write_bytes(
            b"half"
        )
        (made.folder / ".totes" / "processing.duckdb").write_bytes(b"half of a file")
        assert report_of(processes.run(made.folder)) == undisturbed("duckdb").reports[batch - 1]
        made.check(batch)
    made.check_end()
