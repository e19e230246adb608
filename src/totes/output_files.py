"""Files that a command writes into a folder of a person's: what would be written over, and each file written whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from totes.errors import ConfigurationError
from totes.permissions import make_folders, obstacle, replace


def existing(folder: Path, files: Mapping[str, str]) -> list[str]:
    """The files that are there already and differ from what is to be written.

    Raises:
        ConfigurationError: the folder cannot be read.
    """
    with folder_faults(folder):
        there = [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]
        return [
            name
            for name in there
            if not (folder / name).is_file() or (folder / name).read_bytes() != files[name].encode()
        ]


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Writes the files, in the place of those that are there.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    with folder_faults(folder):
        for name, text in files.items():
            make_folders((folder / name).parent)
            replace(folder / name, text.encode())


@contextmanager
def folder_faults(folder: Path) -> Iterator[None]:
    """Reports what the system refuses in a folder as the error of a wrong use.

    Raises:
        ConfigurationError: the system refused something.
    """
    try:
        yield
    except OSError as error:
        what, step = obstacle(folder, error)
        raise ConfigurationError(what, hint=step) from error
