"""Limits to waiting are added to a PostgreSQL URL, and what it says itself stays."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from totes.libpq import with_limits

LIMITS = {
    "connect_timeout": "15", "keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql://host/shop",
        "postgres://reader:a%3Fb%40c@host:5433/shop?sslmode=require&application_name=x%20y",
        "postgresql://reader:a?b@host/shop",
        "postgresql:///shop?host=/run/postgresql",
        "postgresql://one:1,two:2/shop?target_session_attrs=any",
        "postgresql://host/shop?options=-c%20search_path%3Da@b",
    ],
)
def test_a_url_keeps_all_that_it_says_and_gets_limits(url: str) -> None:
    assert conninfo_to_dict(with_limits(url)) == conninfo_to_dict(url) | LIMITS


def test_a_limit_of_the_url_is_kept() -> None:
    found = conninfo_to_dict(with_limits("postgresql://host/shop?connect_timeout=3&keepalives_idle=5"))
    assert found == LIMITS | {
        "host": "host",
        "dbname": "shop",
        "connect_timeout": "3",
        "keepalives_idle": "5",
    }
