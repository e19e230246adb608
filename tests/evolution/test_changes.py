"""What counts as which change of a model, and what it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from totes.lake.manifest import ModelChanges
from totes.star.change import ModelChange, changes_of, holds
from totes.star.column import Column
from totes.star.project import Project, load_project

DIM = "CREATE TABLE dim_c (id {id} PRIMARY KEY, name {name}) AS SELECT id, name FROM c{rest}"
FACT = """CREATE TABLE fact_o (r BIGINT PRIMARY KEY, id INTEGER NOT NULL, c INTEGER{refers}, n {n}{more}) AS
    SELECT id, c, n{values} FROM o"""


def project(folder: Path, number: int, **changed: str) -> Project:
    """A project of two tables, with parts of them changed."""
    parts = {"id": "INTEGER", "name": "VARCHAR", "rest": "", "refers": " REFERENCES dim_c", "n": "NUMERIC(6,2)", "more": "",
             "values": ""} | changed  # fmt: skip
    models = folder / str(number) / "models"
    models.mkdir(parents=True)
    (models / "dim_c.sql").write_text(DIM.format(**parts))
    (models / "fact_o.sql").write_text(FACT.format(**parts))
    return load_project("p", folder / str(number))


def entries(of: Project) -> dict[str, ModelChanges]:
    """The tables of a project as a manifest has them."""
    return {
        model.name: ModelChanges(
            kind="versioned" if model.versioned else "latest",
            table_sha256=model.table_sha256(),
            query_sha256=model.query_sha256({}),
            columns=model.output,
            key=("id",),
            surrogate=model.surrogate,
            soft_deletes=model.soft_deletes,
            since=1,
        )
        for model in of.models
    }


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {}),
        ({"more": ", d DATE", "values": ", d"}, {"fact_o": {"kind": "columns", "added": ("d",)}}),
        ({"n": "NUMERIC(9,3)"}, {"fact_o": {"kind": "columns", "retyped": {"n": ("DECIMAL(6, 2)", "DECIMAL(9, 3)")}, "loses": ()}}),
        ({"n": "NUMERIC(9,1)"}, {"fact_o": {"kind": "columns", "loses": ("values of n that DECIMAL(9, 1) does not hold",)}}),
        ({"n": "NUMERIC(6,2) NOT NULL"}, {"fact_o": {"kind": "columns", "loses": ("rows in which n is NULL",)}}),
        ({"rest": " WHERE id > 3"}, {"dim_c": {"kind": "query", "loses": (), "referrers": ("fact_o",)}}),
        ({"rest": " LEFT JOIN d USING (id)"}, {"dim_c": {"kind": "query", "referrers": ()}}),
        # That nobody refers to it any more lets rows that are gone go.
        ({"refers": ""}, {"dim_c": {"kind": "columns", "loses": ("the rows marked is_deleted",)}, "fact_o": {"kind": "columns", "loses": ()}}),
    ],
)  # fmt: skip
def test_a_change_is_told_with_what_it_loses(
    changed: dict[str, str], expected: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    before, now = project(tmp_path, 1), project(tmp_path, 2, **changed)
    found = changes_of(now, entries(before), before.model)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        for part, value in values.items():
            assert getattr(found[name], part) == value, (name, part)


def test_a_column_is_renamed_where_its_model_says_what_it_was(tmp_path: Path) -> None:
    before = project(tmp_path, 1)
    now = project(tmp_path, 2, name="VARCHAR", rest="")
    file = tmp_path / "2" / "models" / "dim_c.sql"
    file.write_text(
        "CREATE TABLE dim_c (id INTEGER PRIMARY KEY,\n label VARCHAR -- was: name\n) AS SELECT id, name AS label FROM c"
    )
    now = load_project("p", tmp_path / "2")
    [change] = changes_of(now, entries(before), before.model).values()
    assert (change.renamed, change.added, change.dropped, change.loses) == ({"label": "name"}, (), (), ())
    assert changes_of(now, entries(now), now.model) == {}


def test_a_table_whose_model_has_gone_and_one_of_another_kind_lose_something(tmp_path: Path) -> None:
    before = project(tmp_path, 1)
    (tmp_path / "1" / "models" / "fact_o.sql").write_text(
        "CREATE TABLE fact_o (id INTEGER PRIMARY KEY, n NUMERIC(6,2)) AS SELECT id, n FROM o"
    )
    (tmp_path / "1" / "models" / "dim_c.sql").unlink()
    found: dict[str, ModelChange] = changes_of(load_project("p", tmp_path / "1"), entries(before))
    assert {name: change.kind for name, change in found.items()} == {"fact_o": "key", "dim_c": "removed"}
    assert "every version but the newest" in found["fact_o"].loses
    assert found["dim_c"].loses == ("the table dim_c",)


def column(kind: str, *, unbounded: bool = False, length_max: int | None = None) -> Column:
    return Column("v", kind, not_null=False, unbounded=unbounded, length_max=length_max)


WIDEST = column("DECIMAL(38, 10)", unbounded=True)


@pytest.mark.parametrize(
    ("then", "now", "held"),
    [
        (column("SMALLINT"), column("INTEGER"), True), (column("BIGINT"), column("INTEGER"), False),
        (column("INTEGER"), column("DECIMAL(10, 0)"), True), (column("INTEGER"), column("DECIMAL(11, 2)"), False),
        (column("DECIMAL(5, 0)"), column("INTEGER"), False), (column("BIGINT"), WIDEST, True),
        (column("DECIMAL(5, 2)"), column("DECIMAL(6, 3)"), True), (column("DECIMAL(5, 2)"), column("DECIMAL(5, 3)"), False),
        (column("DECIMAL(5, 2)"), column("DECIMAL(9, 1)"), False), (column("DECIMAL(12, 11)"), WIDEST, False),
        (column("DECIMAL(38, 10)"), WIDEST, True), (WIDEST, column("DECIMAL(38, 10)"), False),
        (column("FLOAT"), column("DOUBLE"), True), (column("DOUBLE"), column("FLOAT"), False),
        (column("INTEGER"), column("DOUBLE"), False), (column("DATE"), column("TIMESTAMP"), False),
        (column("VARCHAR", length_max=3), column("VARCHAR"), True), (column("VARCHAR"), column("VARCHAR", length_max=3), False),
        (column("VARCHAR", length_max=3), column("VARCHAR", length_max=2), False), (column("INTEGER"), column("VARCHAR"), False),
        (column("JSON"), column("JSON"), True),
    ],
)  # fmt: skip
def test_a_type_is_wider_when_it_holds_each_value_as_it_is(then: Column, now: Column, held: bool) -> None:
    assert holds(now, then) is held
