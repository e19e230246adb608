"""What becomes of a table: a dimension, a fact or a bridge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.scaffold.catalogs import table
from totes.scaffold.catalog import Reference, Table
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
        # Of links that are sorted, or of rows of any kind, too; what a link costs is a fact, also where others refer to it.
        (table("placings", "id int key", "product_id int -> products", "tag_id int -> tags", "position int", "is_main boolean"), "bridge"),
        (table("taggings", "id int key", "tag_id int -> tags", "taggable_type text", "taggable_id int"), "bridge"),
        (table("notes", "id int key", "tag_id int -> tags", "notable_type text", "notable_id int", "body text"), "fact"),
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


def test_what_extends_a_fact_is_one() -> None:
    seat = table(
        "seats",
        "ticket_id int -> tickets",
        "flight_id int -> flights",
        "fare numeric(9,2)",
        key="ticket_id flight_id",
    )
    boarding = table("boardings", "ticket_id int", "flight_id int", "number int", key="ticket_id flight_id")
    boarding = replace(
        boarding, references=(Reference(("ticket_id", "flight_id"), "seats", ("ticket_id", "flight_id")),)
    )
    flight = table("flights", "id int key", "plane_id int -> planes", "departs_at timestamp")
    others = (
        table("tickets", "id int key", "name text"),
        flight,
        table("planes", "id int key", "model text", "sku text"),
    )
    assert kinds(seat, boarding, *others) == {
        "seats": "fact", "boardings": "fact", "tickets": "dim", "flights": "fact", "planes": "dim",
    }  # fmt: skip


def test_when_a_row_holds_is_not_when_something_happens() -> None:
    variant = table(
        "variants",
        "id int key",
        "product_id int -> products",
        "cost numeric(9,2)",
        "deleted_at timestamp",
        "valid_from date",
    )
    line = table("lines", "id int key", "variant_id int -> variants", "order_id int -> orders")
    assert kinds(*SHOP, variant, line)["variants"] == "dim"


def test_a_record_of_money_is_a_fact_also_where_it_refers_to_nothing() -> None:
    booking = table("bookings", "ref text key", "booked_at timestamp", "total numeric(9,2)")
    ticket = table("tickets", "id int key", "ref text -> bookings.ref", "name text")
    assert kinds(booking, ticket) == {"bookings": "fact", "tickets": "fact"}


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
