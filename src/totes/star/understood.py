"""Models as they were understood, in a file: one whose text is the same need not be parsed and checked again.

The file can be deleted at any time. It belongs to one version of what reads models; with any other, it is rebuilt.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

from totes.permissions import make_folders, replace
from totes.star.column import Column
from totes.star.model import Model


class Understood:
    """The models of a project that were understood before; without a file, none.

    A model is understood by its file's text alone: what it says of other models is checked whenever a project is loaded.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._readers = readers(Path(__file__).parent) if file else ""
        self._before = known_by(self._readers, file, "models")
        self._now: dict[str, dict[str, Any]] = {}

    def model(self, path: Path, definition: str) -> Model | None:
        """The model of a file with this text; None if that was not understood before."""
        known = self._before.get(_digest(definition))
        if known is None:
            return None
        self._now[_digest(definition)] = known
        return Model(
            **{
                **known,
                "path": path,
                "definition": definition,
                "columns": tuple(Column(**column) for column in known["columns"]),
                "primary_key": tuple(known["primary_key"]),
                "relations": frozenset(known["relations"]),
            }
        )

    def add(self, model: Model) -> None:
        """Adds a model that was read and checked."""
        fields = asdict(model) | {"relations": sorted(model.relations)}
        del fields["path"], fields["definition"]
        self._now[_digest(model.definition)] = fields

    def save(self) -> None:
        """Writes the models of this project, and no others, if they are not what the file has."""
        if self._file is None or self._now == self._before:
            return
        document = {"readers": self._readers, "models": self._now}
        with suppress(OSError):  # whoever may only look at a project understands it each time
            make_folders(self._file.parent)
            replace(self._file, json.dumps(document).encode())


def _digest(definition: str) -> str:
    return sha256(definition.encode()).hexdigest()


def readers(folder: Path) -> str:
    """Identifies what understands models: the modules of this package and of a folder, sqlglot's version, and DuckDB's."""
    found = sha256(duckdb.__version__.encode())
    sqlglot = find_spec("sqlglot")
    version = Path(sqlglot.origin).with_name("_version.py") if sqlglot and sqlglot.origin else Path()
    modules = {*Path(__file__).parent.glob("*.py"), *folder.glob("*.py")}
    for file in (*sorted(modules), version):
        found.update(file.read_bytes())
    return found.hexdigest()


def known_by(readers: str, file: Path | None, section: str) -> dict[str, dict[str, Any]]:
    """What these readers have written into a section of a file; nothing of what others have, and of one that cannot be read."""
    if file is None:
        return {}
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):  # there is none, or it was not written to its end
        return {}
    is_current = isinstance(document, dict) and document.get("readers") == readers
    return dict(document[section]) if is_current else {}
