"""Masks secrets in what is printed by no command: wrong usage, warnings, and exceptions that nothing caught."""

from __future__ import annotations

import logging
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from totes.masking import mask_python
from totes.redaction import redact, register_secrets_of_text


class MaskedGroup(TyperGroup):
    """Commands of which a wrong use is told without the secrets in the arguments."""

    def invoke(self, ctx: Any) -> Any:
        """Invokes the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            if isinstance(said := getattr(error, "message", None), str):
                error.message = redact(said)
            raise


def mask_process() -> None:
    """Masks, for the rest of the process, what libraries and Python itself print on standard error.

    Secrets of the arguments and the environment are known from here on, those of the settings when they are read.
    """
    for argument in sys.argv[1:]:
        register_secrets_of_text(argument)
    unheard = logging.StreamHandler()
    unheard.setFormatter(_MaskedFormatter())
    unheard.setLevel(logging.WARNING)
    logging.lastResort = unheard
    mask_python(lambda text: typer.echo(text, err=True, nl=False))
    logging.getLogger("py.warnings").addHandler(unheard)


class _MaskedFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
