"""Projects that `totes init` makes for the schemas beside this file, and what the other commands say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases import Database
from tests.processes import Command

SCHEMAS = Path(__file__).parent / "schemas"


@dataclass
class Made:
    """A project in a folder for the database at a URL; `said` is what `totes init --json` printed."""

    folder: Path
    said: dict[str, Any]
    url: str
    totes: Callable[..., Command]

    def model(self, name: str) -> str:
        """The text of a model."""
        return (self.folder / "models" / f"{name}.sql").read_text(encoding="utf-8")

    @property
    def models(self) -> set[str]:
        """The names of all models."""
        return {file.stem for file in (self.folder / "models").glob("*.sql")}

    def run(self, *arguments: str) -> Command:
        """Runs a command in the folder, as somebody does who was told to set PGPASSWORD."""
        password = self.url.partition("://")[2].partition("@")[0].partition(":")[2]
        return self.totes(*arguments, cwd=self.folder, PGPASSWORD=password)

    def works(self) -> dict[str, Any]:
        """Makes sure that it runs and verifies as it is; gives what `totes verify` counted, by table."""
        doctor = json.loads(self.run("doctor", "--json").out)
        wrong = [(one["name"], one["found"]) for one in doctor["checks"] if one["severity"] == "error"]
        assert wrong == [], wrong
        run = self.run("run", "--json")
        assert run.code == 0, run.err
        assert json.loads(run.out)["quarantined"] == 0
        verify = self.run("verify", "--json")
        assert verify.code == 0, verify.out
        return {name: table["compared"] for name, table in json.loads(verify.out)["tables"].items()}


def make(database: Database, folder: Path, totes: Callable[..., Command], *options: str) -> Made:
    """Makes a project for a database with `totes init`."""
    done = totes("init", database.url, str(folder), "--json", *options)
    assert done.code == 0, done.err
    return Made(folder, json.loads(done.out), database.url, totes)
