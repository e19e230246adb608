"""The settings of a new project: true TOML whatever the names, and a URL without secrets that means the same in any folder."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.scaffold.catalogs import catalog, column, table
from totes.config import Settings
from totes.scaffold.catalog import Catalog, LeftOut, Table
from totes.scaffold.settings import changed_at, has_password, role_text, settings_text, without_password


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://ada@host/shop", "postgresql://ada@host/shop"),
        ("postgresql://ada:p%40ss@host:5432/shop", "postgresql://ada@host:5432/shop"),
        ("postgresql://ada:p%40ss@one:1,two:2/shop?sslmode=verify-full", "postgresql://ada@one:1,two:2/shop?sslmode=verify-full"),
        ("postgresql://host/shop?user=ada&password=x&sslmode=require", "postgresql://host/shop?user=ada&sslmode=require"),
        ("postgres:///shop?host=/run/postgresql&sslpassword=x", "postgres:///shop?host=/run/postgresql"),
        ("postgresql://ada:x@host/shop?options=-c%20search_path%3Da", "postgresql://ada@host/shop?options=-c%20search_path%3Da"),
        ("postgresql://ada:a#b?c@host/shop?application_name=a%26b", "postgresql://ada@host/shop?application_name=a%26b"),
        ("postgresql://ada:a:b@[::1]:5432/shop", "postgresql://ada@[::1]:5432/shop"),
        ("secretsmanager:totes/source", "secretsmanager:totes/source"),
    ],
)  # fmt: skip
def test_the_url_of_the_settings_has_no_secret(url: str, kept: str) -> None:
    assert without_password(url) == kept
    assert has_password(url) == (url != kept)


def test_files_that_the_url_names_are_found_from_any_folder() -> None:
    url = "postgresql://ada@host/shop?sslrootcert=ca.pem&sslkey=/keys/my.key&passfile=pass&sslcert=system"
    here = Path.cwd()
    assert without_password(url) == (
        f"postgresql://ada@host/shop?sslrootcert={here}/ca.pem&sslkey=/keys/my.key&passfile={here}/pass&sslcert=system"
    )
    assert not has_password(url)


NAMES = (
    'a "quoted" one',
    "back\\slash",
    "line\nbreak",
    "größe",
    "\u202eleft",
    "tab\t",
    "\x7f",
    "#",
    "'",
    "a=b",
    "[x]",
)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_toml_whatever_the_names(name: str) -> None:
    left_out = {f"{name}2": LeftOut(f"why {name}", excluded=True), "view": LeftOut("a view")}
    chosen = Table(name, (column(name), column(f"{name}_at", "timestamp")), (name,), key_chosen=True)
    found = Catalog(name, name, {name: chosen}, left_out)
    read = Settings(**tomllib.loads(settings_text(found, "postgresql://ada:secret@host/shop", (f"{name}*",))))
    assert (read.project.name, read.source.schema_) == (name, name)
    assert read.source.exclude == (f"{name}2",)
    assert read.source.tables == (f"{name}*",)
    assert read.source.keys == {name: (name,)}
    assert read.source.url.get_secret_value() == "postgresql://ada@host/shop"


@pytest.mark.parametrize("name", NAMES)
def test_statements_are_one_a_line_whatever_the_names(name: str) -> None:
    text = role_text(Catalog(name, name, {}, owners=(name,), secured=True))
    quoted = '"' + name.replace('"', '""') + '"'
    assert text.startswith("-- A role that can read ")
    assert f'GRANT CONNECT ON DATABASE {quoted} TO "totes_reader";\n' in text
    assert f"ALTER DEFAULT PRIVILEGES FOR ROLE {quoted} IN SCHEMA {quoted} GRANT SELECT ON TABLES" in text
    first = text.partition("CREATE ROLE")[0]
    assert all(line.startswith("-- ") for line in first.splitlines())


def test_when_rows_changed_is_what_most_tables_call_it() -> None:
    one = table("a", "id int key", "updated_at timestamp")
    two = table("b", "id int key", "updated_at timestamptz", "modified timestamp")
    three = table("c", "id int key", "modified date", "last_update timestamp")
    assert changed_at(catalog(one, two, three)) == "updated_at"
    assert changed_at(catalog(table("d", "id int key", "modified date"))) is None


def test_what_is_left_out_is_not_asked_for() -> None:
    found = Catalog(
        "shop", "public", {"a": table("a", "id int key")}, {"b": LeftOut("no key", excluded=True)}
    )
    read = Settings(**tomllib.loads(settings_text(found, "postgresql://host/shop", ("a", "b"))))
    assert read.source.tables == ("a",)
