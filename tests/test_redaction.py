"""No secret that has been read is in any text that passes `redact`."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from totes import redaction
from totes.redaction import redact, register_secret


@pytest.fixture(autouse=True)
def _no_secrets_of_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_secrets", set())
    yield


@pytest.mark.parametrize(
    ("registered", "text"),
    [
        ("postgresql://u:s3cr3t@host/db", 'password "s3cr3t"'),
        ("postgresql://u:s3%20cr3t@host/db", 'password "s3 cr3t", written s3%20cr3t'),
        ("postgresql://u@host/db?password=s3cr3t&sslmode=require", 'password "s3cr3t"'),
        ("mailto://host?user=u&pass=s3cr3t", "pass=s3cr3t"),
        ("mailto://robot:s3cr3t@mail.example?to=a@b.example", "robot:s3cr3t"),
        ("no URL at all, s3cr3t", "it was: no URL at all, s3cr3t"),
    ],
)
def test_a_registered_secret_is_masked(registered: str, text: str) -> None:
    register_secret(registered)
    assert "3cr3t" not in redact(text)
    assert "s3 cr3t" not in redact(text)
    assert "***" in redact(text)


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


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=3))
@example("///")
@example("a@b")
def test_any_password_of_three_characters_is_masked(password: str) -> None:
    redaction._secrets.clear()
    register_secret(f"postgresql://user:{quote(password, safe='')}@host/db")
    assert password not in redact(f"<{password}>")
    assert quote(password, safe="") not in redact(f"<{quote(password, safe='')}>")
