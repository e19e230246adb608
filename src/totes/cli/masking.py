"""Prints what no command prints: wrong use, warnings and uncaught exceptions, without secrets and terminal escapes."""

from __future__ import annotations

import errno
import logging
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from totes.display import escaped, one_line
from totes.masking import mask_python
from totes.redaction import redact, register_secrets_of_text

UNWRITTEN, UNWRITTEN_HINT = "the result could not be written", "Check where standard output goes"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class CommandGroup(TyperGroup):
    """A group of commands whose wrong use is reported like any other error: one line with the next step, exit code 2."""

    def main(self, args: Any = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """Runs the command that the arguments name, and ends the process if `standalone_mode`."""
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except typer.TyperException as error:
            if not standalone_mode:
                raise
            typer.echo(_wrong_use(error), err=True)
            sys.exit(2)
        except typer.Abort:
            if not standalone_mode:
                raise
            sys.exit(130)
        except OSError as error:
            if not standalone_mode or error.errno not in _NO_ROOM:
                raise
            discard(sys.stdout)
            typer.echo(f"error: {UNWRITTEN}: {error.strerror}. {UNWRITTEN_HINT}", err=True)
            sys.exit(3)
        if not standalone_mode:
            return code
        sys.exit(code or 0)

    def invoke(self, ctx: Any) -> Any:
        """Invokes the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            raise typer.Exit(130) from None


def mask_process() -> None:
    """Masks what libraries and Python itself print on standard error, until the process ends.

    Secrets of the arguments and the environment are registered here, those of the settings when they are read.
    """
    for argument in sys.argv[1:]:
        register_secrets_of_text(argument)
    handler = logging.StreamHandler()
    handler.setFormatter(_MaskedFormatter())
    handler.setLevel(logging.WARNING)
    logging.lastResort = handler
    mask_python(lambda text: typer.echo(escaped(text), err=True, nl=False))
    logging.getLogger("py.warnings").addHandler(handler)


def open_streams() -> None:
    """Makes sure that output can be written: a closed stream is replaced, and characters that the encoding lacks are escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        else:
            getattr(sys, name).reconfigure(errors="backslashreplace")


def close_streams() -> None:
    """Flushes standard error; if it cannot be written, the exit code alone has to report what happened."""
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discards a stream's unwritten output: at exit Python would try to write it again, and end with code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _wrong_use(error: Any) -> str:
    context = getattr(error, "ctx", None)
    text = error.format_message()
    if (
        context is not None and text == context.get_help()
    ):  # a group without a command: its help is the answer
        return escaped(redact(text))
    text = text.strip().rstrip(".").replace("?.", "?")
    text += "" if text.endswith("?") else "."
    return one_line(redact(f"error: {text} See {context.command_path if context else 'totes'} --help"))


class _MaskedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(redact(super().format(record)))
