"""Projects for schemas with the oddities of real ones run and verify as they are, and say what became of each table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from tests.databases import Database
from tests.processes import Command
from tests.scaffold.projects import Made, make

Project = Callable[..., Made]


def declared(text: str) -> dict[str, str]:
    """The columns of a model, each with what is declared of it and said behind it."""
    body = text.partition(" (\n")[2].partition("\n) AS")[0]
    lines = [re.sub(r" {2,}", " ", line.strip()) for line in body.splitlines()]
    return {
        line.partition(" ")[0]: line.partition(" ")[2].replace(", --", " --").rstrip(",") for line in lines
    }


def test_django(project: Project) -> None:
    made = project("clinic")
    assert made.models == {
        "bridge_user_group", "bridge_visit_referred_by", "dim_date", "dim_group", "dim_person", "dim_pet", "dim_user", "dim_vet",
        "fact_treatment", "fact_visit",
    }  # fmt: skip
    assert made.said["joined"] == {"clinic_species": ["clinic_pet"]}
    assert made.said["left_out"] == {
        "auth_group_permissions": "internal to Django", "auth_permission": "internal to Django",
        "authtoken_token": "its key is a secret", "django_content_type": "internal to Django",
        "django_migrations": "internal to Django", "django_session": "internal to Django",
    }  # fmt: skip
    user = made.model("dim_user")
    assert "password" not in declared(user)
    assert (
        "-- Left out: password, which looks like a secret. The lake has it, as it has every column.\n" in user
    )
    assert declared(made.model("dim_vet"))["token_expires_at"] == "TIMESTAMPTZ"
    assert "api_token" not in declared(made.model("dim_vet"))
    assert declared(made.model("fact_treatment")) == {
        "treatment_record_id": "BIGINT PRIMARY KEY",
        "treatment_id": "BIGINT NOT NULL",
        "visit_id": "BIGINT NOT NULL -- a row of fact_visit",
        "pet_id": "UUID NOT NULL REFERENCES dim_pet",
        "vet_id": "UUID REFERENCES dim_vet",
        "starts_date": "DATE NOT NULL REFERENCES dim_date -- the day of fact_visit's starts_at, in UTC",
        "kind": "VARCHAR(30) NOT NULL",
        "price": "DECIMAL(9, 2) NOT NULL",
        "discount": "NUMERIC NOT NULL",
    }
    settings = (made.folder / "totes.toml").read_text(encoding="utf-8")
    assert re.search(r'^changed_at = "modified" ', settings, re.MULTILINE)
    compared = made.works()
    assert (compared["fact_visit"], compared["fact_treatment"], compared["dim_pet"]) == (40, 90, 9)


def test_rails_without_foreign_keys(project: Project) -> None:
    made = project("forum")
    assert made.models == {
        "bridge_badge_user", "dim_badge", "dim_board", "dim_date", "dim_post", "dim_user", "dim_users", "fact_comment",
        "fact_line_item", "fact_order", "fact_vote",
    }  # fmt: skip
    assert made.said["left_out"] == {
        "ar_internal_metadata": "internal to Rails",
        "boards_users": "no primary key, nor a unique index without NULLs",
        "schema_migrations": "internal to Rails",
    }
    line = declared(made.model("fact_line_item"))
    assert line["order_id"] == "BIGINT NOT NULL -- a row of fact_order; the source has no foreign key"
    assert line["user_id"] == "BIGINT -- a row of dim_users; the source has no foreign key"
    assert declared(made.model("fact_vote"))["post_id"] == "BIGINT NOT NULL REFERENCES dim_post"
    post = declared(made.model("dim_post"))
    assert post["source_is_deleted"] == "BOOLEAN -- is_deleted at the source"
    assert post["tags"] == "VARCHAR -- text[], as text"
    assert not {"encrypted_password", "reset_password_token"} & declared(made.model("dim_users")).keys()
    settings = (made.folder / "totes.toml").read_text(encoding="utf-8")
    assert '"badges_users" = ["badge_id", "user_id"]' in settings
    compared = made.works()
    assert (compared["fact_comment"], compared["dim_post"], compared["bridge_badge_user"]) == (60, 30, 3)


def test_names_and_types(project: Project) -> None:
    made = project("harbour")
    assert made.said["left_out"] == {
        "calendar": "models that say calendar mean totes' own",
        "reserved": "has a column _at, a name that the lake uses itself",
        "tildes": "its model is refused: tildes has a column ~x, a name of the kind that the engine uses itself",
        "twins": "has columns that differ in case only (a)",
    }
    every = declared(made.model("fact_every_type"))
    assert {name: every[name] for name in (
        "every_type_id", "exact", "wide", "rounded", "tiny", "price", "letters", "blind", "bytes", "day", "zoned", "span", "bits", "plain",
        "list", "kind", "kinds", "times", "spot", "weight", "doubled", "vary", "instant_date", "whole",
    )} == {
        "every_type_id": "NUMERIC NOT NULL",
        "exact": "DECIMAL(38, 10)",
        "wide": "VARCHAR -- numeric(60,20), as text: more digits than a DECIMAL has",
        "rounded": "DECIMAL(7, 0)",
        "tiny": "DECIMAL(5, 5)",
        "price": "DECIMAL(19, 2)",
        "letters": "VARCHAR(7)",
        "blind": "VARCHAR",
        "bytes": "BLOB",
        "day": "DATE -- no REFERENCES dim_date: infinity has no day",
        "zoned": "VARCHAR -- time with time zone, as text",
        "span": "INTERVAL",
        "bits": "VARCHAR -- bit(4), as text",
        "plain": "JSON",
        "list": "VARCHAR -- integer[], as text",
        "kind": "VARCHAR -- it was: something else and more; bulk, container, it's \"odd\" or was: nothing",
        "kinds": "VARCHAR -- cargo[], as text",
        "times": "VARCHAR -- tsrange, as text",
        "spot": "VARCHAR -- place, as text",
        "weight": "DECIMAL(12, 3)",
        "doubled": "INTEGER",
        "vary": "VARCHAR(20)",
        "instant_date": "DATE REFERENCES dim_date -- the day of instant, in UTC",
        "whole": "INTEGER -- -- */ ' \" ; \\ {}",
    }  # fmt: skip
    order = declared(made.model("fact_order"))
    assert order["source_valid_from"] == "TIMESTAMP -- valid_from at the source"
    assert declared(made.model("fact_member_visit"))["member_code"].startswith(
        "VARCHAR -- a row of dim_member; "
    )
    assert made.model("dim_ship").endswith(
        'FROM "Ship" AS ship\nLEFT JOIN "Home Port" AS home_port ON home_port."Home Port ID" = ship."Home Port ID"\n'
    )
    compared = made.works()
    assert (compared["fact_every_type"], compared["fact_order_detail"], compared["dim_ship"]) == (2, 20, 2)
    values = {
        row[0]: row
        for row in rows(
            made,
            "SELECT every_type_id::VARCHAR, price::VARCHAR, letters, wide, kind, span::VARCHAR FROM fact_every_type",
        )
    }
    assert values["1.5000000000"][1:3] == ("-1234.50", "ab")
    assert values["1.5000000000"][4] == 'it\'s "odd"'


def test_keys_circles_partitions_and_views(project: Project) -> None:
    made = project("registry")
    assert made.said["left_out"] == {
        "company_count": "a materialized view, which has no key of its own",
        "keyless": "no primary key, nor a unique index without NULLs",
        "notice_2026": "its rows are rows of notice",
        "person_list": "a view, which has no key of its own",
    }
    assert made.said["joined"].keys() == {"address", "currency", "region", "town"}
    company = declared(made.model("dim_company"))
    assert company["head_person_id"] == "INTEGER -- a row of dim_person; REFERENCES would make a circle"
    assert company["parent_id"] == "INTEGER REFERENCES dim_company"
    assert company["currency_code"] == "VARCHAR(3) NOT NULL"
    assert [name for name in company if "address" in name] == [
        "billing_address_street", "billing_address_town", "shipping_address_street", "shipping_address_town",
    ]  # fmt: skip
    filing = declared(made.model("fact_filing"))
    assert filing["filed_on"] == "DATE NOT NULL REFERENCES dim_date"
    assert filing["filed_by"] == "INTEGER REFERENCES dim_person"
    page = declared(made.model("fact_filing_page"))
    assert page["company_id"] == "INTEGER NOT NULL -- with filed_on and number a row of fact_filing"
    loan = declared(made.model("fact_loan"))
    assert loan["company_id"] == "INTEGER NOT NULL -- a row of dim_company; the foreign key is not validated"
    settings = (made.folder / "totes.toml").read_text(encoding="utf-8")
    assert '"reading" = ["taken_on", "id"]' in settings
    assert '"share" = ["owner_id", "company_id"]' in settings
    role = (made.folder / "role.sql").read_text(encoding="utf-8")
    assert role.endswith('ALTER ROLE "totes_reader" BYPASSRLS;\n')
    compared = made.works()
    assert (
        compared["fact_loan"],
        compared["fact_filing"],
        compared["fact_share"],
        compared["fact_notice"],
    ) == (2, 20, 2, 2)
    assert compared["fact_reading"] == 2
    database = Database(made.url, "")
    database.execute(
        "UPDATE company SET name = 'Deux', billing_address_id = 2, parent_id = NULL WHERE id = 2",
        "UPDATE town SET town = 'München' WHERE id = 1",
        "DELETE FROM filing_page WHERE number = 3",
        "DELETE FROM filing WHERE number = 3",
    )
    assert made.works()["fact_filing"] == 19
    assert rows(made, "SELECT parent_name, billing_address_town FROM dim_company ORDER BY company_id") == [
        ("Deux", "München"),
        (None, "Paris"),
    ]


def rows(made: Made, sql: str) -> list[tuple[object, ...]]:
    """The rows of a query over the project's warehouse."""
    with duckdb.connect(str(made.folder / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


# The whole way takes a while.
HOW_FAR = pytest.mark.parametrize("runs", [False, pytest.param(True, marks=pytest.mark.sweep)])


@HOW_FAR
def test_two_hundred_tables(
    runs: bool, database: Database, tmp_path: Path, totes: Callable[..., Command]
) -> None:
    entity = "CREATE TABLE entity_{0} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, size numeric)"
    event = (
        "CREATE TABLE event_{0} (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), entity_{1}_id bigint NOT NULL REFERENCES entity_{1},"
        " previous bigint REFERENCES entity_{2}, at timestamptz NOT NULL DEFAULT now(), amount numeric(12, 2), data jsonb)"
    )
    statements = [entity.format(number) for number in range(50)]
    statements += [event.format(number, number % 50, number % 7) for number in range(150)]
    statements += [f"INSERT INTO entity_{number} (name, size) VALUES ('x', 1.0 / 3)" for number in range(50)]
    statements += [
        f"INSERT INTO event_{number} (entity_{number % 50}_id) VALUES (1), (1)" for number in range(150)
    ]
    database.execute("; ".join(statements))
    made = make(database, tmp_path / "many", totes)
    assert len(made.models) == 201
    assert [draft["kind"] for draft in made.said["models"].values()].count("fact") == 150
    if runs:
        assert sum(count for name, count in made.works().items() if name != "dim_date") == 350
