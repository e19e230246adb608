"""Settings whose value is in AWS Secrets Manager, written as `secretsmanager:NAME`."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from totes.errors import ConfigurationError, SecretUnavailable
from totes.redaction import register_secret, register_secrets_of_text
from totes.urls import server_fault

PREFIX = "secretsmanager:"
_PARTS = ("PG_USER", "PG_PASSWORD", "PG_HOST", "PG_PORT", "PG_DATABASE")


def resolve_secret(value: str, setting: str) -> str:
    """Returns `value` itself, or the URL in the secret that it names.

    Args:
        value: a URL, or `secretsmanager:NAME`; the secret is a URL, or JSON with PG_USER, PG_PASSWORD, PG_HOST,
            PG_PORT and PG_DATABASE.
        setting: the setting's name, for the message.

    Raises:
        ConfigurationError: the secret cannot be fetched, or is neither.
        SecretUnavailable: its service does not answer, or throttles requests.
    """
    if not value.startswith(PREFIX):
        return value
    secret_name = value.removeprefix(PREFIX)
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
    known = re.match("(postgresql|postgres|duckdb)://", secret)
    url = secret if known else _url_from_parts(secret, setting, secret_name)
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


def _url_from_parts(secret: str, setting: str, secret_name: str) -> str:
    try:
        parts = json.loads(secret)
        user, password, host, port, database = (quote(str(parts[part]), safe="") for part in _PARTS)
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{setting}: the secret {secret_name} is neither a URL nor JSON with {', '.join(_PARTS)}"
        ) from None
    return f"postgresql://{user}:{password}@{host}:{port}/{database}"
