"""What a table's present shape says of rows that were captured under another: pure, over shapes made by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from totes.config import SourceSettings
from totes.errors import SourceRefused
from totes.ingestion.capture import advance_clock, changed_at_expression, check_shape, may_be_new
from totes.ingestion.catalog import SourceTable, TableColumn, _wanted
from totes.lake.manifest import Position, SourceColumn, TableChanges

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)


def column(name: str, number: int, kind: str = "text", labels: tuple[str, ...] = ()) -> TableColumn:
    form: Literal["integer", "text"] = "integer" if kind in ("integer", "bigint") else "text"
    entry = SourceColumn(name=name, number=number, type=kind, kind=form, nullable=True, labels=labels)
    return TableColumn(entry, f'"{name}"::text')


ID, NAME, STATE = column("id", 1, "integer"), column("name", 2), column("state", 3, "state", ("new", "paid"))
TABLE = SourceTable(
    schema="public", name="t", has_transaction_ids=True, lockable=True, key=("id",), key_enforced=True,
    columns=(ID, NAME, STATE), changed_at=None, relation=500, partitions=(),
)  # fmt: skip
BEFORE = TABLE.description()


def shaped(**changes: Any) -> SourceTable:
    return replace(TABLE, **changes)


@pytest.mark.parametrize(
    ("table", "added", "why"),
    [
        (TABLE, (), None),
        (shaped(columns=(ID, NAME)), (), None),
        (shaped(columns=(ID, NAME, STATE, column("more", 4))), (3,), None),
        (shaped(columns=(column("more", 4), ID, column("and", 5), NAME, STATE)), (0, 2), None),
        (shaped(relation=501), (), "another table has its name now"),
        (shaped(columns=(ID, column("title", 2), STATE)), (1,), "columns were renamed or replaced"),
        (shaped(columns=(ID, column("name", 4), STATE)), (), "columns were renamed or replaced"),
        (shaped(columns=(ID, NAME, column("state", 3, "state", ("paid", "new")))), (), "labels of an enum were renamed"),
        (shaped(columns=(ID, NAME, column("state", 3, "state", ("new", "settled")))), (), "labels of an enum were renamed"),
        (shaped(columns=(ID, NAME, column("state", 3, "state", ("new", "due", "paid", "lost")))), (), None),
        (shaped(columns=(ID, NAME, STATE, column("other", 4, "state", ("x",)))), (3,), None),
        (shaped(has_transaction_ids=False), (), "its rows have another kind of mark"),
        (shaped(columns=(column("id", 1, "bigint"), NAME, STATE)), (), None),  # the lake's numbers have no width
    ],
)  # fmt: skip
def test_columns_are_added_or_all_is_captured_again(
    table: SourceTable, added: tuple[int, ...], why: str | None
) -> None:
    assert check_shape(BEFORE, table) == (added, why)


def test_rows_that_are_told_apart_by_content_are_seen_whatever_the_table_is() -> None:
    view = shaped(has_transaction_ids=False, relation=501, columns=(ID, column("title", 2), STATE))
    before = shaped(has_transaction_ids=False).description()
    assert check_shape(before, view) == ((1,), None)


def test_a_table_of_which_the_number_was_not_noted_is_taken_for_the_same() -> None:
    assert check_shape(BEFORE.model_copy(update={"relation": 0}), TABLE) == ((), None)


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [("integer", "bigint", True), ("text", "character varying(9)", True), ("character varying(3)", "text", True),
     ("integer", "text", False), ("text", "uuid", False), ("date", "timestamp without time zone", False),
     ("numeric(5,2)", "numeric(5,2)", True)],
)  # fmt: skip
def test_a_key_may_change_its_type_as_far_as_its_values_look_the_same(
    before: str, now: str, same: bool
) -> None:
    then = shaped(columns=(column("id", 1, before), NAME, STATE)).description()
    table = shaped(columns=(column("id", 1, now), NAME, STATE))
    if same:
        assert check_shape(then, table) == ((), None)
    else:
        with pytest.raises(
            SourceRefused, match=rf"the key column id of public\.t was a {before} and is a {now}"
        ):
            check_shape(then, table)


def test_another_key_is_refused() -> None:
    with pytest.raises(SourceRefused, match=r"the key of public\.t was \(id\) and is \(id, name\)"):
        check_shape(BEFORE, shaped(key=("id", "name")))


@pytest.mark.parametrize(
    ("recent", "before", "partitions", "added", "condition"),
    [
        (None, {}, (), (), None),
        ("xmin > 5", {}, (), (), "(xmin > 5)"),
        (None, {"partitions": (7, 8)}, (7, 8), (), None),
        (None, {"partitions": (7, 8)}, (8,), (), None),
        ("x", {"partitions": (7,)}, (9, 7, 8), (), "(x) OR tableoid IN (8, 9)"),
        (None, {"partitions": (7,), "relation": 0}, (8,), (), None),
        ("x", {}, (), (1,), '(x) OR "name" IS DISTINCT FROM NULL'),
        (None, {"partitions": ()}, (8,), (1, 2),
         'tableoid IN (8) OR "name" IS DISTINCT FROM NULL OR "state" IS DISTINCT FROM NULL'),
    ],
)  # fmt: skip
def test_rows_may_be_new_that_no_transaction_has_written_since(
    recent: str | None,
    before: dict[str, Any],
    partitions: tuple[int, ...],
    added: tuple[int, ...],
    condition: str | None,
) -> None:
    then: TableChanges = BEFORE.model_copy(update=before)
    assert may_be_new(recent, then, shaped(partitions=partitions), added) == condition


def test_a_batch_is_read_later_than_the_one_before_it_whatever_the_clock_says() -> None:
    before = Position(
        system_identifier="1", timeline=1, database="d", horizon=1, next_transaction=1, read_at=NOON
    )

    def read_at(moment: datetime) -> datetime:
        return advance_clock(before, before.model_copy(update={"read_at": moment})).read_at

    assert advance_clock(None, before) == before
    assert read_at(NOON + timedelta(microseconds=1)) == NOON + timedelta(microseconds=1)
    assert read_at(NOON) == NOON + timedelta(microseconds=1)
    assert read_at(NOON - timedelta(days=1)) == NOON + timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("table", "kind", "wanted"),
    [("orders", "r", True), ("orders", "p", True), ("orders", "v", False), ("orders", "f", False), ("orders", "m", False),
     ("order_log", "r", False), ("audit", "r", False), ("seen", "v", True), ("seen", "r", True)],
)  # fmt: skip
def test_tables_are_captured_by_their_names_and_others_only_where_they_are_named(
    table: str, kind: str, wanted: bool
) -> None:
    source = SourceSettings(url="postgresql://h/d", tables=["order*"], exclude=["*_log"])  # type: ignore[arg-type]
    assert _wanted(table, kind, source, {"seen"}) == wanted


def test_without_a_time_of_its_own_a_row_was_changed_when_it_was_read() -> None:
    assert changed_at_expression(TABLE, "2024-11-26T12:00:00") == "'2024-11-26T12:00:00'"
