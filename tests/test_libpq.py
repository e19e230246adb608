"""Limits to waiting are added to a PostgreSQL URL, and what it says itself stays."""

from __future__ import annotations

import socket
import threading
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Database
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
    added = LIMITS | ({"sslmode": "require"} if "//host" in url or "@host" in url or "one" in url else {})
    assert conninfo_to_dict(with_limits(url)) == added | conninfo_to_dict(url)


def test_a_limit_of_the_url_is_kept() -> None:
    found = conninfo_to_dict(with_limits("postgresql://host/shop?connect_timeout=3&keepalives_idle=5"))
    assert found == LIMITS | {
        "host": "host",
        "dbname": "shop",
        "connect_timeout": "3",
        "keepalives_idle": "5",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://db.example/shop", "require"),
        ("postgresql://192.0.2.7/shop", "require"),
        ("postgresql://[2001:db8::1]/shop", "require"),
        ("postgresql://localhost,db.example/shop", "require"),
        ("postgresql://localhost/shop?hostaddr=192.0.2.7", "require"),
        ("postgresql:///shop?host=db.example", "require"),
        ("postgresql://db.example/shop?sslmode=prefer", "prefer"),
        ("postgresql://db.example/shop?sslmode=disable", "disable"),
        ("postgresql://db.example/shop?sslrootcert=system", None),
        ("postgresql://db.example/shop?service=warehouse", None),
        ("postgresql://localhost/shop", None),
        ("postgresql://127.0.0.9/shop", None),
        ("postgresql://[::1]/shop", None),
        ("postgresql:///shop?host=/run/postgresql", None),
        ("postgresql:///shop", None),
    ],
)
def test_what_leaves_this_machine_is_encrypted_unless_the_url_says_otherwise(
    url: str, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGHOST", "PGHOSTADDR"):
        monkeypatch.delenv(variable, raising=False)
    limited = with_limits(url)
    assert dict(parse_qsl(urlsplit(limited).query)).get("sslmode") == mode
    monkeypatch.setenv("PGSSLMODE", "allow")
    assert "sslmode=require" not in with_limits(url)
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGHOST", "db.example")
    assert "sslmode=require" in with_limits("postgresql:///shop")


@pytest.mark.parametrize("stage", ["source", "warehouse"])
def test_no_name_and_no_password_goes_to_a_server_elsewhere_that_denies_tls(
    stage: str, make_pipeline: Any, database: Database
) -> None:
    """By an address of this machine that is not the loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but the loopback one")
    heard: list[bytes] = []
    with socket.create_server((address, 0)) as listener:

        def deny() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    while received := client.recv(1024):
                        heard.append(received)
                        client.sendall(b"N")

        thread = threading.Thread(target=deny)
        thread.start()
        url = f"postgresql://reader:geheim-8@{address}:{listener.getsockname()[1]}/shop"
        database.execute("CREATE TABLE address (address_id int PRIMARY KEY)")
        urls = {"source": database.url, "warehouse": None} | {stage: url}
        pipeline = make_pipeline(urls["source"], urls["warehouse"])
        refused = str(pipeline.run({"source": "ingest", "warehouse": "load"}[stage]).failures.popitem()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert "SSL was required" in refused
    assert "sslmode=disable" in refused
    assert heard
    assert not any(b"reader" in each or b"geheim" in each for each in heard)
