"""What a shell offers to complete: the names of the star's tables."""

from __future__ import annotations


def tables(incomplete: str) -> list[str]:
    """The tables that begin with what was typed. A shell is not the place for errors: without valid settings there are none."""
    from totes.config import load_settings
    from totes.errors import TotesError
    from totes.star.project import model_files

    try:
        settings = load_settings(None)
        path = settings.project.path
        files = model_files(settings.project.name, settings.path(path) if path else None)
    except TotesError:
        return []
    return [file.stem for file in files if file.stem.startswith(incomplete)]
