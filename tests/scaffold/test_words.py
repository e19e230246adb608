"""Names of things: in lower case, one of them, several of them."""

from __future__ import annotations

import pytest

from totes.scaffold.words import clipped, listed, plural, singular, snake


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("invoice_line", "invoice_line"), ("InvoiceLine", "invoice_line"), ("Invoice Line", "invoice_line"),
        ("invoiceLineId", "invoice_line_id"), ("HTTPStatus", "http_status"), ("Order Details", "order_details"),
        ("IMO-Number", "imo_number"), ("Total $", "total"), ("Line #", "line"), ("position_", "position_"),
        ("_private", "_private"), ("GRÖSSE", "grösse"), ("address2", "address2"), ("iPhone", "i_phone"), ("?", ""),
        ("__EFMigrations", "ef_migrations"),
    ],
)  # fmt: skip
def test_a_name_is_written_in_lower_case(name: str, written: str) -> None:
    assert snake(name) == written
    assert snake(written) == written


@pytest.mark.parametrize(
    ("several", "one"),
    [
        ("orders", "order"), ("order_details", "order_detail"), ("categories", "category"), ("addresses", "address"),
        ("boxes", "box"), ("branches", "branch"), ("dishes", "dish"), ("people", "person"), ("children", "child"),
        ("statuses", "status"), ("buses", "bus"), ("houses", "house"), ("purchases", "purchase"), ("licenses", "license"),
        ("shelves", "shelf"), ("movies", "movie"), ("cargoes", "cargo"), ("sales", "sale"), ("quizzes", "quizz"),
        ("companies", "company"), ("keys", "key"), ("criteria", "criterion"),
    ],
)  # fmt: skip
def test_one_of_several(several: str, one: str) -> None:
    assert singular(several) == one
    assert singular(one) == one


@pytest.mark.parametrize(
    "name",
    [
        "staff",
        "status",
        "address",
        "news",
        "series",
        "inventory",
        "bus",
        "analysis",
        "gas",
        "media",
        "data",
        "us",
    ],
)
def test_what_is_one_thing_already_stays_so(name: str) -> None:
    assert singular(name) == name


@pytest.mark.parametrize(
    ("one", "several"),
    [("order", "orders"), ("category", "categories"), ("day", "days"), ("box", "boxes"), ("address", "addresses"),
     ("person", "people"), ("staff", "staff"), ("shelf", "shelves"), ("orders", "orders"), ("people", "people")],
)  # fmt: skip
def test_several_of_one(one: str, several: str) -> None:
    assert plural(one) == several


def test_things_are_listed_as_in_a_sentence() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert listed(list("abcdefgh"), 3) == "a, b and 6 more"


def test_a_name_is_cut_between_characters() -> None:
    assert clipped("größe", 4) == "grö"
    assert clipped("größe", 3) == "gr"
    assert clipped("a_b", 2) == "a"
