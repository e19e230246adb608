"""Finds faults in URLs of the settings, and describes them without showing the URL, which may contain a password or key."""

from __future__ import annotations

import re

ENCODE = "%40 for @, %2F for /, %25 for % and %20 for a space"


def store_fault(url: str) -> str | None:
    """Why a text is neither a folder nor `s3://…`; None if it may be one of them."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}", url)  # a single letter would be a drive
    if not found or url.startswith("s3://"):
        return None
    scheme = found.group(1).lower()
    step = {"s3": "Write s3://bucket/prefix", "file": "Write the path of the folder alone"}.get(
        scheme, "A store is a folder or s3://bucket/prefix"
    )
    return f"{found.group()}… is not a store. {step}"


def server_fault(url: str) -> str | None:
    """Why libpq would connect to another server than a PostgreSQL URL means; None if it would not.

    libpq ends the password at the first `@`, and the host at the first `/`.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        return None
    authority, _, after = url.partition("://")[2].partition("/")
    path = after.partition("?")[0]
    user_ends_early = authority.partition("?")[0].count("@") > 1
    no_database = "@" in path and "/" in path.rpartition("@")[2]
    no_port = "@" in path and "@" not in authority and not re.search(r":\d*$|^[^:]*$", authority)
    if user_ends_early or no_database or no_port:
        return f"its user or password has an @ or a / in it. Write {ENCODE}"
    return None
