"""What becomes of a table: a dimension, a fact or a bridge."""

from __future__ import annotations

import pytest

from tests.scaffold.catalogs import table
from totes.scaffold.catalog import Table
from totes.scaffold.kind import judge

CUSTOMER = table("customers", "id int key", "name text not null")
PRODUCT = table(
    "products", "id int key", "title text not null", "category_id int -> categories", "released date"
)
CATEGORY = table("categories", "id int key", "name text")
ORDER = table(
    "orders", "id int key", "customer_id int not null -> customers", "ordered_on date", "total numeric(9,2)"
)
LINE = table(
    "order_lines",
    "order_id int not null -> orders",
    "product_id int not null -> products",
    "quantity int",
    key="order_id product_id",
)
TAG = table("tags", "id int key", "name text")
TAGGING = table(
    "product_tags", "id int key", "product_id int -> products", "tag_id int -> tags", "created_at timestamp"
)
SHOP = (CUSTOMER, PRODUCT, CATEGORY, ORDER, LINE, TAG, TAGGING)


def kinds(*tables: Table) -> dict[str, str]:
    return {
        name: judgement.kind.value for name, judgement in judge({one.name: one for one in tables}).items()
    }


def test_a_shop() -> None:
    assert kinds(*SHOP) == {
        "customers": "dim", "products": "dim", "categories": "dim", "orders": "fact", "order_lines": "fact", "tags": "dim",
        "product_tags": "bridge",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        # What people are called by a name describes; what happens refers, and has dates or amounts.
        (table("tasks", "id int key", "customer_id int -> customers", "title text", "due_on date"), "fact"),
        (table("addresses", "id int key", "customer_id int -> customers", "city text", "created_at timestamp"), "dim"),
        (table("profiles", "customer_id int key -> customers", "score numeric", "seen_at timestamp"), "dim"),
        (table("employees", "id int key", "customer_id int -> customers", "first_name text", "hired date"), "dim"),
        (table("ratings", "id int key", "customer_id int -> customers", "stars numeric"), "fact"),
        (table("visits", "id int key", "customer_id int -> customers"), "fact"),
        (table("likes", "customer_id int -> customers", "product_id int -> products", key="customer_id product_id"), "bridge"),
        (table("follows", "id int key", "follower_id int -> customers", "followed_id int -> customers"), "bridge"),
        # What stands alone is a fact where it is a record of moments, and a dimension otherwise.
        (table("audit_log", "id int key", "at timestamptz", "what text"), "fact"),
        (table("measurements", "id int key", "taken_at timestamptz", "value numeric"), "fact"),
        (table("settings", "key text key", "value text"), "dim"),
        (table("countries", "code text key", "name text", "joined_on date"), "dim"),
        (table("states", "id int key", "created_at timestamp"), "dim"),
    ],
)  # fmt: skip
def test_a_table_beside_it(one: Table, kind: str) -> None:
    assert kinds(*SHOP, one)[one.name] == kind


def test_what_others_refer_to_by_name_is_a_dimension_whatever_it_is_called() -> None:
    event = table("events", "id int key", "venue_id int -> venues", "title text", "starts_at timestamp")
    ticket = table("tickets", "id int key", "event_id int -> events", "price numeric(9,2)")
    assert kinds(event, ticket, table("venues", "id int key", "name text"))["events"] == "dim"


def test_who_wrote_a_row_makes_no_link_of_it() -> None:
    note = table(
        "stocks",
        "id int key",
        "product_id int -> products",
        "created_by int -> customers",
        "updated_by int -> customers",
    )
    assert kinds(*SHOP, note)["stocks"] == "dim"


def test_a_part_of_a_schema_is_judged_by_all_that_it_refers_to() -> None:
    assert kinds(ORDER)["orders"] == "fact"
