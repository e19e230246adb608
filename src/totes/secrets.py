"""Settings whose value is in AWS Secrets Manager, written as `secretsmanager:NAME` or `secretsmanager:NAME?parameter=value&…`.

A secret is a URL, or a JSON object: as written by hand for totes (`PG_USER`, …), or as RDS and the rotation of Secrets Manager
write it (`username`, …). Parameters are libpq's; those behind the name come first, for a secret that others write.
"""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl, quote, urlencode

from totes.errors import ConfigurationError, SecretUnavailable
from totes.redaction import register_secret, register_secrets_of_text
from totes.urls import server_fault

PREFIX = "secretsmanager:"
# The parts of a URL by libpq's names, each with the names that it can have in a secret.
_PARTS = {
    "user": ("PG_USER", "username"),
    "password": ("PG_PASSWORD", "password"),
    "host": ("PG_HOST", "host"),
    "port": ("PG_PORT", "port"),
    "dbname": ("PG_DATABASE", "dbname"),
}
_NAMES = " or ".join(", ".join(names[number] for names in _PARTS.values()) for number in (0, 1))
# Other parameters of a connection that a secret or a setting may have; a secret may have more keys, which say nothing about it.
_PARAMETERS = re.compile(
    r"ssl[a-z]+|channel_binding|connect_timeout|gssencmode|options|target_session_attrs|keepalives.*"
)
_ENGINES = ("postgres", "postgresql", "aurora-postgresql")


def resolve_secret(value: str, setting: str) -> str:
    """Returns `value` itself, or the URL in the secret that it names.

    Args:
        value: a URL, or `secretsmanager:NAME`, which may be followed by `?` and parameters.
        setting: the setting's name, for the message.

    Raises:
        ConfigurationError: the secret cannot be fetched, or is neither a URL nor JSON with what a URL needs.
        SecretUnavailable: its service does not answer, or throttles requests.
    """
    if not value.startswith(PREFIX):
        return value
    secret_name, _, query = value.removeprefix(PREFIX).partition("?")
    parameters = _parameters(query, setting)
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{setting} names a secret of AWS Secrets Manager, and boto3 is not installed",
            hint="pip install 'totes[aws]'",
        ) from error
    try:
        # A network without a route to the service is noticed within a minute, not in five.
        patience = Config(
            connect_timeout=5, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 3}
        )
        client = boto3.client("secretsmanager", config=patience)
        secret = client.get_secret_value(SecretId=secret_name)["SecretString"]
    except Exception as error:
        if _passes(error):
            raise SecretUnavailable(
                f"{setting}: the secret {secret_name} could not be fetched ({type(error).__name__}: {error})",
                hint="Try again; if it persists, check the network route to AWS Secrets Manager",
            ) from error
        raise ConfigurationError(
            f"{setting}: the secret {secret_name} could not be fetched ({type(error).__name__}: {error})",
            hint="Check its name, the region (AWS_DEFAULT_REGION) and that secretsmanager:GetSecretValue is allowed",
        ) from error
    register_secrets_of_text(secret)
    if re.match("(postgresql|postgres|duckdb)://", secret):
        given = urlencode(parameters, quote_via=quote)
        url: str = secret + (("&" if "?" in secret else "?") + given if given else "")
    else:
        url = _url_from_parts(secret, parameters, setting, secret_name)
    register_secret(url)
    if fault := server_fault(url):
        raise ConfigurationError(f"{setting}: the secret {secret_name}: {fault}")
    return url


def _passes(error: Exception) -> bool:
    """Whether the same call may succeed later: there was no answer, a fault of the service, or throttling."""
    from botocore import exceptions

    if not isinstance(error, exceptions.ClientError):
        return isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or "Throttl" in error.response.get("Error", {}).get("Code", "")


def _parameters(query: str, setting: str) -> dict[str, str]:
    """The parameters behind a secret's name."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    known = _PARTS.keys() - {"password"}
    for name in parameters:
        if name not in known and not _PARAMETERS.fullmatch(name):
            raise ConfigurationError(
                f"{setting}: {name} is not a parameter that can follow the name of a secret",
                hint=f"Write {', '.join(sorted(known))}, sslmode, sslrootcert or another of libpq's for TLS",
            )
    return parameters


def _url_from_parts(secret: str, parameters: dict[str, str], setting: str, secret_name: str) -> str:
    try:
        found = {str(name): str(part) for name, part in dict(json.loads(secret)).items()}
    except (ValueError, TypeError):
        found = {}
    if (engine := found.get("engine", _ENGINES[0])) not in _ENGINES:
        raise ConfigurationError(
            f"{setting}: the secret {secret_name} is of a database with the engine {engine}",
            hint="Name the secret of a PostgreSQL database",
        )
    parts = {
        part: next((found[name] for name in names if name in found), "") for part, names in _PARTS.items()
    }
    parts = {"port": "5432"} | {part: value for part, value in parts.items() if value} | parameters
    missing = [part for part in _PARTS if part not in parts]
    if {"user", "password"} & set(missing):
        raise ConfigurationError(
            f"{setting}: the secret {secret_name} is neither a URL nor JSON with {_NAMES}"
        )
    if missing:
        raise ConfigurationError(
            f"{setting}: the secret {secret_name} has no {' and no '.join(missing)}",
            hint=f"Add it behind the name: {PREFIX}{secret_name}?{missing[0]}=…",
        )
    others = {name: value for name, value in (found | parameters).items() if _PARAMETERS.fullmatch(name)}
    user, password, host, port, database = (quote(parts[part], safe="") for part in _PARTS)
    query = f"?{urlencode(others, quote_via=quote)}" if others else ""
    return f"postgresql://{user}:{password}@{host}:{port}/{database}{query}"
