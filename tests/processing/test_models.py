"""Model files: what is derived from one, and what is refused with file, line, clause and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.errors import ConfigurationError, ModelError
from totes.star.model_file import parse_model
from totes.star.project import load_project


def project_of(folder: Path, **models: str):
    (folder / "models").mkdir(exist_ok=True)
    for name, text in models.items():
        (folder / "models" / f"{name}.sql").write_text(text, encoding="utf-8")
    return load_project("test", folder)


def table(query: str, columns: str = "a INTEGER PRIMARY KEY, n NUMERIC") -> str:
    return f"-- A table.\nCREATE TABLE x (\n    {columns}\n) AS\n{query}\n"


def test_a_file_says_all_that_the_engine_derives(tmp_path: Path) -> None:
    file = tmp_path / "fact_sale.sql"
    file.write_text("""-- Sales,
-- every version.
CREATE TABLE fact_sale (
    sale_record BIGINT PRIMARY KEY,
    sale_id INTEGER NOT NULL, -- the till's own number
    price NUMERIC(10, 2) NOT NULL,
    rate NUMERIC,
    code VARCHAR(3),
    "Customer" INTEGER REFERENCES dim_customer
) AS
SELECT s.sale_id, s.price, s.rate, s.code, s.customer AS "Customer" FROM sale AS s
""")
    model = parse_model(file)
    assert model.description == "Sales, every version."
    assert model.versioned
    assert model.surrogate == "sale_record"
    assert [(c.name, c.type, c.not_null) for c in model.columns] == [
        ("sale_record", "BIGINT", True),
        ("sale_id", "INTEGER", True),
        ("price", "DECIMAL(10, 2)", True),
        ("rate", "DECIMAL(38, 10)", False),
        ("code", "VARCHAR", False),
        ("Customer", "INTEGER", False),
    ]
    assert [c.unbounded for c in model.columns] == [False, False, False, True, False, False]
    assert model.columns[1].description == "the till's own number"
    assert model.columns[4].length_max == 3
    assert model.references == {"Customer": "dim_customer"}
    assert [c.name for c in model.output][-4:] == ["valid_from", "valid_to", "is_deleted", "batch_id"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT a, n FROM t GROUP BY a, n", r"x\.sql, line 5: GROUP BY cannot be maintained incrementally"),
        ("SELECT a, sum(n) AS n FROM t", r"line 5: the aggregate SUM\(\) cannot be maintained"),
        ("SELECT a, string_agg(n) AS n FROM t", r"the aggregate \w+\(\) cannot be maintained"),
        ("SELECT DISTINCT a, n FROM t", "DISTINCT cannot be maintained"),
        ("SELECT a,\n    row_number() OVER (ORDER BY n) AS n\nFROM t", "line 6: a window function cannot be maintained"),
        ("SELECT a, n FROM t UNION ALL SELECT a, n FROM u", "UNION cannot be maintained"),
        ("SELECT a, n FROM (SELECT a, n FROM t UNION SELECT a, n FROM u) AS s", "UNION cannot be maintained"),
        ("SELECT a, n FROM t ORDER BY a", "ORDER BY cannot be maintained"),
        ("SELECT a, n FROM t LIMIT 3", "LIMIT cannot be maintained"),
        ("SELECT a, n FROM t QUALIFY a = 1", "QUALIFY cannot be maintained"),
        ("SELECT a, n FROM t RIGHT JOIN u USING (a)", "RIGHT JOIN cannot be maintained.*other order"),
        ("SELECT a, n FROM t FULL JOIN u USING (a)", "FULL JOIN cannot be maintained"),
        ("SELECT a, n FROM t NATURAL JOIN u", "NATURAL JOIN cannot be maintained"),
        ("SELECT a, n FROM t ASOF JOIN u USING (a)", "ASOF JOIN cannot be maintained"),
        ("SELECT a, n FROM t WHERE a IN (SELECT b FROM u)", "a subquery in an expression.*Join the table"),
        ("SELECT a, n FROM t WHERE EXISTS (SELECT 1 FROM u)", "a subquery in an expression"),
        ("SELECT a, (SELECT max(b) FROM u) AS n FROM t", "cannot be maintained"),
        ("SELECT a, random() AS n FROM t", r"RANDOM cannot be maintained.*would change without any source row"),
        ("SELECT a, n FROM t WHERE d < current_date", "CURRENT_DATE cannot be maintained"),
        ("SELECT a, n FROM t WHERE d < now()", "NOW cannot be maintained"),
        ("SELECT a, unnest(n) AS n FROM t", "UNNEST cannot be maintained"),
        ("SELECT a, n FROM read_csv('x.csv')", "the pipeline does not capture what table functions read"),
        ("SELECT a, n FROM other.t", "other.t names a schema"),
        ("SELECT * FROM t", r"SELECT \* cannot be maintained.*Name the columns"),
        ("SELECT a, n + 1 FROM t", "has no name"),
        ("SELECT a, b FROM t", "gives b, which is not a declared column"),
        ("SELECT a FROM t", "does not give the declared column n"),
        ("SELECT a, a, n FROM t", "gives a twice"),
        ("WITH RECURSIVE r AS (SELECT a, n FROM t) SELECT a, n FROM r", "WITH RECURSIVE cannot be maintained"),
        ("SELECT a, n FRM t", "line 5: not valid SQL"),
        ("SELECT a, 'n FROM t", r"x\.sql: not valid SQL: (?!.* near )"),
    ],
)  # fmt: skip
def test_what_cannot_be_maintained_is_refused(query: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        project_of(tmp_path, x=table(query))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("a INTEGER, n NUMERIC", "there is no PRIMARY KEY"),
        ("a INTEGER PRIMARY KEY, n INTEGER[]", r"n: the type .* is not supported in a warehouse table"),
        ("a INTEGER PRIMARY KEY, n NUMERIC REFERENCES dim_y", "n REFERENCES dim_y, which no model defines"),
        ("a INTEGER PRIMARY KEY, n NUMERIC DEFAULT 3", "is not supported on n"),
        ("a INTEGER PRIMARY KEY, n NUMERIC(50, 2)", "at most 38 digits"),
        ("k VARCHAR PRIMARY KEY, a INTEGER, n NUMERIC", "the surrogate key k is a VARCHAR"),
        (
            "k BIGINT PRIMARY KEY, a INTEGER, n NUMERIC, valid_to DATE",
            "does not give the declared column valid_to|totes adds",
        ),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(columns: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        project_of(tmp_path, x=table("SELECT a, n FROM t", columns))


def test_references_in_a_circle_are_refused(tmp_path: Path) -> None:
    one = "CREATE TABLE {0} (a INTEGER PRIMARY KEY, b INTEGER REFERENCES {1}) AS SELECT a, b FROM t"
    with pytest.raises(ModelError, match="x and y refer to each other in a circle"):
        project_of(tmp_path, x=one.format("x", "y"), y=one.format("y", "x"))


def test_tables_are_loaded_after_those_that_they_refer_to(tmp_path: Path) -> None:
    project = project_of(
        tmp_path,
        a_fact="CREATE TABLE a_fact (r BIGINT PRIMARY KEY, id INTEGER, d INTEGER REFERENCES z_dim) AS SELECT id, d FROM f",
        z_dim="CREATE TABLE z_dim (id INTEGER PRIMARY KEY, up INTEGER REFERENCES z_dim) AS SELECT id, up FROM d",
    )
    assert [model.name for model in project.models] == ["z_dim", "a_fact"]
    assert project.source_tables == {"f", "d"}


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no model in"):
        load_project("test", tmp_path)


def test_the_built_in_project_has_its_eleven_tables() -> None:
    project = load_project("terrifictotes", None)
    assert {model.name for model in project.models if model.versioned} == {
        "fact_sales_order", "fact_purchase_order", "fact_payment",
    }  # fmt: skip
    assert len(project.models) == 11
    assert len(project.source_tables) == 11


def test_a_table_that_takes_the_name_of_a_view_or_of_the_ledger_is_refused(tmp_path: Path) -> None:
    fact = "CREATE TABLE f (r BIGINT PRIMARY KEY, a INTEGER) AS SELECT a FROM t"
    view = "CREATE TABLE f_current (a INTEGER PRIMARY KEY) AS SELECT a FROM t"
    with pytest.raises(ModelError, match="f_current is the view of f's current rows"):
        project_of(tmp_path, f=fact, f_current=view)
