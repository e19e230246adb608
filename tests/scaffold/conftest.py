"""Databases with the schemas beside this file, and projects made for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import Database
from tests.processes import Command
from tests.scaffold import projects


@pytest.fixture
def project(
    new_database: Callable[..., Database], tmp_path: Path, totes: Callable[..., Command]
) -> Callable[..., projects.Made]:
    """Makes a project for a schema by its name, with options of `totes init`."""

    def made(schema: str, *options: str) -> projects.Made:
        database = new_database()
        database.execute((projects.SCHEMAS / f"{schema}.sql").read_text(encoding="utf-8"))
        return projects.make(database, tmp_path / schema, totes, *options)

    return made
