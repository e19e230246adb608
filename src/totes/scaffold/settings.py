"""The files of a project beside its models: the settings, without any password, and the statements for the source's role."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote, unquote

from totes import engine
from totes.display import one_line
from totes.errors import ConfigurationError
from totes.ingestion.reader import READER, reader_statements
from totes.redaction import secrets_in
from totes.scaffold.catalog import Catalog
from totes.scaffold.meaning import is_changed
from totes.secrets import PREFIX
from totes.urls import server_fault

_SECRETS = re.compile(r"pass(?!file)|pwd|secret|token|api_?key", re.IGNORECASE)
_COMMENT = 36  # where comments stand
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


def check_url(url: str) -> None:
    """Makes sure that a URL may be one of a source; the message does not show it.

    Raises:
        ConfigurationError: it may not.
    """
    if not url.startswith(("postgresql://", "postgres://", PREFIX)):
        raise ConfigurationError(
            f"the URL has to begin with postgresql://, postgres:// or {PREFIX}",
            hint="Write postgresql://user@host:5432/database",
        )
    if fault := server_fault(url):
        raise ConfigurationError(f"the URL cannot be read: {fault}")


def has_password(url: str) -> bool:
    """Whether a URL of PostgreSQL has a secret in it."""
    return not url.startswith(PREFIX) and bool(secrets_in(url))


def without_password(url: str) -> str:
    """A URL for the settings: without secrets, and true in whatever folder it is read.

    It is parsed as libpq does it: who logs in ends at the first `@` that stands before any `/`.
    """
    if url.startswith(PREFIX):
        return url
    scheme, _, rest = url.partition("://")
    user, at, address = rest.partition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
    place, _, query = address.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    parameters = "&".join(
        f"{name}={_found(name, value)}" for name, _, value in pairs if not _SECRETS.search(name)
    )
    return f"{scheme}://{user.partition(':')[0]}{at}{place}{'?' if parameters else ''}{parameters}"


def _found(name: str, value: str) -> str:
    """The value of a parameter; a file's with the whole of its path."""
    if name not in _FILES or value in ("", "system"):
        return value
    return quote(str(Path(unquote(value)).absolute()), safe="/")


def settings_text(catalog: Catalog, url: str, patterns: tuple[str, ...]) -> str:
    """The text of `totes.toml`.

    Args:
        catalog: what is modelled.
        url: the source's URL as it was given.
        patterns: the tables that were asked for; all if empty.
    """
    lines = [
        f"# From {one_line(catalog.database)} to its star schema. Relative paths start from this file's folder.",
        "",
        "[project]",
        f"name = {_text(catalog.database)}",
        _explained('path = "."', "models/ is here"),
        "",
        "[source]",
    ]
    if not url.startswith(PREFIX):
        lines.append(
            "# Without a password: PGPASSWORD or ~/.pgpass has it, or TOTES_SOURCE__URL all of the URL."
        )
    lines += [f"url = {_text(without_password(url))}", f"schema = {_text(catalog.schema)}"]
    patterns = tuple(pattern for pattern in patterns if pattern not in catalog.left_out)
    if patterns:
        lines.append(f"tables = [{', '.join(map(_text, patterns))}]")
    if changed := changed_at(catalog):
        lines.append(
            _explained(
                f"changed_at = {_text(changed)}", "when a row was last changed, and so its version began"
            )
        )
    excluded = {name: one.reason for name, one in sorted(catalog.left_out.items()) if one.excluded}
    if excluded:
        width = max(len(_text(name)) for name in excluded) + 1
        rows = (
            f"{_text(name)},".ljust(width) + f"  # {one_line(reason)}" for name, reason in excluded.items()
        )
        lines += ["exclude = [", *(f"    {row}" for row in rows), "]"]
    keys = {name: table.key for name, table in catalog.tables.items() if table.key_chosen}
    if keys:
        lines += ["", _explained("[source.keys]", "of tables without a primary key, what is unique")]
        lines += [f"{_text(name)} = [{', '.join(map(_text, key))}]" for name, key in keys.items()]
    lines += [
        "",
        "[lake]",
        _explained('ingestion = "lake/ingestion"', "folders, or s3://bucket/prefix"),
        'processed = "lake/processed"',
        "",
        "[warehouse]",
        _explained('url = "duckdb:///warehouse.duckdb"', "or postgresql://…"),
    ]
    return "\n".join(lines) + "\n"


def role_text(catalog: Catalog) -> str:
    """The text of `role.sql`: a role that may read what is captured, and nothing else."""
    statements = reader_statements(catalog.database, catalog.schema, catalog.owners)
    if catalog.secured:
        statements.append(f"ALTER ROLE {engine.name(READER)} BYPASSRLS")
    lines = [
        f"-- A role that can read {one_line(catalog.database)}, and nothing else. The owner of its tables runs this once;",
        f"-- then give it a password (in psql: \\password {READER}), and name it in source.url of totes.toml.",
        *(f"{statement};" for statement in statements),
    ]
    return "\n".join(lines) + "\n"


def changed_at(catalog: Catalog) -> str | None:
    """The column that says in most tables when a row was last changed, if there is one."""
    found = Counter(
        column.name
        for table in catalog.tables.values()
        for column in table.columns
        if is_changed(column) and column.type != "date"
    )
    return min(found, key=lambda name: (-found[name], name), default=None)


def _explained(line: str, what: str) -> str:
    return f"{line.ljust(_COMMENT)}  # {what}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=not value.isprintable()).replace("\x7f", "\\u007f")
