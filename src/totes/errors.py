"""Every error that totes raises on purpose: what was being done, to what, and the next step.

The class determines how a runner reacts: with which exit code the command ends, and whether the same call may succeed
later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from totes.redaction import redact


class TotesError(Exception):
    """The base of all errors; `what` is one line for a person, `hint` the next step. Known secrets are masked in both."""

    exit_code = 3
    retryable = False
    tables: frozenset[str] = frozenset()  # the tables that failed; empty if the stage as a whole did

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = redact(what)
        self.hint = redact(hint) if hint else None
        super().__init__(self.what)

    def __str__(self) -> str:
        if not self.hint:
            return self.what
        what = self.what.rstrip(". ")
        return f"{what} {self.hint}" if what.endswith(("?", "!")) else f"{what}. {self.hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[TotesError], arguments: tuple[Any, ...], state: dict[str, Any]) -> TotesError:
    """An error as it was, whatever its class is made with."""
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


class ConfigurationError(TotesError):
    """Wrong use or wrong settings: nothing was started."""

    exit_code = 2


class ModelError(ConfigurationError):
    """A model file is invalid, or cannot be maintained incrementally."""

    def __init__(self, path: Path, line: int | None, what: str, *, hint: str | None = None) -> None:
        place = f"{path.parent.name}/{path.name}" + (f", line {line}" if line else "")
        super().__init__(f"{place}: {what}", hint=hint)
        self.path = path
        self.line = line


class SecretUnavailable(TotesError):
    """A secret could not be fetched: its service did not answer, or throttled the request."""

    retryable = True


class SourceError(TotesError):
    """The source database could not be read; this usually passes."""

    retryable = True


class SourceRefused(TotesError):
    """The source has something that cannot be captured as it is; the hint describes what to do."""


class LakeOfAnotherSource(SourceRefused):
    """The lake was captured from another database; nothing is captured unless that one is adopted."""


class SourceBehind(SourceError):
    """The source is a standby that has not received yet all that was captured; nothing is captured until it has."""


class SourceBusy(SourceError):
    """A schema change came between the connections of a batch; the batch starts over."""


class RunnerAtWork(TotesError):
    """Another runner is reading the source for this lake; this one waits or leaves it to that one."""

    retryable = True


class TableUnreadable(SourceRefused):
    """One table of the source could not be read, while the others were; the hint describes what to do."""


class TablesLeftOut(SourceRefused):
    """Tables of the source should have been captured and could not be, each with its reason; the others were."""

    def __init__(self, failures: Mapping[str, SourceRefused]) -> None:
        reasons = [error.what for error in failures.values()]
        hints = dict.fromkeys(error.hint for error in failures.values() if error.hint)
        many = f"{len(reasons)} tables are left out: " if len(reasons) > 1 else ""
        super().__init__(many + "; ".join(reasons), hint="; ".join(hints) or None)
        self.tables = frozenset(failures)

    @classmethod
    def of(cls, failures: Mapping[str, SourceRefused]) -> TablesLeftOut | None:
        """All of them as one error; None if there are none."""
        return cls(failures) if failures else None


class StoreError(TotesError):
    """A folder or bucket of the lake could not be read or written."""

    retryable = True


class StoreRefused(StoreError):
    """The folder or bucket denies access, or there is no such bucket: trying again does not help."""

    retryable = False


class LakeDamaged(TotesError):
    """An object of the lake is missing or does not match its manifest; it is not used."""


class LakesApart(LakeDamaged):
    """The processed lake was made from another ingestion lake; nothing of it is loaded."""


class BackupRefused(TotesError):
    """The destination has a backup of another lake, or one that is ahead of this lake; nothing there was changed."""


class ModelFailed(TotesError):
    """A valid model could not be computed over the captured tables; `model` is its name, if it is one model's fault."""

    def __init__(self, what: str, *, hint: str | None = None, model: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.model = model
        self.tables = frozenset({model}) if model else frozenset()

    @classmethod
    def of(cls, failures: Mapping[str, ModelFailed]) -> ModelFailed | None:
        """All of them as one error; None if there are none."""
        if len(failures) < 2:
            return next(iter(failures.values()), None)
        hints = dict.fromkeys(error.hint for error in failures.values() if error.hint)
        reasons = "; ".join(error.what for error in failures.values())
        combined = cls(f"{len(failures)} models cannot be computed: {reasons}", hint="; ".join(hints) or None)
        combined.tables = frozenset(failures)
        return combined


class WarehouseError(TotesError):
    """The warehouse could not be reached, or refused a statement."""

    retryable = True


class QueryTooSlow(WarehouseError):
    """A query of the warehouse took longer than it may, and was ended."""

    retryable = False

    def __init__(self, seconds_max: float | None) -> None:
        super().__init__(
            f"the query took longer than {seconds_max:g} s and was ended"
            if seconds_max
            else "the query was ended",
            hint="Filter by a key, or ask the warehouse with a client of your own",
        )


class StatementRefused(TotesError):
    """A statement is not one query that only reads, or the warehouse does not understand it; it was not run."""

    exit_code = 2


class WarehouseRefused(TotesError):
    """The warehouse can be reached, but this lake may not be loaded into it."""


class CatalogError(TotesError):
    """The Iceberg catalog, or the storage of its metadata, failed; the warehouse is loaded all the same."""

    retryable = True


class CatalogRefused(TotesError):
    """The Iceberg catalog can be reached, but this lake may not be published there."""


class EngineFault(TotesError):
    """The engine or the machine failed, or the engine returned inconsistent results; the batch was not committed."""

    retryable = True


class NothingToAdopt(TotesError):
    """The source is the database that the lake follows already: there is nothing to adopt."""


class WouldLose(TotesError):
    """Applying the models would lose data without confirmation, or objects of others; nothing was changed."""

    exit_code = 2


class WorkersFailed(TotesError):
    """The cluster that large work runs on cannot be reached, or gave a task up; nothing was committed."""

    retryable = True


class BatchConflict(TotesError):
    """Another runner committed this batch number first; its batch stands for this one too."""

    retryable = True


class CommandFailed(TotesError):
    """A check that a command made failed."""

    exit_code = 1
