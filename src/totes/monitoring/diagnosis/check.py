"""Checks of `totes doctor`: their findings, collected by area so that a failing check does not hide the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import adbc_driver_manager
import duckdb
import psycopg

from totes.errors import TotesError
from totes.messages import message
from totes.redaction import redact

Severity = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One finding.

    An `error` would stop a batch or make it wrong; a `warning` is something that people should know. `fix` describes what
    to do, and `sql` has the statements that do it, ready to run in the database that the area names.
    """

    area: str
    name: str
    severity: Severity
    found: str
    fix: str | None = None
    sql: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """All checks, by area in the order of the data flow."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.of("error")

    def of(self, severity: Severity) -> list[Check]:
        """The checks of a severity."""
        return [check for check in self.checks if check.severity == severity]

    def as_json(self) -> dict[str, object]:
        """The object that `totes doctor --json` prints."""
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


@dataclass
class Area:
    """The checks of one area."""

    name: str
    checks: list[Check] = field(default_factory=list)

    def ok(self, name: str, found: str) -> None:
        """Records that something is as it should be."""
        self._add(name, "ok", found)

    def warn(self, name: str, found: str, fix: str, *sql: str) -> None:
        """Records something that does not stop a batch but should be known."""
        self._add(name, "warning", found, fix, sql)

    def fail(self, name: str, found: str, fix: str, *sql: str) -> None:
        """Records something that would stop a batch or make it wrong."""
        self._add(name, "error", found, fix, sql)

    def skip(self, name: str, because: str) -> None:
        """Records that something could not be checked."""
        self._add(
            name, "warning", f"not checked: {because}", "Correct that first, and run totes doctor again"
        )

    @contextmanager
    def checking(
        self, name: str, doing: str, fix: str = "Correct that, and run totes doctor again"
    ) -> Iterator[None]:
        """Records an exception within the context as the finding of a check."""
        try:
            yield
        except TotesError as error:
            self.fail(name, error.what, error.hint or fix)
        except (psycopg.Error, adbc_driver_manager.Error, duckdb.Error, OSError) as error:
            self.fail(name, f"{doing} failed: {message(error)}", fix)

    def failed(self, name: str) -> bool:
        """Whether a check with that name is an error."""
        return any(check.name == name and check.severity == "error" for check in self.checks)

    def _add(self, name: str, severity: Severity, found: str, fix: str | None = None, sql: Any = ()) -> None:
        one_line = redact(" ".join(found.split()))
        statements = tuple(redact(statement) for statement in sql)
        self.checks.append(
            Check(self.name, name, severity, one_line, redact(fix) if fix else None, statements)
        )


def some(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
