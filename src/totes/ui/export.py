"""The pages that need no server, as files: to be published, or opened from disk. No row's values are in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from starlette.datastructures import QueryParams

from totes.errors import ConfigurationError
from totes.ui import pages
from totes.ui.desk import Desk
from totes.ui.links import EXPORTED, FileLinks, file_of
from totes.ui.rendering import Page, Renderer, Surroundings


def export_site(desk: Desk, folder: Path) -> list[str]:
    """Writes the site into a new or empty folder; gives the names of its files.

    Raises:
        ConfigurationError: the folder has something in it, or cannot be written.
        StoreError, LakeDamaged: the lake cannot be read.
    """
    models = desk.pipeline.project.models
    whole: dict[str, Callable[[], Page]] = {
        "overview": lambda: pages.overview(desk, QueryParams()),
        "star": lambda: pages.star(desk),
        "quarantine": lambda: pages.quarantine(desk, with_values=False),
        "verify": lambda: pages.verify(desk, with_values=False),
        "plan": lambda: pages.plan(desk),
    }
    renderer, project = Renderer(), desk.pipeline.settings.project.name
    written: dict[str, str] = {}
    for name in EXPORTED:
        written[file_of(name) or ""] = renderer.html(
            pages.made(whole[name]), Surroundings(project, FileLinks())
        )
    for model in models:
        page = pages.made(lambda name=model.name: pages.table(desk, name))  # type: ignore[misc]
        written[file_of("star", model.name) or ""] = renderer.html(page, Surroundings(project, FileLinks(1)))
    written[file_of("dictionary") or ""] = json.dumps(pages.dictionary(desk), indent=2, ensure_ascii=False)
    return _write(folder, written)


def _write(folder: Path, pages_written: dict[str, str]) -> list[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty", hint="Name a new folder, or empty it")
        for name, text in pages_written.items():
            file = folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        with resources.as_file(resources.files("totes.ui") / "static") as static:
            shutil.copytree(static, folder / "static")
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}", hint="Name another folder"
        ) from error
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
