"""What `totes doctor --json` printed, taken apart."""

from __future__ import annotations

from typing import Any

PASSWORD = "a-readers-secret"
Checks = dict[tuple[str, str], list[dict[str, Any]]]


def listed(checks: Checks, severity: str) -> set[str]:
    """The checks of a severity, as `area: name`."""
    return {f"{a}: {n}" for (a, n), found in checks.items() if severity in {c["severity"] for c in found}}


def said(checks: Checks, area: str, name: str) -> str:
    """All that was found under a name."""
    return " | ".join(check["found"] for check in checks[area, name])


def statements(checks: Checks, *names: str) -> list[str]:
    """All statements that are shown under some names, each written as `area: name`."""
    return [s for (a, n), found in checks.items() if f"{a}: {n}" in names for c in found for s in c["sql"]]
