"""The folder of a new project: models that are there already and stay have to go with the new ones."""

from __future__ import annotations

import shutil
from pathlib import Path

from totes.errors import ConfigurationError, ModelError
from totes.output_files import folder_faults
from totes.scratch import temporary_folder
from totes.star.project import load_project


def check_others(folder: Path, files: dict[str, str]) -> list[str]:
    """Makes sure that models which are in the folder, and stay, go with those that are to be written; gives their names.

    Raises:
        ConfigurationError: they do not.
    """
    with folder_faults(folder):
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
