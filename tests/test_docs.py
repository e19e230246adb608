"""The docs say what the code does: generated pages are up to date, and every sample is one that works."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

from totes.cli.app import app
from totes.config import Settings
from totes.star.maintainable import check_maintainable
from totes.star.model import check_columns, parse_model

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "requirements").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[object]:
    """Every block of that language in any page, as a parameter named for its page."""
    return [
        pytest.param(text, id=f"{name(page)}-{number}")
        for page in PAGES
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text("utf-8")))
        if kind == language
    ]


def commands() -> set[str]:
    """All commands, `warehouse sql` being one."""
    found = set()
    for command, value in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found |= {f"{command} {child}" for child in getattr(value, "commands", {})} or {command}
    return found


def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date() -> None:
    made = generator()
    stale = [page for page, make in made.PAGES.items() if (made.FOLDER / page).read_text("utf-8") != make()]
    assert not stale, "run make docs"


def test_the_readme_has_every_command() -> None:
    said = set(re.findall(r"`totes ([a-z]+(?: (?:sql|list|retry))?)", README.read_text("utf-8")))
    assert said == commands()


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    for section, field in Settings.model_fields.items():
        for key, inner in getattr(field.annotation, "model_fields", {}).items():
            assert inner.description, f"{section}.{key} has no description"
            assert f"`TOTES_{section.upper()}__{(inner.alias or key).upper()}`" in page


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist_with_their_options(page: Path) -> None:
    text = page.read_text("utf-8")
    scripts = [block for kind, block in BLOCK.findall(text) if kind in ("sh", "text", "ini")]
    written = [line for script in scripts for line in script.splitlines()]
    written += re.findall(r"`([^`\n]+)`", text)
    not_yet = set(re.findall(r"`([a-z]+)", "".join(re.findall(r"^Not there yet.*$", text, re.MULTILINE))))
    known = {command.split()[0] for command in commands()}
    options = set(re.findall(r"--[a-z-]+", (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in written:
        for call in re.findall(r"(?:^|[\s/])totes ((?:[a-z]+|--[a-z]+)[^|>#;&]*)", line):
            first = call.split()[0]
            if first.startswith("-") or first in not_yet:
                continue
            assert first in known, line
            assert set(re.findall(r"--[a-z-]+", call)) <= options, line
        for target in re.findall(r"^make ([a-z]+(?: [a-z]+)*)", line):
            assert set(target.split()) <= targets, line


@pytest.mark.parametrize("sample", blocks("toml"))
def test_samples_of_settings_are_valid(sample: str) -> None:
    assert Settings(**tomllib.loads(sample))


@pytest.mark.parametrize("sample", [s for s in blocks("sql") if ") AS\n" in s.values[0]])  # type: ignore[attr-defined]
def test_samples_of_models_are_taken(sample: str, tmp_path: Path) -> None:
    file = tmp_path / "sample.sql"
    file.write_text(sample, encoding="utf-8")
    model = parse_model(file)
    check_maintainable(model)
    check_columns(model)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text("utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), link
        assert place.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(place), link


def test_every_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "docs/concepts/promises.md").read_text(encoding="utf-8")
    promises = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(promises) == 12
    for promise in promises:
        named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)
