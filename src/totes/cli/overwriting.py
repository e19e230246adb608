"""Asks before a command writes over files that a person may have changed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from totes.cli.session import Session
from totes.display import count, one_line


def check_overwriting(current: Session, folder: Path, files: Mapping[str, str], *, yes: bool) -> None:
    """Makes sure that the files may be written: none is there with another content, or a person has agreed.

    Raises:
        ConfigurationError: they may not.
    """
    from totes.errors import ConfigurationError
    from totes.output_files import existing

    in_the_way = existing(folder, files)
    if in_the_way and not yes and not _agreed(current, folder, in_the_way):
        raise ConfigurationError(
            f"{count(len(in_the_way), 'file')} of {folder} would be written over ({', '.join(in_the_way[:3])}"
            f"{', …' if len(in_the_way) > 3 else ''})",
            hint="Name another folder, or add --yes",
        )


def _agreed(current: Session, folder: Path, files: list[str]) -> bool:
    """Asks whether files may be written over, where somebody can answer."""
    if current.json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for name in files:
        typer.echo(one_line(f"{folder / name} is there already"), err=True)
    return typer.confirm("Write over it?" if len(files) == 1 else "Write over them?", err=True)
