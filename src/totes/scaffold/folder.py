"""The folder of a new project: what is there already, and its files, each written whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from totes.errors import ConfigurationError, ModelError
from totes.permissions import make_folders, obstacle, replace
from totes.scratch import temporary_folder
from totes.star.project import load_project


def existing(folder: Path, files: dict[str, str]) -> list[str]:
    """The files that are there already and differ from what is to be written.

    Raises:
        ConfigurationError: the folder cannot be read.
    """
    with _faults(folder):
        there = [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]
        return [
            name
            for name in there
            if not (folder / name).is_file() or (folder / name).read_bytes() != files[name].encode()
        ]


def check_others(folder: Path, files: dict[str, str]) -> list[str]:
    """Makes sure that models which are in the folder, and stay, go with those that are to be written; gives their names.

    Raises:
        ConfigurationError: they do not.
    """
    with _faults(folder):
        found = sorted(
            file for file in (folder / "models").glob("*.sql") if f"models/{file.name}" not in files
        )
        if not found:
            return []
        with temporary_folder() as tried:
            for name, text in files.items():
                (tried / name).parent.mkdir(exist_ok=True)
                (tried / name).write_text(text, encoding="utf-8")
            for file in found:
                shutil.copy(file, tried / "models" / file.name)
            if (folder / "reference").is_dir():
                shutil.copytree(folder / "reference", tried / "reference")
            try:
                load_project(folder.name, tried)
            except ModelError as error:
                raise ConfigurationError(
                    f"models that are in {folder} already do not go with the new ones: {error.what}",
                    hint=f"Move {', '.join(f'models/{file.name}' for file in found[:3])} away, or name another folder",
                ) from error
    return [f"models/{file.name}" for file in found]


def write(folder: Path, files: dict[str, str]) -> None:
    """Writes the files, in the place of those that are there.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    with _faults(folder):
        for name, text in files.items():
            make_folders((folder / name).parent)
            replace(folder / name, text.encode())


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what, step = obstacle(folder, error)
        raise ConfigurationError(what, hint=step) from error
