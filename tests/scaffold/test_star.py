"""Whatever a catalog says, the models that follow are taken by the project's own parser and binder, and nothing is lost on the way."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scaffold.catalogs import catalog, column, models, table
from totes.scaffold.catalog import Catalog, Reference, Table
from totes.scaffold.kind import Kind
from totes.scaffold.meaning import is_generated_text, is_secret
from totes.scaffold.models import draft_models
from totes.scaffold.star import described, plan
from totes.scaffold.trial import refused

NAMES = ("id", "name", "Name ", "code", "order", "user", "a b", 'q"q', "größe", "is_deleted", "valid_from", "created_at",
         "updated_at", "password", "tsv", "x_at", "x_date", "total", "date", "at", "_", "2x", "owner_id", "was", "x" * 63)  # fmt: skip
TABLES = ("orders", "order", "Order", "customers", "customer_current", "dim_date", "date", "status", "order_lines", "a-b", "?", "!",
          "shop_order", "shop_customer", "select", "y" * 63, "y" * 62 + "z", "Ünits", "fact_sale", "people")  # fmt: skip
TYPES = ("integer", "bigint", "smallint", "numeric", "numeric(9,2)", "numeric(60,2)", "numeric(5,-2)", "text", "varchar(20)", "character(5)",
         "date", "timestamp", "timestamptz", "time with time zone", "interval", "uuid", "bytea", "jsonb", "boolean", "money", "tsvector", "inet",
         "integer[]", "real", "float8", "point", "public.vector(3)")  # fmt: skip
KEYS = (
    "integer",
    "bigint",
    "uuid",
    "text",
    "character(5)",
    "numeric",
    "date",
    "timestamptz",
    "interval",
    "jsonb",
    "bytea",
    "money",
)


@st.composite
def catalogs(draw: Any) -> Catalog:
    """A few tables with names, types, keys and references of any kind, circles included."""
    names = draw(st.lists(st.sampled_from(TABLES), min_size=1, max_size=6, unique=True))
    drawn: dict[str, tuple[list[Any], tuple[str, ...]]] = {}
    for name in names:
        columns = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique_by=str.lower))
        width = draw(st.integers(1, min(2, len(columns))))
        key = tuple(columns[:width])
        found = []
        for one in columns:
            kind = draw(st.sampled_from(KEYS if one in key else TYPES))
            seen = {
                "infinite": draw(st.booleans()),
                "digits": draw(st.sampled_from(((0, 0), (3, 18), (30, 2), (30, 30), None))),
            }
            found.append(column(one, kind, nullable=one not in key and draw(st.booleans()), **seen))
        drawn[name] = found, key
    tables = []
    for name, (columns, key) in drawn.items():
        references = []
        for other in draw(st.lists(st.sampled_from(names), max_size=3)):
            theirs, target = drawn[other]
            kinds = [one.type for one in theirs if one.name in target]
            ours = [next((one.name for one in columns if one.type == kind), None) for kind in kinds]
            if len(set(ours)) == len(ours) and None not in ours:
                references.append(Reference(tuple(map(str, ours)), other, target, draw(st.booleans())))
        tables.append(Table(name, tuple(columns), key, tuple(references)))
    return catalog(*tables)


EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@EXAMPLES
@given(catalogs())
def test_models_are_taken_as_they_are(found: Catalog) -> None:
    assert refused(found, models(found)) == {}


@EXAMPLES
@given(catalogs())
def test_every_column_is_somewhere(found: Catalog) -> None:
    """In its table's model, in the models that a lookup is joined to, or left out with its name in a comment."""
    star = plan(found)
    drafts = {draft.table: draft for draft in draft_models(star)}
    texts = models(found)
    assert set(drafts) | set(star.folded) == set(found.tables)
    for name, draft in drafts.items():
        one = found.tables[name]
        given_columns = {c.value.column for c in draft.columns if c.value and c.value.alias == draft.first}
        for its in one.columns:
            if is_generated_text(its) or is_secret(one, its):
                assert (
                    its.name in one.key
                    or f"Left out: {its.name}" in texts[draft.name]
                    or its.name in texts[draft.name]
                )
            elif its.name not in given_columns:
                targets = {other.table for other in one.references if its.name in other.columns}
                assert targets & set(star.folded), its.name
    for name, into in star.folded.items():
        for referrer in into:
            joined = [
                draft for draft in drafts.values() if name in {source.table for source in draft.sources[1:]}
            ]
            assert joined or referrer in star.folded
            for draft in joined:
                aliases = {source.alias for source in draft.sources if source.table == name}
                shown = {c.value.column for c in draft.columns if c.value and c.value.alias in aliases}
                assert shown <= {c.name for c in found.tables[name].columns}
        assert star.kind(name) is Kind.DIMENSION
        assert described(found.tables[name]) or found.tables[name].references


@EXAMPLES
@given(catalogs())
def test_the_same_catalog_gives_the_same_models(found: Catalog) -> None:
    turned = Catalog(found.database, found.schema, dict(reversed(found.tables.items())))
    assert models(found) == models(turned)


def test_a_lookup_of_lookups_is_joined_in_with_the_way_that_it_was_come_by() -> None:
    found = catalog(
        table("country", "id int key", "name text not null"),
        table("address", "id int key", "street text not null", "country_id int not null -> country"),
        table(
            "shop",
            "id int key",
            "name text",
            "home_address_id int not null -> address",
            "post_address_id int -> address",
        ),
        table("sale", "id int key", "shop_id int not null -> shop", "sold_on date not null"),
    )
    text = models(found)["dim_shop"]
    assert re.findall(r"^    (\w+) +VARCHAR(.*?),?$", text, re.MULTILINE) == [
        ("name", ""), ("home_address_street", " NOT NULL"), ("home_address_country_name", " NOT NULL"),
        ("post_address_street", ""), ("post_address_country_name", ""),
    ]  # fmt: skip
    assert (
        "LEFT JOIN country AS post_address_country ON post_address_country.id = post_address.country_id"
        in text
    )


def test_circles_of_dimensions_are_broken_at_what_may_be_null() -> None:
    found = catalog(
        table("team", "id int key", "name text", "captain_id int -> player"),
        table("player", "id int key", "first_name text", "last_name text", "team_id int not null -> team"),
        table("goal", "id int key", "player_id int -> player", "team_id int -> team", "shot_at timestamp"),
    )
    texts = models(found)
    assert re.search(
        r"^    team_id +INTEGER NOT NULL REFERENCES dim_team,$", texts["dim_player"], re.MULTILINE
    )
    circle = r"^    captain_id +INTEGER, +-- a row of dim_player; REFERENCES would make a circle$"
    assert re.search(circle, texts["dim_team"], re.MULTILINE)


def test_what_postgresql_compares_otherwise_is_neither_joined_nor_referred_to() -> None:
    member = table("member", "code text key", "name text")
    blind = Table(
        "member", (column("code", "text", nullable=False, blind=True), member.columns[1]), ("code",)
    )
    visit = table("visit", "id int key", "member_code text -> member.code", "visited_on date")
    card = table("card", "id int key", "name text", "member_code text -> member.code")
    sale = table("sale", "id int key", "card_id int -> card", "sold_on date")
    assert (
        "member_code      VARCHAR REFERENCES dim_member"
        in models(catalog(member, visit, card, sale))["fact_visit"]
    )
    texts = models(catalog(blind, visit, card, sale))
    assert "-- a row of dim_member; PostgreSQL compares these otherwise than DuckDB" in texts["fact_visit"]
    assert "JOIN" not in texts["dim_card"]
