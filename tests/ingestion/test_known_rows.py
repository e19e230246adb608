"""What is known of captured rows, and what of present ones is new, gone or double: in the cache itself, without a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from totes.errors import SourceRefused
from totes.ingestion.catalog import SourceTable, TableColumn
from totes.ingestion.content import digest_of
from totes.ingestion.known import KnownRows
from totes.lake.cache import Cache
from totes.lake.journal import Journal, ingestion_journal
from totes.lake.manifest import IngestionManifest, Position, SourceColumn
from totes.lake.store import Store
from totes.lake.workspace import Workspace


def column(name: str, number: int, kind: str) -> TableColumn:
    form: Any = "integer" if kind == "bigint" else "text"
    return TableColumn(SourceColumn(name=name, number=number, type=kind, kind=form, nullable=True), name)


# The key stands in another order than the columns: k0 is the column c2, k1 is c0.
TABLE = SourceTable(
    schema="s", name="t", has_transaction_ids=True, lockable=True, key=("b", "a"), key_enforced=False,
    columns=(column("a", 1, "bigint"), column("v", 2, "text"), column("b", 3, "text")), changed_at=None, relation=1,
    partitions=(),
)  # fmt: skip
ROWS = [(1, "one", "x", 10), (2, "two", "x", 10), (1, "three", "y", 11), (3, None, None, 12)]


class Bench:
    """An open cache with what is known, and tables of rows beside it."""

    def __init__(self, cache: Cache, journal: Journal[IngestionManifest]) -> None:
        self.cache, self.journal, self.known = cache, journal, KnownRows(cache, journal)
        self._tables = 0

    def read(self, *rows: tuple[Any, ...]) -> str:
        """A table of rows as they are read: c0, c1, c2 and the mark."""
        return self.table("c0 BIGINT, c1 VARCHAR, c2 VARCHAR, mark BIGINT", rows)

    def gone(self, *keys: tuple[Any, ...]) -> str:
        """A table of keys."""
        return self.table("k0 VARCHAR, k1 BIGINT", keys)

    def learn(self, *rows: tuple[Any, ...], gone: str | None = None, table: SourceTable = TABLE) -> None:
        self.known.learn(table, [self.read(*rows)] if rows else [], gone, [])

    def rows(self, relation: str) -> list[tuple[Any, ...]]:
        return sorted(self.cache.engine.execute(f"FROM {relation}").fetchall(), key=str)

    def table(self, columns: str, rows: tuple[tuple[Any, ...], ...]) -> str:
        self._tables += 1
        name = f"made_{self._tables}"
        self.cache.engine.execute(f"CREATE TEMP TABLE {name} ({columns})")
        for row in rows:
            self.cache.engine.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row))
        return name


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A cache that knows nothing yet."""
    journal = ingestion_journal(Store.open("lake", tmp_path))
    with (
        Workspace.open(tmp_path / "cache", "200MB") as workspace,
        Cache.open(workspace, "ingestion", journal) as cache,
    ):
        yield Bench(cache, journal)


def test_what_is_learnt_is_known_by_key_and_mark(bench: Bench) -> None:
    assert (bench.known.captured(TABLE), bench.known.rows(TABLE)) == (False, 0)
    bench.learn(*ROWS)
    assert (bench.known.captured(TABLE), bench.known.rows(TABLE)) == (True, 4)
    assert not bench.known.captured(replace(TABLE, name="T"))  # names are compared as PostgreSQL does
    assert bench.known.unknown(TABLE, [bench.read(*ROWS)], (), "same") == (0, 0)


def test_rows_with_another_mark_are_unknown_and_of_these_some_have_a_new_key(bench: Bench) -> None:
    bench.learn(*ROWS)
    changed, moved, same = (1, "one", "x", 13), (1, "one", "z", 10), (2, "two", "x", 10)
    without_key = (3, None, None, 13)
    first, second = bench.read(changed, same), bench.read(moved, without_key)
    assert bench.known.unknown(TABLE, [first, second], (), "new") == (3, 1)
    assert bench.rows("new") == sorted([(*changed, False), (*moved, True), (*without_key, False)], key=str)


def test_rows_with_a_value_in_an_added_column_are_unknown(bench: Bench) -> None:
    bench.learn(*ROWS)
    assert bench.known.unknown(TABLE, [bench.read(*ROWS)], (1,), "widened") == (3, 0)
    assert [row[1] for row in bench.rows("widened")] == ["one", "three", "two"]


def test_rows_are_added_by_their_keys(bench: Bench) -> None:
    present = bench.gone(("x", 1), ("x", 9), (None, 3))
    assert bench.known.added(TABLE, present, 3) == 3
    bench.learn(*ROWS)
    assert bench.known.added(TABLE, present, 3) == 1


def test_known_keys_that_are_not_there_are_gone(bench: Bench) -> None:
    bench.learn(*ROWS)
    present = bench.gone(("x", 1), ("y", 2), (None, 3))
    assert bench.rows(bench.known.find_deleted(TABLE, present, "missing")) == [("x", 2), ("y", 1)]


def test_what_is_learnt_anew_takes_the_place_of_what_was_known(bench: Bench) -> None:
    bench.learn(*ROWS)
    bench.learn((1, "uno", "x", 20), (4, "four", "x", 20), gone=bench.gone(("x", 2), (None, 3), ("none", 1)))
    assert bench.known.rows(TABLE) == 3
    assert bench.known.unknown(
        TABLE, [bench.read((1, "", "x", 20), (4, "", "x", 20), (1, "", "y", 11))], (), "n"
    ) == (0, 0)
    bench.known.learn(TABLE, [], None, [bench.table("k0 VARCHAR, k1 BIGINT, mark BIGINT", (("x", 1, 30),))])
    assert bench.known.rows(TABLE) == 3
    assert bench.known.unknown(TABLE, [bench.read((1, "", "x", 30))], (), "remarked") == (0, 0)


def test_rows_that_are_marked_in_another_way_replace_all_that_was_known(bench: Bench) -> None:
    bench.learn(*ROWS)
    digests = bench.table("c0 BIGINT, c1 VARCHAR, c2 VARCHAR, mark VARCHAR", ((1, "one", "x", "digest"),))
    bench.known.learn(TABLE, [digests], None, [])
    assert bench.known.rows(TABLE) == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, "again", "x", 1), r"s\.t has several rows with the same b, a"),
        ((5, "no key", None, 1), r"s\.t has rows without a value in b, a"),
        ((None, "no key", "z", 1), r"s\.t has rows without a value in b, a"),
    ],
)
def test_a_key_that_does_not_identify_rows_is_refused(
    bench: Bench, row: tuple[Any, ...], message: str
) -> None:
    good = bench.read((1, "one", "x", 1), (2, "two", "x", 1), (1, "three", "y", 1))
    bench.known.check_unique(TABLE, [good])
    with pytest.raises(SourceRefused, match=message):
        bench.known.check_unique(TABLE, [good, bench.read(row)])


def test_rows_are_compared_by_content_where_marks_say_nothing(bench: Bench) -> None:
    bench.learn(*ROWS)
    names = iter(["status", "target", "remarked"])
    digests = "(SELECT c2 AS k0, c0 AS k1, " + digest_of(TABLE) + f" AS digest FROM {bench.read(*ROWS)})"
    changed, remarked, new, same = (
        (1, "uno", "x", 10),
        (2, "two", "x", 77),
        (9, "nine", "x", 5),
        (1, "three", "y", 11),
    )
    found, added, again = bench.known.differing(
        TABLE, [bench.read(changed, remarked), bench.read(new, same)], digests, lambda _: next(names)
    )
    assert bench.rows(found.name) == sorted([changed, new], key=str)
    assert (found.count, added) == (2, 1)
    assert bench.rows(again.name) == [("x", 2, 77)]
    assert again.count == 1


def test_a_position_at_which_nothing_was_new_serves_until_the_next_batch(bench: Bench) -> None:
    position = Position(
        system_identifier="1", timeline=1, database="d", horizon=5, next_transaction=6,
        read_at=datetime(2024, 11, 26, 12, tzinfo=UTC),
    )  # fmt: skip
    assert bench.known.looked_through() is None
    bench.known.note_looked_through(position)
    bench.known.note_looked_through(position.model_copy(update={"horizon": 7}))
    again = KnownRows(bench.cache, bench.journal)  # as the next run has it
    assert again.looked_through() == position.model_copy(update={"horizon": 7})
    bench.cache.begin()
    bench.cache.commit(1, "digest")
    assert again.looked_through() is None
