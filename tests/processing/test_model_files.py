"""What a model file may hold beside its statement, and declarations that would have no effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.processes import Command
from totes.cli.verify import _conclusion
from totes.errors import ModelError
from totes.monitoring.comparison import TableVerdict
from totes.monitoring.verification import Verdict
from totes.star import syntax
from totes.star.project import Project, load_project

DIMENSION = "CREATE TABLE dim_d (id INTEGER PRIMARY KEY, code VARCHAR) AS SELECT id, code FROM d"
FACT = "CREATE TABLE f (id INTEGER PRIMARY KEY, d INTEGER{}) AS SELECT id, d FROM f"


def project_of(folder: Path, content: bytes) -> Project:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "dim_d.sql").write_text(DIMENSION)
    (folder / "models" / "f.sql").write_bytes(content)
    return load_project("test", folder)


def test_marks_and_comments_around_the_statement_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    fact, plain = FACT.format(""), project_of(tmp_path, FACT.format("").encode()).model("f")
    assert plain is not None
    for content in (
        f"\ufeff{fact}",
        f"\ufeff-- Facts.\n{fact}",
        f"{fact}; -- note",
        f"{fact};\n-- note\n/* another */\n",
        f"{fact} -- note",
        f"{fact};;\n;",
        f"/* note */ {fact}",
        fact.replace(" ", "\r\n"),
        f"-- Facts.\r\n{fact}\r\n",
        fact.replace("SELECT", "(SELECT") + ")",
    ):
        model = project_of(tmp_path, content.encode()).model("f")
        assert model is not None
        assert model.columns == plain.columns
        assert syntax.same(model.tree, plain.tree)
        assert model.description == ("Facts." if "Facts" in content else "")


def test_line_ends_within_text_stay_as_they_are(tmp_path: Path) -> None:
    model = project_of(
        tmp_path, FACT.format("").replace("SELECT id, d", "SELECT id, 'a\r\nb' AS d").encode()
    ).model("f")
    assert model is not None
    assert "'a\r\nb'" in model.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{FACT.format('')}\n\0".encode(), r"f.sql, line 2: it has the character U\+0000"),
        (f"-- a\n-- \xe9\n{FACT.format('')}".encode("latin-1"), "f.sql, line 2: it is not UTF-8 text"),
        (FACT.format("").encode("utf-16"), "f.sql, line 1: it is not UTF-8 text"),
        (f"{FACT.format('')}; SELECT 1".encode(), "a model is one statement"),
        (FACT.format(" REFERENCES dim_d(code)").encode(), r"REFERENCES dim_d\(code\), but the primary key of dim_d is id"),
        (FACT.format(", FOREIGN KEY (d) REFERENCES dim_d(code)").encode(), "the primary key of dim_d is id"),
        (FACT.format(" REFERENCES dim_d(id, code)").encode(), "refers to more than one column"),
        (FACT.format(" REFERENCES public.dim_d").encode(), "not a table of the star"),
        (FACT.format(" REFERENCES dim_d ON DELETE CASCADE").encode(), "ON DELETE CASCADE.* would have no effect"),
        (FACT.format(" REFERENCES dim_d DEFERRABLE").encode(), "DEFERRABLE.* would have no effect"),
        (FACT.format(", FOREIGN KEY (d) REFERENCES dim_d ON UPDATE CASCADE").encode(), "would have no effect"),
        (FACT.format(", PRIMARY KEY (d)").encode(), "two primary keys"),
        (FACT.format(" CHECK (d > 0)").encode(), "not supported on d"),
        (FACT.format(" COLLATE nocase").encode(), "not supported on d"),
        (FACT.format(" GENERATED ALWAYS AS (id)").encode(), "not supported on d"),
        (FACT.replace("d INTEGER{}", "d TIMESTAMP(3)").encode(), r"d: TIMESTAMP\(3\) would be stored as TIMESTAMP"),
        (FACT.format("").replace("TABLE", "OR REPLACE TABLE").encode(), "OR REPLACE is not supported"),
        (FACT.format("").replace("TABLE", "TEMP TABLE").encode(), "an option of the table is not supported"),
        (FACT.format("").replace("TABLE f", "TABLE s.f").encode(), "s.f names a schema"),
        (f"{FACT.format('')} WITH NO DATA".encode(), "is not supported in a model"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        project_of(tmp_path, content)


def test_a_reference_may_name_the_key(tmp_path: Path) -> None:
    for reference in (
        " REFERENCES dim_d(id)",
        " REFERENCES dim_d (ID)",
        ", FOREIGN KEY (d) REFERENCES dim_d(id)",
    ):
        model = project_of(tmp_path, FACT.format(reference).encode()).model("f")
        assert model is not None
        assert model.references == {"d": "dim_d"}


def test_a_comparison_says_no_more_than_it_has_compared() -> None:
    some = TableVerdict(2, 0, 0, 0, 1, 0)
    none = TableVerdict(0, 0, 0, 0, 0, 0)
    assert _conclusion(Verdict(1, {"a": some})) == "Equal: every row, every column, every version."
    assert _conclusion(Verdict(1, {"a": some}, whole=False)).startswith("Equal in a: every row")
    assert _conclusion(Verdict(1, {"a": none, "b": none}, sample=0.1)).startswith("Nothing was compared")
    sampled = _conclusion(Verdict(1, {"a": some, "b": none}, sample=0.1))
    assert "every row" not in sampled
    assert "3 rows were compared" in sampled
    assert "Nothing was compared in b." in sampled


def test_the_built_in_models_over_another_database_give_one_message(
    database: Database, totes: Callable[..., Command], tmp_path: Path
) -> None:
    database.execute("CREATE TABLE mine (id int PRIMARY KEY)")
    (tmp_path / "totes.toml").write_text(f'[source]\nurl = "{database.url}"\n')
    found = totes("doctor", timeout=300)
    said = " ".join(found.out.split())
    assert "the built-in models of TerrificTotes are in use" in said
    assert "public.address" not in said
    assert said.count("address") == 1
    ran = totes("run", timeout=300)
    assert ran.code != 0
    said = " ".join((ran.out + ran.err).split())
    assert "[project] name = …, path = …" in said
    assert "has no table" not in ran.out
