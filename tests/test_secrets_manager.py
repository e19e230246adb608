"""Databases' URLs from AWS Secrets Manager: what a secret may look like, and what follows its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest

from totes.config import Settings, load_settings
from totes.errors import ConfigurationError, SecretUnavailable
from totes.redaction import redact


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Settings]:
    """Reads settings from a file with this text."""

    def load(text: str) -> Settings:
        file = tmp_path / "folder" / "totes.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return load_settings(file)

    return load


def test_a_secret_may_be_a_url(load: Callable[[str], Settings], secrets: dict[str, str]) -> None:
    secrets |= {
        "totes/source": "postgresql://u:from-aws-1@db/totesys",
        "totes/star": "postgresql://u:from-aws-2@db/star",
    }
    settings = load(
        '[source]\nurl = "secretsmanager:totes/source"\n[warehouse]\nurl = "secretsmanager:totes/star"\n'
    )
    assert settings.source_url() == "postgresql://u:from-aws-1@db/totesys"
    assert settings.warehouse_url() == "postgresql://u:from-aws-2@db/star"
    assert redact("from-aws-1 and from-aws-2") == "*** and ***"


def test_a_secret_may_be_json_with_the_parts_of_a_url(
    load: Callable[[str], Settings], secrets: dict[str, str]
) -> None:
    parts = {
        "PG_USER": "total user",
        "PG_PASSWORD": "p@ss://w/rd",
        "PG_HOST": "db",
        "PG_PORT": 5432,
        "PG_DATABASE": "tote sys",
    }
    secrets["totes"] = json.dumps(parts)
    settings = load('[source]\nurl = "secretsmanager:totes"\n')
    assert settings.source_url() == "postgresql://total%20user:p%40ss%3A%2F%2Fw%2Frd@db:5432/tote%20sys"
    assert redact("p@ss://w/rd or p%40ss%3A%2F%2Fw%2Frd") == "*** or ***"


# As RDS and the rotation of Secrets Manager write a secret, and what RDS writes for a database's own administrator.
ROTATED = {
    "engine": "postgres", "host": "shop.rds.example", "username": "reader", "password": "p/w?&#", "dbname": "shop",
    "port": 5433, "dbInstanceIdentifier": "shop", "masterarn": "arn:aws:secretsmanager:eu-west-2:123456789012:secret:m",
}  # fmt: skip
VERIFIED = "sslmode=verify-full&sslrootcert=/var/task/certificates.pem"


@pytest.mark.parametrize(
    ("secret", "parameters", "url"),
    [
        (ROTATED, "", "postgresql://reader:p%2Fw%3F%26%23@shop.rds.example:5433/shop"),
        (ROTATED, f"?{VERIFIED}", f"postgresql://reader:p%2Fw%3F%26%23@shop.rds.example:5433/shop?{VERIFIED}"),
        (
            ROTATED | {"sslmode": "require"},
            "?host=replica&dbname=x",
            "postgresql://reader:p%2Fw%3F%26%23@replica:5433/x?sslmode=require",
        ),
        (ROTATED | {"sslmode": "require"}, "?sslmode=verify-full",
         "postgresql://reader:p%2Fw%3F%26%23@shop.rds.example:5433/shop?sslmode=verify-full"),
        ({"username": "u", "password": "p"}, "?host=db&dbname=d", "postgresql://u:p@db:5432/d"),
        ("postgresql://u:p@db/d", f"?{VERIFIED}", f"postgresql://u:p@db/d?{VERIFIED}"),
        ("postgresql://u:p@db/d?sslmode=require", "?sslmode=verify-full",
         "postgresql://u:p@db/d?sslmode=require&sslmode=verify-full"),
    ],
)  # fmt: skip
def test_a_secret_may_be_one_that_rds_rotates_and_parameters_follow_its_name(
    load: Callable[[str], Settings], secrets: dict[str, str], secret: Any, parameters: str, url: str
) -> None:
    secrets["totes"] = secret if isinstance(secret, str) else json.dumps(secret)
    found = load(f'[source]\nurl = "secretsmanager:totes{parameters}"\n').source_url()
    assert _as_libpq_reads(found) == _as_libpq_reads(url)


def _as_libpq_reads(url: str) -> dict[str, Any]:
    return dict(psycopg.conninfo.conninfo_to_dict(url))


@pytest.mark.parametrize(
    ("secret", "parameters", "said"),
    [
        ({"username": "u", "password": "p"}, "", "has no host and no dbname. Add it behind the name: secretsmanager:totes?host=…"),
        (ROTATED | {"engine": "mysql"}, "", "is of a database with the engine mysql"),
        (ROTATED, "?password=x", "password is not a parameter"),
        (ROTATED, "?ssl_mode=x", "ssl_mode is not a parameter"),
    ],
)  # fmt: skip
def test_a_secret_that_says_too_little_or_the_wrong_thing_is_refused(
    load: Callable[[str], Settings], secrets: dict[str, str], secret: Any, parameters: str, said: str
) -> None:
    secrets["totes"] = json.dumps(secret)
    with pytest.raises(ConfigurationError) as caught:
        load(f'[source]\nurl = "secretsmanager:totes{parameters}"\n').source_url()
    assert said in str(caught.value)
    assert "p/w" not in str(caught.value)


def test_a_secret_that_a_url_takes_apart_is_refused_and_not_shown(
    load: Callable[[str], Settings], secrets: dict[str, str]
) -> None:
    secrets["totes"] = "postgresql://reader:geheim@wort@db:5432/shop"
    with pytest.raises(ConfigurationError) as caught:
        load('[source]\nurl = "secretsmanager:totes"\n').source_url()
    assert str(caught.value) == (
        "source.url: the secret totes: its user or password has an @ or a / in it. "
        "Write %40 for @, %2F for /, %25 for % and %20 for a space"
    )


@pytest.mark.parametrize("secret", ["just text", "{}", '{"PG_USER": "u"}', "[1]", '"text"'])
def test_a_secret_of_another_kind_is_refused_and_not_shown(
    load: Callable[[str], Settings], secrets: dict[str, str], secret: str
) -> None:
    secrets["totes"] = secret
    with pytest.raises(ConfigurationError) as caught:
        load('[source]\nurl = "secretsmanager:totes"\n').source_url()
    assert str(caught.value) == (
        "source.url: the secret totes is neither a URL nor JSON with PG_USER, PG_PASSWORD, PG_HOST, PG_PORT, PG_DATABASE"
        " or username, password, host, port, dbname"
    )


def test_a_secret_that_is_not_there_is_named(
    load: Callable[[str], Settings], secrets: dict[str, str]
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"source\.url: the secret totes could not be fetched"
    ) as caught:
        load('[source]\nurl = "secretsmanager:totes"\n').source_url()
    assert "secretsmanager:GetSecretValue" in (caught.value.hint or "")
    assert secrets == {}


def test_a_secret_whose_service_does_not_answer_may_be_there_later(
    load: Callable[[str], Settings], secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SecretUnavailable, match=r"source\.url: the secret totes could not be fetched"):
        load('[source]\nurl = "secretsmanager:totes"\n').source_url()
