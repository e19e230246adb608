"""What docs/how-to/deploy.md has one do: its statements are run, and its targets, variables and files are those that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Database

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "deploy.md").read_text("utf-8")


def block(kind: str, containing: str) -> str:
    """The first block of a kind that contains a text."""
    blocks: list[str] = re.findall(rf"^ *```{kind}\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in blocks if containing in text)


def test_the_roles_may_do_what_the_pipeline_needs(new_database: Callable[..., Database]) -> None:
    source = new_database()
    source.execute("CREATE TABLE sold (id integer PRIMARY KEY)")
    statements = (
        block("sql", "CREATE ROLE totes_reader").replace("totes_", f"{source.name}_").replace("…", "x")
    )
    statements = statements.replace("DATABASE totesys", f"DATABASE {source.name}").replace(
        "DATABASE warehouse", f"DATABASE {source.name}_star"
    )
    with psycopg.connect(source.url, autocommit=True) as owner:
        try:
            for statement in re.sub("--.*", "", statements).split(";"):
                if statement.strip():
                    owner.execute(statement.encode())
            owner.execute("CREATE TABLE later (id integer PRIMARY KEY)")

            def connected(role: str, database: str) -> psycopg.Connection:
                given = psycopg.conninfo.conninfo_to_dict(source.url)
                user = {"user": f"{source.name}_{role}", "password": "x", "dbname": database}
                return psycopg.connect(**(given | user), autocommit=True)  # type: ignore[arg-type]

            with connected("reader", source.name) as reader:
                assert reader.execute("SELECT count(*) FROM sold NATURAL JOIN later").fetchone() == (0,)
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute("INSERT INTO sold VALUES (1)")
            with connected("loader", f"{source.name}_star") as loader:
                loader.execute(
                    "CREATE SCHEMA star; CREATE TABLE star.fact (id integer); CREATE TABLE fact (id integer)"
                )
        finally:
            owner.execute(f'DROP DATABASE IF EXISTS "{source.name}_star"')
            for role in ("reader", "loader"):
                owner.execute(f'DROP OWNED BY "{source.name}_{role}"')
                owner.execute(f'DROP ROLE "{source.name}_{role}"')


def test_each_deployment_puts_the_same_into_the_zip(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    (tmp_path / "infra" / "package.mk").write_text(block("make", "CERTIFICATES"), encoding="utf-8")
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/demo.stamp", "deploy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "--project path/to/project --certificates global-bundle.pem" in done.stdout


def test_targets_variables_and_outputs_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)\b", PAGE))
    assert targets >= {"bootstrap", "deploy", "rollback", "remove"}
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()
    declared = set(
        re.findall(r'^variable "(\w+)"', (ROOT / "infra" / "variables.tf").read_text("utf-8"), re.MULTILINE)
    )
    named = {
        "vpc",
        "settings",
        "databases",
        "kms_key_arn",
        "object_lock_days",
        "paused",
        "freshness_minutes",
        "alert_emails",
    }
    assert {name for name in named if f"`{name}" not in PAGE and f"{name} " not in PAGE} == set()
    assert named <= declared
    outputs = set(
        re.findall(r'^output "(\w+)"', (ROOT / "infra" / "outputs.tf").read_text("utf-8"), re.MULTILINE)
    )
    asked = set(re.findall(r"chdir=infra output (?:-raw |-json )?(\w+)", PAGE))
    assert asked >= {"next_steps", "settings", "security_group_id"}
    assert asked <= outputs
