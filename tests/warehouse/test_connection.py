"""What a warehouse's URL means."""

from __future__ import annotations

from pathlib import Path

import pytest

from totes.errors import ConfigurationError
from totes.warehouse.connection import dialect_of, duckdb_file, role_of, schema_of

BASE = Path("/project")


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("duckdb:///warehouse.duckdb", BASE / "warehouse.duckdb"),
        ("duckdb:////var/lib/warehouse.duckdb", Path("/var/lib/warehouse.duckdb")),
        ("duckdb:///a%20b%23c.duckdb", BASE / "a b#c.duckdb"),
        ("duckdb:///folder/w", BASE / "folder" / "w"),
    ],
)
def test_a_file_is_named_relative_to_the_settings_or_from_the_root(url: str, file: Path) -> None:
    assert dialect_of(url) == "duckdb"
    assert duckdb_file(url, BASE) == file
    assert (schema_of(url, ""), schema_of(url, "star"), role_of(url)) == ("main", "star", None)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_server_is_named_by_either_scheme(scheme: str) -> None:
    url = f"{scheme}://loader@host/db"
    assert dialect_of(url) == "postgresql"
    assert (schema_of(url, ""), schema_of(url, "star"), role_of(url)) == ("public", "star", "loader")
    assert role_of(f"{scheme}://host/db") is None
    assert role_of(f"{scheme}://ho st:x:y/%zz") is None


@pytest.mark.parametrize(
    "url",
    ["", "warehouse.duckdb", "duckdb://warehouse.duckdb", "duckdb:///", "duckdb:///folder/", "duckdb:///w?read_only=1",
     "duckdb:///w#x", "duckdb:warehouse", "mysql://host/db", "sqlite:///w.db"],
)  # fmt: skip
def test_any_other_url_is_refused_with_both_forms(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither duckdb:///FILE nor postgresql://"):
        dialect_of(url)
