"""`totes init` as people use it: what it prints, what it writes over, what it refuses, and where no password goes."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import processes
from tests.databases import Database
from tests.processes import Command
from totes.config import Settings

Totes = Callable[..., Command]
SECRET = "s3cret-Passw%23rd"
SHOP = (
    "CREATE TABLE customer (customer_id int PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE sale (sale_id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer, sold_on date NOT NULL)",
    "CREATE TABLE keyless (line text)",
    "CREATE VIEW customers AS SELECT * FROM customer",
    "INSERT INTO customer VALUES (1, 'Ada')",
    "INSERT INTO sale VALUES (1, 1, '2026-01-01')",
)
SAID = """\
{name}, schema public: 2 tables
  1 dimension    dim_customer
  1 fact         fact_sale
  calendar       dim_date, for 1 column with dates of facts
  left out       customers: a view, which has no key of its own
                 keyless: no primary key, nor a unique index without NULLs

shop has totes.toml, role.sql for a role that can only read, and 3 models.

Next:
  cd shop
  export PGPASSWORD=…    # the URL's password, which is in none of the files
  totes doctor
  totes run && totes verify
"""


@pytest.fixture
def shop(database: Database) -> Database:
    database.execute(*SHOP)
    return database


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_it_says_what_was_made_what_was_left_out_and_what_comes_next(shop: Database, totes: Totes) -> None:
    done = totes("init", shop.url, "shop")
    assert (done.code, done.err) == (0, "")
    assert done.out == SAID.format(name=shop.name)


def test_all_fits_a_terminal_of_80_columns(shop: Database, tmp_path: Path) -> None:
    done = processes.on_terminal(["init", shop.url, "shop"], tmp_path, os.environ)
    assert done.code == 0
    shown = done.out.replace("\r", "").rpartition("\x1b[?25h")[2].rpartition("\x1b[2K")[2].splitlines()
    assert len(shown) > 10
    assert max(map(len, shown)) <= 80
    assert "Next:\r\n  cd shop\r\n" in done.out


def test_the_password_is_in_no_file_and_no_output(
    shop: Database, totes: Totes, tmp_path: Path, server: Any
) -> None:
    role = f"reader_{shop.name}"
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 's3cret-Passw#rd'".encode())
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}".encode())
    try:
        address = shop.url.partition("@")[2]
        url = f"postgresql://{role}:{SECRET}@{address}?application_name=x&sslpassword=oth%65r-secret"
        done = totes("init", url, "shop")
        assert done.code == 0, done.err
        everything = done.out.encode() + done.err.encode() + b"".join(content(tmp_path / "shop").values())
        for form in (b"s3cret", b"Passw", b"other-secret", b"oth%65r"):
            assert form not in everything
        settings = tomllib.loads((tmp_path / "shop" / "totes.toml").read_text(encoding="utf-8"))
        assert settings["source"]["url"] == f"postgresql://{role}@{address}?application_name=x"
        ran = totes("run", "--json", cwd=tmp_path / "shop", PGPASSWORD="s3cret-Passw#rd")
        assert ran.code == 0, ran.err
    finally:
        with psycopg.connect(shop.url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_the_settings_hold_for_the_settings_own_rules(shop: Database, totes: Totes, tmp_path: Path) -> None:
    totes("init", shop.url, "shop")
    settings = Settings(**tomllib.loads((tmp_path / "shop" / "totes.toml").read_text(encoding="utf-8")))
    assert settings.source.exclude == ("keyless",)
    assert settings.project.name == shop.name


def test_the_role_can_do_what_a_batch_needs(
    shop: Database, totes: Totes, tmp_path: Path, server: Any
) -> None:
    totes("init", shop.url, "shop")
    statements = (tmp_path / "shop" / "role.sql").read_text(encoding="utf-8")
    shop.execute(statements, "ALTER ROLE totes_reader PASSWORD 'read-4711'")
    try:
        url = f"postgresql://totes_reader:read-4711@{shop.url.partition('@')[2]}"
        doctor = totes("doctor", "--json", cwd=tmp_path / "shop", TOTES_SOURCE__URL=url)
        assert doctor.code == 0, doctor.out
        ran = totes("run", "--json", cwd=tmp_path / "shop", TOTES_SOURCE__URL=url)
        assert ran.code == 0, ran.err
        shop.execute("CREATE TABLE later (id int PRIMARY KEY)")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)
    finally:
        shop.execute("DROP OWNED BY totes_reader", "DROP ROLE totes_reader")


def test_nothing_is_written_over_without_being_asked(shop: Database, totes: Totes, tmp_path: Path) -> None:
    assert totes("init", shop.url, "shop").code == 0
    assert totes("init", shop.url, "shop").code == 0  # the same again is no change
    mine = tmp_path / "shop" / "models" / "dim_customer.sql"
    mine.write_text(mine.read_text(encoding="utf-8") + "-- mine\n", encoding="utf-8")
    before = content(tmp_path / "shop")
    refused = totes("init", shop.url, "shop")
    assert refused.code == 2
    assert refused.err == (
        "error: 1 file of shop would be written over (models/dim_customer.sql). Name another folder, or add --yes\n"
    )
    assert content(tmp_path / "shop") == before
    assert totes("init", shop.url, "shop", "--json").code == 2
    assert totes("init", shop.url, "shop", "--yes").code == 0
    assert "-- mine" not in mine.read_text(encoding="utf-8")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_on_a_terminal_it_asks(answer: str, code: int, shop: Database, totes: Totes, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    settings = tmp_path / "shop" / "totes.toml"
    settings.write_text("# mine", encoding="utf-8")
    done = processes.on_terminal(["init", shop.url, "shop"], tmp_path, os.environ, typed=answer)
    assert done.code == code
    assert "shop/totes.toml is there already" in done.out
    assert (settings.read_text(encoding="utf-8") == "# mine") == (code == 2)
    assert (tmp_path / "shop" / "role.sql").exists() == (code == 0)


def test_models_of_ones_own_stay_if_they_go_with_the_new_ones(
    shop: Database, totes: Totes, tmp_path: Path
) -> None:
    models = tmp_path / "shop" / "models"
    models.mkdir(parents=True)
    good = "CREATE TABLE dim_mine (id INTEGER PRIMARY KEY) AS SELECT sale_id AS id FROM sale"
    (models / "mine.sql").write_text(good, encoding="utf-8")
    done = totes("init", shop.url, "shop")
    assert done.code == 0
    assert "  existing       models/mine.sql\n" in done.out
    (models / "mine.sql").write_text(good.replace("dim_mine", "dim_customer"), encoding="utf-8")
    refused = totes("init", shop.url, "shop", "--yes")
    assert refused.code == 2
    assert "models that are in shop already do not go with the new ones" in refused.err
    assert refused.err.endswith("Move models/mine.sql away, or name another folder\n")


def test_tables_says_which(shop: Database, totes: Totes, tmp_path: Path) -> None:
    done = totes("init", shop.url, "shop", "--tables", "sal*", "--tables", "keyless,customers")
    assert done.code == 0, done.err
    assert {file.name for file in (tmp_path / "shop" / "models").iterdir()} == {
        "fact_sale.sql",
        "dim_date.sql",
    }
    sale = (tmp_path / "shop" / "models" / "fact_sale.sql").read_text(encoding="utf-8")
    assert re.search(
        r"sale_id .*\n +customer_id +INTEGER NOT NULL, +-- a row of customer, which has no model\n +sold_on ",
        sale,
    )
    ran = totes("run", "--json", cwd=tmp_path / "shop", TOTES_SOURCE__URL=shop.url)
    assert ran.code == 0, ran.err
    unknown = totes("init", shop.url, "other", "--tables", "sails")
    assert unknown.code == 2
    assert unknown.err.startswith(
        "error: no table of schema public is called sails. Its tables are customer, "
    )
    assert not (tmp_path / "other").exists()


def test_the_schema_with_tables_is_found(database: Database, totes: Totes, tmp_path: Path) -> None:
    none = totes("init", database.url, "shop")
    assert (none.code, none.err) == (
        2,
        "error: the database has no tables. Check the database's name in the URL\n",
    )
    database.execute(
        'CREATE SCHEMA "My Shop"', 'CREATE TABLE "My Shop".sale (id int PRIMARY KEY, at timestamp NOT NULL)'
    )
    assert totes("init", database.url, "shop").code == 0
    assert 'schema = "My Shop"' in (tmp_path / "shop" / "totes.toml").read_text(encoding="utf-8")
    assert totes("run", "--json", cwd=tmp_path / "shop", TOTES_SOURCE__URL=database.url).code == 0
    database.execute("CREATE SCHEMA other", "CREATE TABLE other.t (id int PRIMARY KEY)")
    several = totes("init", database.url, "more")
    assert several.err == "error: schema public has no tables. Name one with --schema: My Shop and other\n"
    assert totes("init", database.url, "more", "--schema", "other").code == 0


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("postgresql://nobody@127.0.0.1:1/shop", 3, "Nothing listens there: check host and port in the URL"),
        ("{base}/nowhere", 3, "Check the database's name in the URL"),
        ("postgresql://postgres:wr0ng-one@{address}", 3, "Check user and password in the URL"),
        ("host=127.0.0.1 dbname=shop password=wr0ng-one", 2, "the URL has to begin with postgresql://"),
        ("mysql://user:wr0ng-one@127.0.0.1/shop", 2, "Write postgresql://user@host:5432/database"),
        ("postgresql://user:wr0ng@one@127.0.0.1/shop", 2, "its user or password has an @ or a / in it"),
        ("secretsmanager:shop", 2, "URL: the secret shop could not be fetched|boto3 is not installed"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_there_is_an_error_with_the_next_step(
    url: str, code: int, message: str, database: Database, totes: Totes, tmp_path: Path
) -> None:
    base, address = database.url.rpartition("/")[0], database.url.partition("@")[2]
    done = totes(
        "init",
        url.format(base=base, address=address),
        "shop",
        PGPASSWORD="",
        AWS_EC2_METADATA_DISABLED="true",
    )
    assert done.code == code, done.err
    assert any(one in done.err for one in message.split("|")), done.err
    assert "wr0ng" not in done.out + done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "shop").exists()


def test_what_cannot_be_captured_at_all_says_why(database: Database, totes: Totes) -> None:
    database.execute("CREATE TABLE keyless (line text)", "CREATE TABLE other (line text)")
    done = totes("init", database.url, "shop")
    assert done.code == 3
    assert "no table of schema public can be captured: public.keyless has no primary key" in done.err


def test_what_the_role_may_not_see_is_left_out_and_stays_in_sight(
    shop: Database, totes: Totes, tmp_path: Path
) -> None:
    role = f"narrow_{shop.name}"
    shop.execute(
        "CREATE TABLE hidden (id int PRIMARY KEY)", "CREATE TABLE secured (id int PRIMARY KEY)",
        "ALTER TABLE secured ENABLE ROW LEVEL SECURITY", f"CREATE ROLE {role} LOGIN PASSWORD 'narrow-4711'",
        f"GRANT SELECT ON customer, sale, secured TO {role}",
    )  # fmt: skip
    try:
        url = f"postgresql://{role}:narrow-4711@{shop.url.partition('@')[2]}"
        done = totes("init", url, "shop", "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["left_out"] == {
            "customers": "a view, which has no key of its own", "hidden": "the role may not read it",
            "keyless": "the role may not read it", "secured": "row-level security hides rows from the role",
        }  # fmt: skip
        settings = tomllib.loads((tmp_path / "shop" / "totes.toml").read_text(encoding="utf-8"))
        assert "exclude" not in settings["source"]
        ran = totes("run", "--json", cwd=tmp_path / "shop", PGPASSWORD="narrow-4711")
        assert ran.code == 0, ran.err
        doctor = totes("doctor", cwd=tmp_path / "shop", PGPASSWORD="narrow-4711")
        assert doctor.code == 0
        assert 'GRANT SELECT ON "public"."hidden"' in doctor.out
    finally:
        shop.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_folder_that_cannot_be_written_is_named(shop: Database, totes: Totes, tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("a file", encoding="utf-8")
    done = totes("init", shop.url, "shop")
    assert (done.code, done.err) == (2, "error: shop is not a folder. Move it away, or name another folder\n")


def test_the_working_directory_is_the_folder_by_default(shop: Database, totes: Totes, tmp_path: Path) -> None:
    done = totes("init", shop.url)
    assert done.code == 0
    assert "  cd " not in done.out
    assert (tmp_path / "models" / "fact_sale.sql").is_file()
