"""The folder of a new project: what is in its way, and its files, each written whole."""

from __future__ import annotations

from pathlib import Path

from totes.errors import ConfigurationError
from totes.permissions import make_folders, obstacle, replace


def existing(folder: Path, files: dict[str, str]) -> list[str]:
    """The files that are there already and differ from what is to be written."""
    found = []
    for name, text in files.items():
        file = folder / name
        if file.exists() or file.is_symlink():
            same = file.is_file() and file.read_bytes() == text.encode()
            found += [] if same else [name]
    return found


def others(folder: Path, files: dict[str, str]) -> list[str]:
    """The models in the folder that are none of those to be written."""
    return sorted(
        str(file.relative_to(folder))
        for file in (folder / "models").glob("*.sql")
        if str(file.relative_to(folder)) not in files
    )


def write(folder: Path, files: dict[str, str]) -> None:
    """Writes the files, in the place of those that are there.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        for name, text in files.items():
            file = folder / name
            make_folders(file.parent)
            replace(file, text.encode())
    except OSError as error:
        what, step = obstacle(folder, error)
        raise ConfigurationError(what, hint=step) from error
