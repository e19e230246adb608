"""Keeps secrets out of everything that is printed: each secret is registered where it is read, and masked everywhere."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

MASK = "***"
_secrets: set[str] = set()


def register_secret(value: str) -> None:
    """Masks `value`, and the password inside it when it is a URL, in all text that passes `redact`."""
    if "://" in value:
        try:
            password = urlsplit(value).password
        except ValueError:
            password = None
            _secrets.add(value)
        if password:
            _secrets.update({password, unquote(password), quote(unquote(password), safe="")})
        for pair in urlsplit(value).query.split("&") if "?" in value else ():
            name, _, secret = pair.partition("=")
            if "password" in name.lower() and secret:
                _secrets.update({secret, unquote(secret)})
    elif value:
        _secrets.add(value)


def redact(text: str) -> str:
    """Gives `text` with every registered secret replaced by `***`."""
    for secret in sorted(_secrets, key=len, reverse=True):
        if len(secret) >= 3:
            text = text.replace(secret, MASK)
    return text
