"""Passwords that are easy to recognise, and a search for them in every form in which they could come to light."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

import duckdb

# Each has characters that URLs, SQL, Python, JSON and drivers write in other ways, and pieces that tell it.
PLANTED = {
    "source": "planted-one/plänted-two@planted-three%zz\"planted'four",
    "warehouse": "planted-five:plänted-six#planted-seven?planted\\eight[",
    "mail": "planted-mail&nine=ten+",
    "libpq": "planted-libpq eleven%20",
    "aws": "PlantedAws/Key+twelve==",
    "session": "PlantedSession/thirteen+/",
}


def encoded(secret: str) -> str:
    """The planted secret as it has to be written in a URL."""
    return quote(PLANTED[secret], safe="")


def at(port: int, role: str, database: str = "postgres", password: str = "", query: str = "") -> str:
    """The URL of a PostgreSQL on this machine; the password is the one planted for the role."""
    return f"postgresql://{role}:{password or encoded(role)}@127.0.0.1:{port}/{database}{query}"


def forms_of(secret: str) -> set[str]:
    """How a secret may be written."""
    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), secret.replace("'", "''")}
    forms |= {re.sub("%..", lambda code: code.group().lower(), form) for form in forms}
    for text in (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret), ascii(secret)):
        forms.add(text[1:-1])
    for shift, cut in ((0, 0), (1, 2), (2, 3)):  # base64 of any text that the secret is a part of
        inner = base64.b64encode(b"x" * shift + secret.encode())[cut:-4].decode()
        forms |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    forms |= set(re.split(r"[@/?#:\s]", secret))  # how drivers take apart what was not encoded
    return {form for form in forms if len(form) > 5}


NEEDLES = {form: name for name, secret in PLANTED.items() for form in forms_of(secret)}


def found_in(text: str) -> set[str]:
    """Which planted secrets a text tells, with the form in which it does."""
    return {f"{name} as {form}" for form, name in NEEDLES.items() if form in text}


def found_below(folder: Path, *, but: str = "totes.toml") -> dict[str, set[str]]:
    """The files of a folder that tell planted secrets, in their names, their bytes, or their tables' rows."""
    told = {}
    for file in (file for file in folder.rglob("*") if file.is_file() and file.name != but):
        content = file.read_bytes().decode("utf-8", "replace")
        if found := found_in(str(file)) | found_in(content) | found_in(_rows(file)):
            told[str(file)] = found
    return told


def _rows(file: Path) -> str:
    """The rows of a file in which they may be compressed."""
    if file.suffix == ".parquet":
        return str(duckdb.read_parquet(str(file)).fetchall())
    if file.suffix != ".duckdb":
        return ""
    with duckdb.connect(str(file), read_only=True) as database:
        tables = database.execute("SELECT schema_name, table_name FROM duckdb_tables()").fetchall()
        return str(
            [database.execute(f'SELECT * FROM "{schema}"."{name}"').fetchall() for schema, name in tables]
        )
