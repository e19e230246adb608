"""What is installed, and what runs on GitHub, is what was looked at: pinned by content, not by a name that can move."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


def test_every_pinned_version_stands_with_digests_and_nothing_says_where_to_get_it() -> None:
    assert {file.stem for file in REQUIREMENTS} >= {"runtime", "lambda", "dev", "checkov", "mutants"}
    for file in REQUIREMENTS:
        text = file.read_text("utf-8").replace("\\\n", "")
        for line in text.splitlines():
            if not line.startswith(("#", "-r ")):
                assert re.fullmatch(
                    r"[\w.-]+(\[[\w,]+\])?==[\w.+!-]+( +;[^-]*)?( +--hash=sha256:[0-9a-f]{64})+ *", line
                ), f"{file.name}: {line[:80]}"


def test_make_installs_nothing_that_is_pinned_without_its_digests() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    verified = "--require-hashes --only-binary :all:"
    assert f"VERIFIED := {verified}\n" in makefile
    installs = [
        line
        for line in makefile.splitlines()
        if re.search(r"install .*--requirement|PIP.*--requirement", line)
    ]
    assert len(installs) >= 6
    assert [
        line for line in installs if "$(VERIFIED)" not in line and "benchmarks/peers.txt" not in line
    ] == []


def test_actions_are_pinned_to_commits() -> None:
    used = [line for file in WORKFLOWS for line in re.findall(r"uses: (.*)", file.read_text("utf-8"))]
    others = [action for action in used if not action.startswith("./")]
    assert others
    assert [action for action in others if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)] == []
