"""Random sessions at the source and random runners, step by step beside the oracle: Hypothesis chooses the steps."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests import processes
from tests.oracle.check import check_lake, check_packets, check_warehouse
from tests.oracle.choices import MANY_WRITES, OPENING, SOME_WRITES, STAGES, WHICH, WRITES
from tests.oracle.model import Oracle, State
from tests.oracle.shop import COLUMNS, KEYS, MODELS, TABLES, Values
from tests.oracle.source import Session, Source
from tests.plain_lake import objects_of
from totes.config import load_settings
from totes.monitoring.verification import verify
from totes.pipeline import Pipeline

# What happened in all runs of this process; a suite asserts that it was not nothing.
tally: Counter[str] = Counter()

COMMON_POINTS = (
    "cache.begin", "cache.commit.before", "cache.commit.after", "store.put.before", "store.put.after", "journal.commit.before",
    "journal.commit.after", "ingest.opened", "ingest.table", "process.loaded", "process.model", "health.write.before",
)  # fmt: skip
LOAD_POINTS = ("rows", "removed", "commit.before", "commit.after")
SLEEPS = (
    "ingest.opened",
    "ingest.table",
    "journal.commit.before",
    "journal.commit.after",
    "process.loaded",
    "process.model",
)


class ShopMachine(RuleBasedStateMachine):
    """A shop whose people and runners do what they like; subclasses say where it is."""

    new_database: ClassVar[Callable[[], Any]]
    kind: ClassVar[str]
    cycle_steps: ClassVar[int] = 9
    source_parameters: ClassVar[str] = ""  # of the URL in the settings

    @initialize()
    def begin(self) -> None:
        """An empty shop, with its pipeline."""
        self.folder = Path(tempfile.mkdtemp(prefix="oracle-"))
        self.source = Source(type(self).new_database().url)
        self.oracle = Oracle()
        self.sleeper: processes.Runner | None = None
        self.steps = self.moves = self.replayed = self.verified = 0
        self.asleep_at: tuple[int, State] = (0, {})
        self.warehouse = self.new_warehouse(self.kind, "warehouse")
        for name, text in MODELS.items():
            (self.folder / "models").mkdir(exist_ok=True)
            (self.folder / "models" / f"{name}.sql").write_text(text, encoding="utf-8")
        (self.folder / "totes.toml").write_text(
            f'[project]\nname = "shop"\npath = "."\n[source]\nurl = "{self.source.url}{self.source_parameters}"\n[lake]\ncompression = "gzip"\n'
            f"checkpoints = {str(self.kind == 'duckdb').lower()}\n"  # a lost cache returns in both ways
            f'[warehouse]\nurl = "{self.warehouse}"\n',
            encoding="utf-8",
        )
        self.pipeline = Pipeline(load_settings(self.folder / "totes.toml"))
        self.trade(OPENING)

    @rule()
    def a_moment_passes(self) -> None:
        """Nothing happens. Hypothesis begins with a run of nothing but the first rule, which this one's name makes it."""

    # The people.

    @precondition(lambda self: len(self.source.sessions) < 3)
    @rule(writes=MANY_WRITES)
    def open_a_session(self, writes: list[tuple[str, Values]]) -> None:
        session = self.source.open(len(self.oracle.batches))
        for table, values in writes:
            self.write_where_free(session, table, values)

    @rule(writes=MANY_WRITES, commit=st.sampled_from([True, True, True, False]))
    def trade(self, writes: list[tuple[str, Values]], commit: bool = True) -> None:
        """A whole transaction."""
        self.moves += writes is not OPENING
        session = self.source.open()
        for table, values in writes:
            self.write_where_free(session, table, values)
        self.source.close(session, commit=commit)

    @precondition(lambda self: self.source.sessions)
    @rule(which=WHICH, writes=MANY_WRITES)
    def write(self, which: int, writes: list[tuple[str, Values]]) -> None:
        for table, values in writes:
            self.write_where_free(self.session(which), table, values)

    @rule(which=WHICH, table=st.sampled_from(TABLES), row=WHICH)
    def delete(self, which: int, table: str, row: int) -> None:
        with_session = self.session(which) if self.source.sessions and which % 2 else None
        session = with_session or self.source.open()
        rows = self.rows_in_reach(session, table)
        if rows:
            session.delete(table, rows[row % len(rows)])
            tally["deletes"] += 1
            self.moves += 1
        if not with_session:
            self.source.close(session, commit=True)

    @rule(which=WHICH, write=WRITES, row=WHICH)
    def change_a_key(self, which: int, write: tuple[str, Values], row: int) -> None:
        table, values = write
        key = values[: KEYS[table]]
        with_session = self.session(which) if self.source.sessions and which % 2 else None
        session = with_session or self.source.open()
        rows = self.rows_in_reach(session, table)
        if rows and session.row(table, key) is None and self.source.is_free(table, key, session):
            session.change_key(table, rows[row % len(rows)], key)
            tally["changed keys"] += 1
            self.moves += 1
        if not with_session:
            self.source.close(session, commit=True)

    @precondition(lambda self: self.source.sessions)
    @rule(which=WHICH)
    def set_a_savepoint(self, which: int) -> None:
        self.session(which).savepoint()

    @precondition(lambda self: any(session.savepoints for session in self.source.sessions))
    @rule(which=WHICH)
    def roll_back_to_a_savepoint(self, which: int) -> None:
        having = [session for session in self.source.sessions if session.savepoints]
        having[which % len(having)].roll_back_to_savepoint()
        tally["savepoints rolled back"] += 1

    @precondition(lambda self: self.source.sessions)
    @rule(which=WHICH, commit=st.sampled_from([True, True, False]))
    def end_a_session(self, which: int, commit: bool) -> None:
        session = self.session(which)
        tally["late commits"] += (
            commit and bool(session.held) and session.opened_at < len(self.oracle.batches)
        )
        self.source.close(session, commit=commit)

    @precondition(lambda self: not self.sleeper)
    @rule(table=st.sampled_from(TABLES), back=st.booleans())
    def truncate(self, table: str, back: bool) -> None:
        if not self.source.is_untouched(table) or self.is_left_to_the_sleeper():
            return
        rows = dict(self.source.committed[table])
        session = self.source.open()
        session.truncate(table, list(rows))
        for row in rows.values() if back else ():
            session.write(table, row.values)
        self.source.close(session, commit=True)
        tally["truncated"] += 1
        self.moves += 1

    # The runners.

    @rule(writes=SOME_WRITES, only=STAGES, apart=st.booleans())
    def run(self, writes: list[tuple[str, Values]], only: str | None, apart: bool) -> None:
        """A cycle, or one stage, in this process or in one of its own."""
        self.trade(writes)
        before, left = deepcopy(self.source.committed), self.is_left_to_the_sleeper()
        if apart:
            outcome = processes.run(self.folder, only)
            assert (outcome.code, outcome.failures) == (0, {}), outcome
            report = outcome.cycle
        else:
            cycle = self.pipeline.run(only)
            assert cycle.failures == {}, cycle.failures
            report = cycle.as_json()
        tally["runs"] += 1
        self.after_a_run(only, report, before, left=left)

    @rule(
        writes=SOME_WRITES,
        point=st.sampled_from([*COMMON_POINTS, *LOAD_POINTS]),
        turn=st.sampled_from([1, 1, 2, 3, 7]),
    )
    def crash(self, writes: list[tuple[str, Values]], point: str, turn: int) -> None:
        """A cycle that is killed at a failpoint, if it gets there."""
        self.trade(writes)
        name = f"{self.kind}.{point}" if point in LOAD_POINTS else point
        outcome = processes.run(self.folder, failpoint=f"{name}:{turn}")
        assert outcome.failures == {}, outcome
        assert outcome.code in (0, processes.KILLED), outcome
        tally["crashes"] += outcome.code == processes.KILLED
        self.learn()

    @rule(
        writes=SOME_WRITES, runners=st.integers(2, 3), one_cache=st.booleans(), point=st.sampled_from(["", *COMMON_POINTS])
    )  # fmt: skip
    def race(self, writes: list[tuple[str, Values]], runners: int, one_cache: bool, point: str) -> None:
        """Several runners at once, of which one may be killed."""
        self.trade(writes)
        started = [
            processes.Runner(
                self.folder,
                failpoint=f"{point}:2" if point and number == 0 else "",
                environment={} if one_cache else {"TOTES_LAKE__CACHE": str(self.folder / f"cache-{number}")},
            )
            for number in range(runners)
        ]
        outcomes = [runner.wait() for runner in started]
        assert not any(outcome.failures for outcome in outcomes), outcomes
        made = [outcome.cycle["batch"] for outcome in outcomes if outcome.cycle.get("batch")]
        assert len(made) == len(set(made))
        tally["races"] += 1
        self.learn()

    @invariant()
    def the_schedule(self) -> None:
        """Now and then a cycle comes by itself: Hypothesis leaves out some of the rules in each machine."""
        self.steps += 1
        if self.moves and self.steps % self.cycle_steps == 0:
            self.run([], None, apart=False)

    @precondition(lambda self: not self.sleeper)
    @rule(writes=SOME_WRITES, point=st.sampled_from(SLEEPS), turn=st.sampled_from([1, 1, 2]))
    def fall_asleep(self, writes: list[tuple[str, Values]], point: str, turn: int) -> None:
        """A runner on another machine stops in the middle of its work, for long."""
        self.trade(writes)
        runner = processes.Runner(
            self.folder,
            failpoint=f"{point}:{turn}=stop",
            environment={"TOTES_LAKE__CACHE": str(self.folder / "elsewhere")},
        )
        state = deepcopy(self.source.committed)
        if runner.wait_until_stopped():
            tally["slept"] += 1
            self.sleeper = runner
        else:
            outcome = runner.wait()
            assert outcome.failures == {}, outcome
        self.learn()
        self.asleep_at = (len(self.oracle.batches), state)

    @precondition(lambda self: self.sleeper)
    @rule(dies=st.sampled_from([False, False, True]))
    def wake(self, dies: bool) -> None:
        """The sleeper goes on where it was, unless it is ended in its sleep."""
        assert self.sleeper
        runner, self.sleeper = self.sleeper, None
        if dies:
            runner.end()
        else:
            runner.wake()
            outcome = runner.wait()
            assert outcome.failures == {}, outcome
        batches, state = self.asleep_at
        self.learn(state if len(self.oracle.batches) == batches else None)

    @rule(stage=st.sampled_from(["", "ingestion", "processing"]))
    def lose_a_cache(self, stage: str) -> None:
        if stage:
            (self.folder / ".totes" / f"{stage}.duckdb").unlink(missing_ok=True)
        else:
            shutil.rmtree(self.folder / ".totes", ignore_errors=True)
        tally["caches lost"] += 1

    @precondition(lambda self: self.replayed < len(self.oracle.batches))
    @rule(kind=st.sampled_from(["duckdb", "duckdb", "postgresql"]))
    def replay(self, kind: str) -> None:
        """All that was processed, loaded into a fresh warehouse, is what the oracle says."""
        url = self.new_warehouse(kind, f"replay-{tally['replays']}")
        self.pipeline.replay(url)
        assert check_warehouse(url, self.oracle) == self.count("processed")
        tally["replays"] += 1
        self.replayed = len(self.oracle.batches)

    @precondition(lambda self: self.verified < len(self.oracle.batches) and not self.is_left_to_the_sleeper())
    @rule()
    def verify(self) -> None:
        """`totes verify` captures what is new, and finds nothing that the oracle does not know of."""
        verdict = verify(self.pipeline, (), 1.0, lambda _: None)
        self.learn()
        for name, table in verdict.tables.items():
            assert (table.missing, table.different, table.broken, table.extra) == (0, 0, 0, 0), (
                f"{name}: {table}"
            )
        tally["verified"] += 1
        self.verified = len(self.oracle.batches)

    def teardown(self) -> None:
        """The sessions end, a last cycle takes all in, and everything is compared once more."""
        if not hasattr(self, "pipeline"):
            return
        try:
            if sys.exc_info()[0] is None and self.moves:
                if self.sleeper:
                    self.wake(dies=False)
                for number, session in enumerate(list(self.source.sessions)):
                    self.source.close(session, commit=number % 2 == 0)
                self.run([], None, apart=True)
                if self.oracle.batches:
                    self.verify()
                check_lake(self.folder, self.oracle, self.source.url, is_complete=True)
                tally["quarantined"] += sum(
                    len(keys) for batch in self.oracle.batches for keys in batch.quarantine.values()
                )
                tally["versions"] += sum(map(len, self.oracle.versions.values()))
                tally["batches"] += len(self.oracle.batches)
        finally:
            if self.sleeper:
                self.sleeper.end()
            for session in list(self.source.sessions):
                self.source.close(session, commit=False)
            shutil.rmtree(self.folder, ignore_errors=True)

    # What the rules have in common.

    def session(self, which: int) -> Session:
        return self.source.sessions[which % len(self.source.sessions)]

    def write_where_free(self, session: Session, table: str, values: Values) -> None:
        key = values[: KEYS[table]]
        if not self.source.is_free(table, key, session):
            return
        row = session.row(table, key)
        if len(values) == len(COLUMNS[table]):
            session.write(table, values)
        elif row and key == values:
            session.delete(table, key)
            tally["deletes"] += 1
        elif row:
            session.write(table, (*row.values[:3], values[2], *row.values[4:]))

    def rows_in_reach(self, session: Session, table: str) -> list[Any]:
        """The keys of rows that the session sees, and that no other one has changed."""
        seen = self.source.committed[table].keys() | {key for held, key in session.held if held == table}
        return sorted(k for k in seen if session.row(table, k) and self.source.is_free(table, k, session))

    def new_warehouse(self, kind: str, name: str) -> str:
        return f"duckdb:///{self.folder}/{name}.duckdb" if kind == "duckdb" else type(self).new_database().url

    def count(self, store: str) -> int:
        return len(list((self.folder / "lake" / store / "batches").glob("*.json")))

    def is_left_to_the_sleeper(self) -> bool:
        """Whether a sleeper is at work on the source, which the other runners then leave to it."""
        return self.sleeper is not None and self.source.is_being_captured()

    def after_a_run(self, only: str | None, report: dict[str, Any], state: State, *, left: bool) -> None:
        before, had_news = len(self.oracle.batches), self.oracle.has_news(state)
        self.learn()
        grown = len(self.oracle.batches) - before
        assert grown == (had_news and only in (None, "ingest") and not left)
        assert report["batch"] == (len(self.oracle.batches) if grown else None)
        if only in (None, "process"):
            assert self.count("processed") == len(self.oracle.batches)
        if only in (None, "load"):
            assert check_warehouse(self.warehouse, self.oracle) == self.count("processed")

    def learn(self, state: State | None = None) -> None:
        """Tells the oracle of a batch that has come, of which the state is the committed one unless another is given."""
        batches = self.count("ingestion")
        if batches == len(self.oracle.batches):
            return
        if state is not None and batches > len(self.oracle.batches) + 1:
            raise AssertionError("a runner made several batches")
        assert batches == len(self.oracle.batches) + 1
        state = self.source.committed if state is None else state
        assert self.oracle.has_news(state), "a batch without anything new"
        content = (self.folder / f"lake/ingestion/batches/{batches:012d}.json").read_text(encoding="utf-8")
        manifest = json.loads(content)
        expected = self.oracle.batch(state, datetime.fromisoformat(manifest["position"]["read_at"]))
        check_packets(objects_of(str(self.folder / "lake" / "ingestion")), manifest, expected)
