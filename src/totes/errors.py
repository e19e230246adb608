"""Every error that totes raises on purpose: what was being done, to what, and the next step.

The class says how a runner should react: the exit code of the command, and whether the same call may succeed
if it is made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from totes.redaction import redact


class TotesError(Exception):
    """The base of all errors; `what` is one line for a person, `hint` the next step. No secret that is known is in them."""

    exit_code = 3
    retryable = False
    tables: frozenset[str] = frozenset()  # where it is some tables that failed, not all of a stage

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = redact(what)
        self.hint = redact(hint) if hint else None
        super().__init__(self.what)

    def __str__(self) -> str:
        if not self.hint:
            return self.what
        what = self.what.rstrip(". ")
        return f"{what} {self.hint}" if what.endswith(("?", "!")) else f"{what}. {self.hint}"


class ConfigurationError(TotesError):
    """Wrong use or wrong settings: nothing was started."""

    exit_code = 2


class ModelError(ConfigurationError):
    """A model file that cannot be understood, or that cannot be kept up to date incrementally."""

    def __init__(self, path: Path, line: int | None, what: str, *, hint: str | None = None) -> None:
        place = f"{path.parent.name}/{path.name}" + (f", line {line}" if line else "")
        super().__init__(f"{place}: {what}", hint=hint)
        self.path = path
        self.line = line


class SecretUnavailable(TotesError):
    """A secret could not be fetched just now: its service did not answer, or asked for patience."""

    retryable = True


class SourceError(TotesError):
    """The source database could not be read; usually it can be again later."""

    retryable = True


class SourceRefused(TotesError):
    """The source holds something that cannot be captured as it is, and the hint says the way out."""


class LakeOfAnotherSource(SourceRefused):
    """The lake was captured from another database: nothing of either goes to the other unless somebody says so."""


class SourceBehind(SourceError):
    """The source is a standby that has not received yet what was captured; nothing changes until it has."""


class SourceBusy(SourceError):
    """Something came between the connections of a batch; the batch begins again."""


class RunnerAtWork(TotesError):
    """Another runner reads the source for this lake; this one waits or leaves it to that one."""

    retryable = True


class TableUnreadable(SourceRefused):
    """One table of the source could not be read; the others were, and the hint says the way out."""


class TablesLeftOut(SourceRefused):
    """Tables of the source that should have been captured and could not be, each with its reason; the others were."""

    def __init__(self, failures: Mapping[str, SourceRefused]) -> None:
        reasons = [error.what for error in failures.values()]
        hints = dict.fromkeys(error.hint for error in failures.values() if error.hint)
        many = f"{len(reasons)} tables are left out: " if len(reasons) > 1 else ""
        super().__init__(many + "; ".join(reasons), hint="; ".join(hints) or None)
        self.tables = frozenset(failures)

    @classmethod
    def of(cls, failures: Mapping[str, SourceRefused]) -> TablesLeftOut | None:
        """All of them as one error; None where there is none."""
        return cls(failures) if failures else None


class StoreError(TotesError):
    """A folder or bucket of the lake could not be read or written."""

    retryable = True


class LakeDamaged(TotesError):
    """An object of the lake is missing or differs from its manifest: nothing is taken from it."""


class LakesApart(LakeDamaged):
    """The processed lake was made from another ingestion lake, so nothing of it belongs into this one's warehouse."""


class BackupRefused(TotesError):
    """The destination holds the backup of another lake, or one that this lake is behind; nothing there was changed."""


class ModelFailed(TotesError):
    """A model that was understood could not be computed over the captured tables; `model` is its name where one is to blame."""

    def __init__(self, what: str, *, hint: str | None = None, model: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.model = model
        self.tables = frozenset({model}) if model else frozenset()

    @classmethod
    def of(cls, failures: Mapping[str, ModelFailed]) -> ModelFailed | None:
        """All of them as one error; None where there is none."""
        if len(failures) < 2:
            return next(iter(failures.values()), None)
        hints = dict.fromkeys(error.hint for error in failures.values() if error.hint)
        reasons = "; ".join(error.what for error in failures.values())
        combined = cls(f"{len(failures)} models cannot be computed: {reasons}", hint="; ".join(hints) or None)
        combined.tables = frozenset(failures)
        return combined


class WarehouseError(TotesError):
    """The warehouse could not be reached or refused a statement."""

    retryable = True


class QueryTooSlow(WarehouseError):
    """A query of the warehouse took longer than it may, and was ended so that no load waits for it."""

    def __init__(self, seconds_max: float | None) -> None:
        super().__init__(
            f"the query took longer than {seconds_max:g} s and was ended"
            if seconds_max
            else "the query was ended",
            hint="Filter by a key, or ask the warehouse with a client of your own",
        )


class WarehouseRefused(TotesError):
    """The warehouse is reachable, but is not one that this lake may be loaded into."""


class EngineFault(TotesError):
    """The engine or the machine under it failed, or contradicted itself; nothing of the batch is data."""

    retryable = True


class NothingToAdopt(TotesError):
    """The source goes on from what was captured by itself: there is nothing to decide."""


class WouldLose(TotesError):
    """Applying the models would lose what nobody has agreed to lose, or what others have made; nothing was changed."""

    exit_code = 2


class BatchTaken(TotesError):
    """Another runner committed this batch number first; its batch is as good as ours."""

    retryable = True


class CommandFailed(TotesError):
    """A check that a command made did not hold."""

    exit_code = 1
