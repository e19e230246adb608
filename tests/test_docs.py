"""The docs say what the code does: generated pages are up to date, and every sample is one that works."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from tests.modules import module_at
from totes.cli.app import app
from totes.config import Settings
from totes.errors import ModelError
from totes.star.maintainable import check_maintainable
from totes.star.model import check_columns
from totes.star.model_file import parse_model

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "requirements").glob("*.md"),
        *(ROOT / "dashboards").glob("*.md"),
    ]
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str) -> list[tuple[str, str]]:
    """Every block of that language in any page, with the page's name."""
    return [
        (name(page), text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text("utf-8"))
        if kind == language
    ]


@cache
def commands() -> set[str]:
    """All commands, `warehouse sql` being one."""
    found = set()
    for command, value in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found |= {f"{command} {child}" for child in getattr(value, "commands", {})} or {command}
    return found


def test_the_reference_is_up_to_date() -> None:
    made = module_at(ROOT / "docs" / "generate.py")
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


def unknown_commands(page: Path) -> Iterator[str]:
    """The calls of `totes` and `make` in a page that name a command, an option or a target that is not there."""
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
            if first not in known or not set(re.findall(r"--[a-z-]+", call)) <= options:
                yield f"{name(page)}: {line}"
        for target in re.findall(r"^make ([a-z]+(?: [a-z]+)*)", line):
            if not set(target.split()) <= targets:
                yield f"{name(page)}: {line}"


def test_commands_exist_with_their_options() -> None:
    wrong = [line for page in PAGES for line in unknown_commands(page)]
    assert not wrong, "\n".join(wrong)


def test_samples_of_settings_are_valid() -> None:
    samples, wrong = blocks("toml"), []
    assert samples
    for page, sample in samples:
        try:
            Settings(**tomllib.loads(sample))
        except ValueError as error:
            wrong.append(f"{page}: {error}")
    assert not wrong, "\n".join(wrong)


def test_samples_of_models_are_taken(tmp_path: Path) -> None:
    samples, wrong = [(page, sample) for page, sample in blocks("sql") if ") AS\n" in sample], []
    assert samples
    file = tmp_path / "sample.sql"
    for page, sample in samples:
        file.write_text(sample, encoding="utf-8")
        try:
            model = parse_model(file)
            check_maintainable(model)
            check_columns(model)
        except ModelError as error:
            wrong.append(f"{page}: {error}")
    assert not wrong, "\n".join(wrong)


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def dead_links(page: Path) -> Iterator[str]:
    """The links of a page that lead to nothing, or out of the repository."""
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text("utf-8"))):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = (page.parent / target).resolve() if target else page
        if not (place.exists() and place.is_relative_to(ROOT)) or (anchor and anchor not in anchors(place)):
            yield f"{name(page)}: {link}"


def test_links_within_the_repository_lead_somewhere() -> None:
    dead = [link for page in PAGES for link in dead_links(page)]
    assert not dead, "\n".join(dead)


def check_named_tests(lines: list[str]) -> None:
    """Makes sure that each line names tests, and that these are there."""
    for line in lines:
        named = re.findall(r"`(tests/\S+?\.py)::(\w+)`", line)
        assert named, line
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), (file, test)


def test_every_promise_names_tests_that_are_there() -> None:
    page = (ROOT / "docs/concepts/promises.md").read_text(encoding="utf-8")
    promises = [line for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert len(promises) >= 13
    check_named_tests(promises)


def test_every_claim_of_the_threat_model_names_tests_that_are_there() -> None:
    page = (ROOT / "docs/concepts/threat-model.md").read_text(encoding="utf-8")
    defended, tampering = page.split("## What is defended")[1].split("## Tampering with the lake")
    claims = [line for line in defended.splitlines() if re.match(r"\| \d+ \|", line)]
    claims += re.findall(r"^\| (?:an?|the) .+\|$", tampering, re.MULTILINE)
    assert len(claims) >= 13
    check_named_tests(claims)


def test_the_unit_of_systemd_leaves_a_service_little_to_do() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    command = [
        analyze,
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=20",
        ROOT / "deploy/totes.service",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown option" in done.stderr or "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot look at a unit that is not installed")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
