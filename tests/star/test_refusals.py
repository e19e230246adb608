"""What no model may say, each with its reason, and what is just allowed beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.errors import ConfigurationError, ModelError
from totes.star.project import Project, load_project

PASSES = "CREATE TABLE {0} (a INTEGER PRIMARY KEY, b VARCHAR) AS SELECT a, b FROM t"


def load(folder: Path, references: dict[str, bytes] | None = None, **models: str) -> Project:
    for kind, files in (
        ("models", {f"{n}.sql": t.encode() for n, t in models.items()}),
        ("reference", references or {}),
    ):
        (folder / kind).mkdir()
        for name, content in files.items():
            (folder / kind / name).write_bytes(content)
    return load_project("test", folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("CREATE TABLE x AS SELECT a FROM t", "columns are not declared"),
        ("CREATE VIEW x AS SELECT a FROM t", "a model is one statement: CREATE TABLE"),
        (f"{PASSES.format('x')}; {PASSES.format('y')}", "a model is one statement"),
        ("CREATE TABLE x (a INTEGER, PRIMARY KEY (k)) AS SELECT a FROM t", "the key column k is not among"),
        ("CREATE TABLE x (a INTEGER, PRIMARY KEY (a), FOREIGN KEY (z) REFERENCES y) AS SELECT a FROM t", "key column z"),
        ("CREATE TABLE x (a INTEGER PRIMARY KEY, b NOT NULL) AS SELECT a, b FROM t", "the column b has no type"),
        ("CREATE TABLE x (a INTEGER PRIMARY KEY, A VARCHAR) AS SELECT a, a AS A FROM t", "gives a twice|the same name"),
        ("CREATE TABLE x (k BIGINT PRIMARY KEY, a INTEGER, is_deleted BOOLEAN) AS SELECT a, is_deleted FROM t",
         "is_deleted is a column that totes adds itself"),
        ("CREATE TABLE x (k BIGINT PRIMARY KEY, a INTEGER, batch_id BIGINT) AS SELECT a, batch_id FROM t",
         "batch_id is a column that totes adds itself"),
        ("CREATE TABLE x (a INTEGER PRIMARY KEY, b VARCHAR) AS SELECT c.a, c.b FROM t AS c(a, b)", "renamed in FROM"),
        ("CREATE TABLE x (a INTEGER PRIMARY KEY, b VARCHAR) AS SELECT a, s.t.u.v AS b FROM t AS s", "more than two parts"),
        ("CREATE TABLE x (a INTERVAL PRIMARY KEY) AS SELECT a FROM t", "is declared INTERVAL, for which a month and 30 days"),
        ("CREATE TABLE x (a JSON PRIMARY KEY) AS SELECT a FROM t", "is declared JSON, which PostgreSQL cannot compare"),
        ("CREATE TABLE x (a INTEGER PRIMARY KEY, current_date DATE) AS SELECT a, d AS current_date FROM t",
         "CURRENT_DATE is not a name. Write it in double quotes"),
        ("CREATE TABLE x (a INTEGER, null INTEGER PRIMARY KEY) AS SELECT a FROM t", "NULL is not a name"),
        (PASSES.format("totes_batches"), "a name that totes itself uses in the warehouse"),
    ],
)  # fmt: skip
def test_a_model_is_refused_with_the_reason(model: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        load(tmp_path, x=model)


def test_what_postgresql_keeps_of_a_name_is_the_limit(tmp_path: Path) -> None:
    # The name of a table is also that of its view, with `_current` behind it.
    versioned = "CREATE TABLE {0} (k BIGINT PRIMARY KEY, a INTEGER) AS SELECT a FROM t"
    latest = "CREATE TABLE x (a INTEGER PRIMARY KEY, {0} VARCHAR) AS SELECT a, b AS {0} FROM t"
    allowed = [PASSES.format("x" * 55), versioned.format("x" * 55), latest.format("é" * 31 + "b")]
    refused = [PASSES.format("x" * 56), versioned.format("x" * 56), latest.format("é" * 32)]
    for number, text in enumerate(allowed):
        (tmp_path / f"allowed-{number}").mkdir()
        assert len(load(tmp_path / f"allowed-{number}", x=text).models) == 1
    for number, text in enumerate(refused):
        (tmp_path / f"refused-{number}").mkdir()
        with pytest.raises(ModelError, match="is longer than 63 bytes"):
            load(tmp_path / f"refused-{number}", x=text)


def test_two_files_cannot_define_one_table(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"y\.sql, line 1: x is defined in x\.sql already"):
        load(tmp_path, x=PASSES.format("x"), y=PASSES.format("x"))


def test_only_the_built_in_project_needs_no_folder() -> None:
    with pytest.raises(ConfigurationError, match=r"project\.path is missing for the project shop"):
        load_project("shop", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "needs a first line"),
        (b"code,Code\n", "a different name for each column"),
        (b"c\xe9\n", "not UTF-8 text"),
    ],
)
def test_a_reference_file_needs_names(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, {"codes.csv": content}, x=PASSES.format("x"))


@pytest.mark.parametrize(
    ("reference", "target", "fits"),
    [
        ("BIGINT", "INTEGER", True), ("DECIMAL(9, 0)", "SMALLINT", True), ("DOUBLE", "INTEGER", True),
        ("DATE", "TIMESTAMP", True), ("TIMESTAMPTZ", "DATE", True), ("VARCHAR", "VARCHAR", True), ("UUID", "UUID", True),
        ("VARCHAR", "INTEGER", False), ("INTEGER", "VARCHAR", False), ("INTEGER", "DATE", False), ("VARCHAR", "UUID", False),
        ("BOOLEAN", "INTEGER", False), ("TIME", "TIMESTAMP", False),
    ],
)  # fmt: skip
def test_a_reference_is_of_a_type_that_its_key_can_be_compared_with(
    reference: str, target: str, fits: bool, tmp_path: Path
) -> None:
    models = {
        "y": f"CREATE TABLE y (id {target} PRIMARY KEY) AS SELECT id FROM u",
        "x": f"CREATE TABLE x (a INTEGER PRIMARY KEY, b {reference} REFERENCES y) AS SELECT a, b FROM t",
    }
    if fits:
        assert [model.name for model in load(tmp_path, **models).models] == ["y", "x"]
    else:
        with pytest.raises(ModelError, match=r"b is a .* and REFERENCES y, whose key is a"):
            load(tmp_path, **models)


@pytest.mark.parametrize(
    "target",
    [
        "CREATE TABLE y (k BIGINT PRIMARY KEY, id INTEGER) AS SELECT id FROM u",
        "CREATE TABLE y (id INTEGER, part INTEGER, PRIMARY KEY (id, part)) AS SELECT id, part FROM u",
    ],
)
def test_only_a_table_with_one_row_a_key_of_one_column_is_referred_to(target: str, tmp_path: Path) -> None:
    refers = "CREATE TABLE x (a INTEGER PRIMARY KEY, b INTEGER REFERENCES y) AS SELECT a, b FROM t"
    with pytest.raises(ModelError, match="primary key is not one column of its query"):
        load(tmp_path, x=refers, y=target)
