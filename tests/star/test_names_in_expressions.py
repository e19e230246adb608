"""Which names of an expression are columns: an arrow is a lambda where a function takes one, and reaches into JSON elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.star.model_file import parse_model


def names(expression: str, folder: Path) -> list[str]:
    file = folder / "x.sql"
    file.write_text(
        f"CREATE TABLE x (a INTEGER PRIMARY KEY, v VARCHAR) AS SELECT a, {expression} AS v FROM t"
    )
    return sorted(".".join(name.parts) for name in parse_model(file).names)


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("j -> k", ["j", "k"]),
        ("upper(j ->> k)", ["j", "k"]),
        ("coalesce(t.j -> 'k', m)", ["m", "t.j"]),
        ("list_transform(l, one -> one + b)", ["b", "l"]),
        ("list_transform(l, lambda one: one + b)", ["b", "l"]),
        ("list_filter(l, ONE -> one > 1)", ["l"]),
        ("list_transform(l, one -> list_filter(m, other -> other > one))", ["l", "m"]),
        ("list_transform(l, (one, place) -> one + place + c)", ["c", "l"]),
        ("list_transform((j -> 'k')::INTEGER[], one -> one)", ["j"]),
        ("list_transform(l, one -> one) || one", ["l", "one"]),
        ("CASE WHEN b THEN c ELSE d END", ["b", "c", "d"]),
    ],
)
def test_a_parameter_of_a_lambda_is_no_column(expression: str, columns: list[str], tmp_path: Path) -> None:
    assert names(expression, tmp_path) == sorted(["a", *columns])


def test_names_are_lower_case_unless_they_are_quoted(tmp_path: Path) -> None:
    file = tmp_path / "x.sql"
    file.write_text(
        'CREATE TABLE Dim_X (Id INTEGER PRIMARY KEY, "Two Words" VARCHAR, "UP" VARCHAR REFERENCES Dim_Y) AS'
        ' SELECT Id, B AS "Two Words", "UP" FROM Source'
    )
    model = parse_model(file)
    assert (model.name, model.primary_key, model.references) == ("dim_x", ("id",), {"UP": "dim_y"})
    assert [column.name for column in model.columns] == ["id", "Two Words", "UP"]
