"""Which values a declared type may not hold, at each width, and the small rules of `doctor`: pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.lake.manifest import SourceColumn
from totes.monitoring.diagnosis.settings import existing, size_bytes
from totes.monitoring.diagnosis.tables import _unused
from totes.monitoring.diagnosis.values import misfit
from totes.star.column import Column


def doubt(source: str, declared: str, *, nullable: bool = False, **more: object) -> str | None:
    kind = "integer" if source in ("smallint", "integer", "bigint") else "text"
    column = SourceColumn(name="s", number=1, kind=kind, type=source, nullable=nullable)  # type: ignore[arg-type]
    values = {
        "not_null": False,
        "unbounded": False,
        "length_max": None,
        "references": None,
        "description": None,
    } | more
    return misfit(column, Column("d", declared, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "held", "not_held"),
    [
        ("smallint", ["SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL(5, 0)", "DECIMAL(7, 2)", "VARCHAR"],
         ["TINYINT", "DECIMAL(4, 0)", "DECIMAL(6, 2)"]),
        ("integer", ["INTEGER", "BIGINT", "DOUBLE", "DECIMAL(10, 0)", "DECIMAL(12, 2)"],
         ["SMALLINT", "FLOAT", "DECIMAL(9, 0)", "DECIMAL(11, 2)"]),
        ("bigint", ["BIGINT", "DECIMAL(19, 0)", "DECIMAL(38, 10)"], ["INTEGER", "DOUBLE", "DECIMAL(18, 0)"]),
        ("numeric(4,0)", ["SMALLINT", "INTEGER", "DECIMAL(4, 0)", "DECIMAL(6, 2)"], ["TINYINT", "DECIMAL(5, 2)", "DOUBLE"]),
        ("numeric(5,0)", ["INTEGER"], ["SMALLINT"]),
        ("numeric(9,0)", ["INTEGER"], ["SMALLINT"]), ("numeric(10,0)", ["BIGINT"], ["INTEGER"]),
        ("numeric(18,0)", ["BIGINT"], ["INTEGER"]), ("numeric(19,0)", ["DECIMAL(19, 0)"], ["BIGINT"]),
        ("numeric(10,2)", ["DECIMAL(10, 2)", "DECIMAL(11, 3)"], ["DECIMAL(10, 3)", "DECIMAL(12, 1)", "INTEGER", "FLOAT"]),
        ("numeric", ["VARCHAR"], ["DECIMAL(38, 10)", "BIGINT"]),
        ("real", ["FLOAT", "DOUBLE"], ["DECIMAL(38, 10)", "INTEGER"]),
        ("double precision", ["DOUBLE"], ["FLOAT", "DECIMAL(38, 10)"]),
        ("inet", ["VARCHAR"], ["DATE", "INTEGER"]), ("date", ["DATE", "VARCHAR"], []),
    ],
)  # fmt: skip
def test_a_type_holds_all_values_of_those_that_are_no_wider(
    source: str, held: list[str], not_held: list[str]
) -> None:
    assert [declared for declared in held if doubt(source, declared)] == []
    assert [declared for declared in not_held if not doubt(source, declared)] == []


def test_the_doubt_says_how_much_is_held() -> None:
    assert doubt("integer", "DECIMAL(9, 2)") == "a integer, as DECIMAL(9, 2): not more than 7 digits"
    assert doubt("bigint", "DOUBLE") == "a bigint, as DOUBLE: rounded to 15 digits"
    assert doubt("integer", "FLOAT") == "a integer, as FLOAT: rounded to 6 digits"
    before = "a numeric(9,3), as DECIMAL(9, 2): not more than 7 digits before the point or 2 behind it"
    assert doubt("numeric(9,3)", "DECIMAL(9, 2)") == before
    whole = "a numeric(9,3), as SMALLINT: not more than 4 digits before the point, nothing behind it"
    assert doubt("numeric(9,3)", "SMALLINT") == whole
    unbounded = str(doubt("numeric", "DECIMAL(38, 10)", unbounded=True))
    assert unbounded.startswith("a numeric, as NUMERIC: not more than 28 digits before the point or 10")


def test_text_is_held_up_to_its_length() -> None:
    for source in ("character varying(5)", "character(5)"):
        assert doubt(source, "VARCHAR", length_max=5) is None
        assert doubt(source, "VARCHAR", length_max=6) is None
        assert doubt(source, "VARCHAR", length_max=4) == f"a {source}, as VARCHAR(4): not what is longer"
    assert doubt("text", "VARCHAR", length_max=4) == "a text, as VARCHAR(4): not what is longer"
    assert doubt("text", "VARCHAR") is None


def test_what_may_be_null_does_not_fit_not_null() -> None:
    assert doubt("integer", "INTEGER", nullable=True) is None
    assert doubt("integer", "INTEGER", not_null=True) is None
    assert doubt("integer", "INTEGER", nullable=True, not_null=True) == "which may be NULL, as NOT NULL"
    both = doubt("integer", "SMALLINT", nullable=True, not_null=True)
    assert both == "a integer, as SMALLINT: not what is larger, which may be NULL, as NOT NULL"


@pytest.mark.parametrize(
    ("size", "bytes_"),
    [("512MB", 512 << 20), ("4GiB", 4 << 30), ("1.5 GB", 3 << 29), ("7kb", 7 << 10), ("2TB", 2 << 40)],
)
def test_a_size_is_so_many_bytes(size: str, bytes_: int) -> None:
    assert size_bytes(size) == bytes_


def test_a_folder_would_be_made_in_the_nearest_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "file").touch()
    assert existing(tmp_path / "a") == tmp_path / "a"
    assert existing(tmp_path / "a" / "b" / "c") == tmp_path / "a"
    assert existing(tmp_path / "file") == tmp_path


def test_a_name_that_is_proposed_is_not_in_use() -> None:
    assert _unused("key", []) == "key"
    assert _unused("key", ["Key"]) == "key_2"
    assert _unused("key", ["key", "KEY_2", "key_3", "other"]) == "key_4"
