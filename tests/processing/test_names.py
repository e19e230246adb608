"""What a name in a model means among the tables of its FROM, and what is refused because it could mean nothing or two things."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.errors import ModelError
from totes.lake.manifest import SourceColumn
from totes.processing.bound.relation import Relation, RelationColumn, Relations, typed_name
from totes.processing.bound.scope import Binder, Scope
from totes.star.model_file import parse_model
from totes.star.written import sql


def relation(name: str, *columns: str) -> Relation:
    listed = tuple(
        RelationColumn(column, "BIGINT", "INTEGER", number) for number, column in enumerate(columns, 1)
    )
    return Relation(name, listed, columns[:1], is_source=True)


ORDERS, CUSTOMERS = (
    relation("orders", "id", "customer", "total"),
    relation("customers", "id", "Name", "region"),
)
TWICE, OWN = relation("twice", "id", "Name", "name"), relation("own", "id", "~key")
RELATIONS = Relations(
    {one.name: one for one in (ORDERS, CUSTOMERS, TWICE, OWN)}, {"Hidden": "the role may not read it"}
)


def bind(query: str, folder: Path) -> tuple[Scope, Binder]:
    file = folder / "x.sql"
    file.write_text(f"CREATE TABLE x (id INTEGER PRIMARY KEY, v INTEGER) AS\n{query}", encoding="utf-8")
    binder = Binder(parse_model(file), RELATIONS)
    return binder.bind(), binder


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT id, total AS v FROM orders JOIN orders USING (id)", "two tables in FROM are called orders.*another alias"),
        ("SELECT o.id, o.total AS v FROM orders AS o JOIN customers AS O ON true", "two tables in FROM are called"),
        ("SELECT orders.id, total AS v FROM orders JOIN customers USING (customer)",
         "USING names customer, which the joined tables do not both have"),
        ("SELECT orders.id, total AS v FROM orders JOIN customers USING (nothing)", "USING names nothing"),
        ("SELECT id, name AS v FROM twice", r"twice has columns that differ in case only \(name\)"),
        ("SELECT id, 1 AS v FROM own", "a name of the kind that the engine uses itself"),
        ("SELECT id, total AS v FROM order_s", r"the source has no table order_s\. Did you mean orders\?"),
        ("SELECT id, total AS v FROM zzz", r"the source has no table zzz\. There are customers, orders, own, twice"),
        ("SELECT id, v FROM hidden", "the table hidden was not captured: the role may not read it"),
        ("SELECT id, totl AS v FROM orders", r"no column totl of orders\. Did you mean"),
        ("SELECT id, total AS v FROM orders JOIN customers ON orders.customer = customers.id", "could be of"),
        ("SELECT id, v + 1 AS v FROM orders", "there is no column v of orders"),
        ("SELECT s.id, s.name AS v FROM (SELECT id, total FROM orders) AS s", "name"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_clear_is_refused(query: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        bind(query, tmp_path)


def test_names_are_found_in_any_case_and_the_very_name_first(tmp_path: Path) -> None:
    _, binder = bind("SELECT C.ID AS id, c.NAME AS v FROM Customers AS c", tmp_path)
    assert [leaf.relation for leaf in binder.leaves] == [CUSTOMERS]
    two = Relations({"t": ORDERS, "T": CUSTOMERS}, {})
    assert (two.find("t"), two.find("T")) == (ORDERS, CUSTOMERS)
    assert TWICE.column("name") is not None
    assert (TWICE.column("name").number, TWICE.column("Name").number, TWICE.column("NAME").number) == (
        3,
        2,
        2,
    )  # type: ignore[union-attr]
    assert TWICE.column("nam") is None


def test_an_output_column_stands_for_its_expression_unless_the_table_has_a_column_of_that_name(
    tmp_path: Path,
) -> None:
    scope, binder = bind("SELECT customer + 1 AS V, v * 2 AS id FROM orders", tmp_path)
    assert sql(scope.outputs()["id"]) == '((("orders"."customer" + 1)) * 2)'
    assert binder.leaves[0].computed == {"customer"}
    scope, _ = bind("SELECT id, total AS customer, customer AS v FROM orders", tmp_path)
    assert sql(scope.outputs()["v"]) == '"orders"."customer"'


def test_a_table_that_stands_twice_has_two_leaves(tmp_path: Path) -> None:
    query = "SELECT a.id, b.total AS v FROM orders AS a LEFT JOIN orders AS b ON b.id = a.customer"
    _, binder = bind(query, tmp_path)
    assert [(leaf.index, leaf.relation.name) for leaf in binder.leaves] == [(0, "orders"), (1, "orders")]


@pytest.mark.parametrize(
    ("postgresql", "engine"),
    [
        ("integer", "INTEGER"), ("bigint", "BIGINT"), ("text", "VARCHAR"), ("character varying(3)", "VARCHAR"),
        ("integer[]", "VARCHAR"), ("numeric(5,2)[]", "VARCHAR"), ("numeric(38,0)", "DECIMAL(38, 0)"),
        ("numeric(38,38)", "DECIMAL(38, 38)"), ("numeric(10,2)", "DECIMAL(10, 2)"), ("numeric(7)", "DECIMAL(7, 0)"),
        ("double precision", "DOUBLE"), ("real", "FLOAT"), ("uuid", "UUID"), ("jsonb", "JSON"), ("bit varying(4)", "BIT"),
        ("timestamp without time zone", "TIMESTAMP"), ("timestamp(3) without time zone", "TIMESTAMP"),
        ("timestamp with time zone", "TIMESTAMPTZ"), ("date", "DATE"), ("inet", "VARCHAR"), ("tsrange", "VARCHAR"),
    ],
)  # fmt: skip
def test_expressions_see_the_nearest_type(postgresql: str, engine: str) -> None:
    column = SourceColumn(name="c", number=1, kind="text", type=postgresql, nullable=True)
    assert typed_name(column) == engine


@pytest.mark.parametrize("kind", ["numeric", "numeric(39,2)", "numeric(5,-2)", "numeric(2,5)"])
def test_numbers_that_no_decimal_holds_are_of_the_widest(kind: str) -> None:
    column = SourceColumn(name="c", number=1, kind="text", type=kind, nullable=True)
    assert typed_name(column) == typed_name(column.model_copy(update={"type": "numeric"}))
    assert typed_name(column).startswith("DECIMAL(38, ")
