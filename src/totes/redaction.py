"""Masks secrets in everything that is printed: each secret is registered where it is read, and masked in all text."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "***"
_LENGTH_MIN = 3
_TOKEN_LENGTH_MIN = 12
# Environment variables with a secret that only libraries read.
_SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
_URLS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_CATALOGS = "PYICEBERG_CATALOG__"
# Connection parameters that name a file, which an error about that file has to show.
_FILES = ("passfile",)
_PARAMETER = r"(\w*(?:pass|pwd|secret|token|api_?key)\w*)\s*=\s*('(?:\\.|[^'\\])*'|[^\s&]*)"
_secrets: set[str] = set()


def register_secret(value: str, *, tokens: bool = False) -> None:
    """Registers `value`, or if it is a URL the secrets in it, to be masked in all text that passes `redact`.

    Args:
        value: a secret, or a URL or connection string with secrets in it.
        tokens: whether the URL may have secrets anywhere, as those of chat services do: then all its long parts are masked.
    """
    for secret in secrets_in(value):
        _secrets.update(_forms(secret))
    if user := re.match(r"[^:]*://([^:/@?#]*):", value):  # HTTP and SMTP send user and password together
        _secrets.update(_base64(f"{unquote(user.group(1))}:{unquote(_password(value))}"))
    if tokens:
        for part in re.split(r"[/:@?&=#,]+", value.partition("://")[2]):
            if len(part) >= _TOKEN_LENGTH_MIN and "." not in part:
                _secrets.update(_forms(part))


def register_secrets_of_text(text: str) -> None:
    """Registers the secrets of every URL and connection string in `text`, such as a settings file before it is parsed."""
    for secret in (*re.findall(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"',\]]+", text), *_named_secrets(text)):
        register_secret(secret)


def register_secrets_of_environment() -> None:
    """Registers the secrets in this process's environment: in the variables of settings, and those that libraries read."""
    for variable, value in os.environ.items():
        if variable.upper() in _SECRETS:
            register_secret(value)
        elif variable.upper().startswith(_CATALOGS):
            register_secrets_of_text(value)
            if re.search("CREDENTIAL|TOKEN|SECRET|PASSWORD", variable, re.IGNORECASE):
                register_secret(value)
                register_secret(value.partition(":")[2])  # a credential is an id and a secret
        elif variable.upper() in _URLS or variable.upper().startswith("TOTES_"):
            register_secrets_of_text(value)


def without_secrets(url: str) -> str:
    """A URL without its password and secret parameters, so that it identifies a place whatever these are."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _mask(url, secrets_in(url))
    user, at, host = parts.netloc.rpartition("@")
    query = re.sub(_PARAMETER, "", parts.query, flags=re.IGNORECASE)
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query=query).geturl()


def secrets_in(value: str) -> set[str]:
    """The secrets of a URL, as they are written there; any other `value` is a secret itself, with those that it names."""
    if "://" not in value:
        return {value, *_named_secrets(value)}
    password = _password(value)
    # A password that should have been percent-encoded is split by parsers of the URL, and may appear in pieces.
    return {password, *re.split(r"[@/?#:\s]", password), *_named_secrets(value.partition("?")[2])} - {""}


def redact(text: str) -> str:
    """Returns `text` with every registered secret replaced by `***`."""
    return _mask(text, _secrets)


def _mask(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LENGTH_MIN:
            text = text.replace(secret, MASK)
    return text


def _forms(secret: str) -> set[str]:
    """The forms in which a secret may appear: percent-encoded, escaped by Python, JSON or libpq, or in base64."""
    forms = set()
    for plain in (secret, unquote(secret)):
        forms |= {plain, quote(plain, safe=""), quote(plain), quote_plus(plain)}
        forms |= {repr(plain)[1:-1], ascii(plain)[1:-1], json.dumps(plain)[1:-1]}
        forms |= {json.dumps(plain, ensure_ascii=False)[1:-1], re.sub(r"([\\'])", r"\\\1", plain)}
        if len(plain) >= _LENGTH_MIN:
            forms |= _base64(plain)
    return forms | {re.sub("%[0-9A-F]{2}", lambda code: code.group().lower(), form) for form in forms}


def _base64(secret: str) -> set[str]:
    content = secret.encode("utf-8", "surrogateescape")
    return {base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()}


def _password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    if password is None:
        match = re.search(r"://[^:/@]*:(.*)@", url, re.DOTALL)
        password = match.group(1) if match else ""
    return password


def _named_secrets(parameters: str) -> list[str]:
    """The secrets of `password=…&sslpassword=…` and of `host=… password='…'`."""
    found = []
    for name, value in re.findall(_PARAMETER, parameters, re.IGNORECASE):
        if name.lower() not in _FILES:
            found += [value.strip("\"'"), re.sub(r"\\(.)", r"\1", value.strip("\"'"))]
    return found
