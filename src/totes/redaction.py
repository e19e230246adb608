"""Keeps secrets out of everything that is printed: each secret is registered where it is read, and masked everywhere."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

MASK = "***"
_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """Masks `value`, and when it is a URL the secrets inside it, in all text that passes `redact`."""
    if "://" not in value:
        _secrets.add(value)
        return
    password = _password(value)
    # A password that should have been percent-encoded is taken apart by those who read the URL, and told in pieces.
    for secret in (password, *re.split(r"[@/?#:\s]", password), *_query_secrets(value)):
        _secrets.update({secret, unquote(secret), quote(unquote(secret), safe="")})


def _password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    if password is None:
        match = re.search(r"://[^:/@]*:(.*)@", url, re.DOTALL)
        password = match.group(1) if match else ""
    return password


def _query_secrets(url: str) -> list[str]:
    pairs = [pair.partition("=") for pair in url.partition("?")[2].split("&")]
    return [secret for name, _, secret in pairs if re.search("pass|secret|token|key", name, re.IGNORECASE)]


def redact(text: str) -> str:
    """Gives `text` with every registered secret replaced by `***`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) >= 3:
            text = text.replace(secret, MASK)
    return text
