"""The wheel, installed where there is nothing else of the repository: it has all that the commands need, and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the repository's files."""
    place = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    [found] = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel, with its dependencies in the versions of this one."""
    place = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    [packages] = (place / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), "utf-8")
    return python.parent


def run(*command: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_it_has_what_is_not_python_and_nothing_that_is_not_its_own(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    missing = [
        str(file.relative_to(ROOT / "src"))
        for file in (ROOT / "src").rglob("*")
        if file.is_file() and file.suffix != ".pyc" and str(file.relative_to(ROOT / "src")) not in names
    ]
    assert missing == []
    assert {name.split("/")[0] for name in names} == {"totes", f"totes-{wheel.name.split('-')[1]}.dist-info"}


def test_the_demo_runs_from_it(installed: Path, tmp_path: Path) -> None:
    done = run(installed / "totes", "demo", "--orders", "100", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = run(installed / "python", "-m", "totes", "status", "--json", folder=tmp_path / "demo")
    assert again.returncode == 0, again.stderr
    where = run(installed / "python", "-c", "import totes; print(totes.__file__)", folder=tmp_path)
    assert where.stdout.startswith(str(installed.parent))


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["totes", "hist"], "history"),
        (["totes", "verify", "--sam"], "--sample"),
        (["totes", "history", "dim_sta"], "dim_staff"),
        (["totes", "replay", "--table", "fact_pay"], "fact_payment"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes_commands_options_and_tables(
    installed: Path, tmp_path: Path, words: list[str], offered: str
) -> None:
    (tmp_path / "totes.toml").write_text('source.url = "postgresql://localhost/shop"\n', "utf-8")
    script = f"""
source <("{installed}/totes" --show-completion bash)
COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}
_totes_completion "{installed}/totes"
echo "${{COMPREPLY[*]}}"
"""
    done = run("bash", "-c", script, folder=tmp_path)
    assert (done.stdout.split(), done.stderr) == ([offered], "")


def test_completion_is_silent_where_the_settings_are_wrong(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "totes.toml").write_text("source = [", "utf-8")
    words = {"COMP_WORDS": "totes history dim", "COMP_CWORD": "2", "_TOTES_COMPLETE": "complete_bash"}
    done = run(installed / "totes", folder=tmp_path, **words)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_extras_have_the_names_that_docs_and_errors_give() -> None:
    named = {
        (str(file.relative_to(ROOT)), extra)
        for folder in ("src", "docs", "infra", "deploy")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".md", ".tf", ".service")
        for extras in re.findall(r"(?:totes|\.|\.whl)\[([a-z,]+)\]", file.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert {extra for _, extra in named} == PROJECT["optional-dependencies"].keys()
