"""No secret that has been read is in any text that passes `redact`."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import Command
from totes import log, redaction
from totes.cli.session import report
from totes.config import Settings
from totes.errors import SourceError
from totes.redaction import redact, register_secret


@pytest.mark.parametrize(
    ("registered", "text"),
    [
        ("postgresql://u:s3cr3t@host/db", 'password "s3cr3t"'),
        ("postgresql://u:s3%20cr3t@host/db", 'password "s3 cr3t", written s3%20cr3t'),
        ("postgresql://u@host/db?password=s3cr3t&sslmode=require", 'password "s3cr3t"'),
        ("mailto://host?user=u&pass=s3cr3t", "pass=s3cr3t"),
        ("mailto://robot:s3cr3t@mail.example?to=a@b.example", "robot:s3cr3t"),
        ("no URL at all, s3cr3t", "it was: no URL at all, s3cr3t"),
        ("host=db password=s3cr3t user=u", 'password "s3cr3t"'),
        ("host=db password='s3cr3t \\'x' user=u", "it was s3cr3t 'x"),
        ("postgresql://u:s3cr3t@host/db", f"Basic {b64encode(b'u:s3cr3t').decode()}"),
        ("postgresql://u:s3cr3t@host/db", b64encode(b"s3cr3t").decode()),
        ("postgresql://u:3cr3t%22%5C%C3%B6@host/db", json.dumps('3cr3t"\\ö')),
        ("postgresql://u:3cr3t%22%5C%C3%B6@host/db", ascii('3cr3t"\\ö')),
        ("postgresql://u:3cr3t%22%5C%C3%B6@host/db", "3cr3t%22%5c%c3%b6"),
    ],
)
def test_a_registered_secret_is_masked(registered: str, text: str) -> None:
    register_secret(registered)
    assert "3cr3t" not in redact(text)
    assert "s3 cr3t" not in redact(text)
    assert "M2NyM3" not in redact(text)
    assert "czNjcjN0" not in redact(text)
    assert "***" in redact(text)


def test_the_names_of_files_are_left() -> None:
    register_secret(
        "postgresql://u:s3cr3t@host/db?sslkey=/etc/totes.key&passfile=/etc/pgpass&sslpassword=geheim"
    )
    assert redact("/etc/totes.key /etc/pgpass geheim") == "/etc/totes.key /etc/pgpass ***"


def test_what_is_no_secret_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    register_secret("postgresql://reader:s3cr3t@host:5432/db?sslmode=require")
    text = "reader at host:5432/db with sslmode=require"
    assert redact(text) == text


@pytest.mark.parametrize("special", ["@", "/", "?", "#", " ", "%", ":", "[", "]", "%zz", "[x?y="])
def test_no_client_tells_a_password_that_was_not_encoded(special: str) -> None:
    url = f"postgresql://user:first{special}second@127.0.0.1:1/db?connect_timeout=1"
    register_secret(url)
    with pytest.raises(psycopg.Error) as caught:
        psycopg.connect(url)
    said = redact(str(caught.value))
    assert "first" not in said
    assert "second" not in said


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=3))
@example("///")
@example("a@b")
def test_any_password_of_three_characters_is_masked(password: str) -> None:
    redaction._secrets.clear()
    register_secret(f"postgresql://user:{quote(password, safe='')}@host/db")
    assert password not in redact(f"<{password}>")
    assert quote(password, safe="") not in redact(f"<{quote(password, safe='')}>")


def test_errors_and_tracebacks_of_commands_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("postgresql://user:s3cr3t@host/db")
    error = SourceError("the password s3cr3t\nwas refused", hint="Not s3cr3t")
    report(f"ingest: {error}", error, debug=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "error: ingest: the password *** was refused. Not ***"
    assert "SourceError: the password ***" in said.err
    assert "s3cr3t" not in said.err


def test_logs_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    register_secret("postgresql://user:s3cr3t@host/db")
    log.configure(terminal=False)
    log.logger(stage="ingest").warning("connecting with s3cr3t", url="postgresql://user:s3cr3t@host/db")
    said = capsys.readouterr().err
    assert '"url": "postgresql://user:***@host/db"' in said
    assert "s3cr3t" not in said


def test_a_client_that_repeats_the_password_does_not_do_so_through_the_command(
    totes: Callable[..., Command],
) -> None:
    url = "postgresql://user:first%zzsecond@127.0.0.1:1/db"
    for stage in ("ingest", "load"):
        done = totes(stage, TOTES_SOURCE__URL=url, TOTES_WAREHOUSE__URL=url)
        assert done.code in (0, 3)
        assert "zzsecond" not in done.out + done.err
        assert "first" not in done.out + done.err


def test_secrets_of_pyiceberg_s_own_settings_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "CREDENTIAL": "reader:s3cr3t-one",
        "TOKEN": "s3cr3t-two",
        "S3__SECRET_ACCESS_KEY": "s3cr3t-three",
        "URI": "https://u:s3cr3t-four@catalog.example",
        "WAREHOUSE": "s3://lake/iceberg",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__TOTES__{name}", value)
    redaction.register_secrets_of_environment()
    masked = redact(" ".join([*given.values(), "s3cr3t-one"]))
    assert "s3cr3t" not in masked
    assert "s3://lake/iceberg" in masked


def test_a_password_in_publish_iceberg_is_masked() -> None:
    Settings(
        source={"url": "postgresql://u@h/d"}, publish={"iceberg": "rest:https://u:s3cr3t@catalog.example"}
    )
    assert "s3cr3t" not in redact("asking https://u:s3cr3t@catalog.example failed: s3cr3t")
