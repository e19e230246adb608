"""Every error that totes raises on purpose: what was being done, to what, and the next step.

The class says how a runner should react: the exit code of the command, and whether the same call may succeed
if it is made again.
"""

from __future__ import annotations

from pathlib import Path

from totes.redaction import redact


class TotesError(Exception):
    """The base of all errors; `what` is one line for a person, `hint` the next step. No secret that is known is in them."""

    exit_code = 3
    retryable = False

    def __init__(self, what: str, *, hint: str | None = None) -> None:
        self.what = redact(what)
        self.hint = redact(hint) if hint else None
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self.what}. {self.hint}" if self.hint else self.what


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


class StoreError(TotesError):
    """A folder or bucket of the lake could not be read or written."""

    retryable = True


class LakeDamaged(TotesError):
    """An object of the lake is missing or differs from its manifest: nothing is taken from it."""


class BackupRefused(TotesError):
    """The destination holds the backup of another lake, or one that this lake is behind; nothing there was changed."""


class ModelFailed(TotesError):
    """A model that was understood could not be computed over the captured tables."""


class WarehouseError(TotesError):
    """The warehouse could not be reached or refused a statement."""

    retryable = True


class WarehouseRefused(TotesError):
    """The warehouse is reachable, but is not one that this lake may be loaded into."""


class EngineFault(TotesError):
    """The engine or the machine under it failed, or contradicted itself; nothing of the batch is data."""

    retryable = True


class BatchTaken(TotesError):
    """Another runner committed this batch number first; its batch is as good as ours."""

    retryable = True


class CommandFailed(TotesError):
    """A check that a command made did not hold."""

    exit_code = 1
