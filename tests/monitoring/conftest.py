"""The doctor over settings of a test's own, and roles that may do as little as they can."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import Database
from tests.monitoring.checks import PASSWORD, Checks
from totes.cli.app import app
from totes.terrifictotes.server import LocalServer


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Checks]:
    """Writes a settings file, runs the command over it, and gives its checks; the exit code fits them."""

    def run(url: str, **sections: dict[str, Any]) -> Checks:
        file = tmp_path / "totes.toml"
        sections = {"source": {"url": url, **sections.pop("source", {})}, **sections}
        lines = [
            f"[{n}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in s.items()) for n, s in sections.items()
        ]
        file.write_text("\n".join(lines), encoding="utf-8")
        file.chmod(0o600)
        done = CliRunner().invoke(app, ["--json", "--config", str(file), "doctor"])
        assert done.stdout, done.stderr
        document = json.loads(done.stdout)
        assert set(document) == {"ok", "checks"}
        assert done.exit_code == (0 if document["ok"] else 1), done.stderr
        assert document["ok"] is not any(check["severity"] == "error" for check in document["checks"])
        checks: Checks = {}
        for check in document["checks"]:
            assert set(check) == {"area", "name", "severity", "found", "fix", "sql"}
            assert check["severity"] == "ok" or check["fix"], check
            checks.setdefault((check["area"], check["name"]), []).append(check)
        return checks

    return run


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, Path) else value)


@pytest.fixture
def make_role(server: LocalServer) -> Iterator[Callable[..., str]]:
    """Makes a role that may log in and connect to a database, and nothing else; gives its URL there."""
    made: list[tuple[Database, str]] = []

    def make(database: Database, name: str) -> str:
        role = f"{name}_{database.name}"
        database.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
            f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {database.name} TO {role}",
        )
        made.append((database, role))
        return server.url(database.name, role, PASSWORD)

    yield make
    for database, role in made:
        database.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


MODEL = "CREATE TABLE dim_a (id INTEGER PRIMARY KEY, n VARCHAR) AS SELECT id, n FROM a"


@pytest.fixture
def small(database: Database, write_project: Any) -> dict[str, Any]:
    """The section of the settings for a project that reads the one table of the test's database."""
    database.execute("CREATE TABLE a (id int PRIMARY KEY, n text, last_updated timestamp)")
    database.execute("INSERT INTO a VALUES (1, 'x', '2026-01-01')")
    return {"project": write_project({"dim_a": MODEL})}
