"""What is installed, and what runs on GitHub, is what was looked at: pinned by content, not by a name that can move."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

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


def test_what_is_applied_has_passed_all_checks_and_tests() -> None:
    deploy = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text("utf-8"))["jobs"]
    assert deploy["apply"]["needs"] == "check"
    assert "if" not in deploy["apply"]  # one would run it after a failure too
    assert deploy["apply"]["environment"] == "production"
    assert deploy["check"]["uses"] == "./.github/workflows/check.yml"
    check = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text("utf-8"))
    assert "workflow_call" in check[True]  # YAML takes `on` for a truth value
    assert {"check", "test"} <= set(check["jobs"])


def test_nothing_is_installed_while_there_are_credentials() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "actions" / "plan" / "action.yml").read_text("utf-8"))["runs"][
        "steps"
    ]
    [credentials] = [n for n, step in enumerate(steps) if "configure-aws-credentials" in step.get("uses", "")]
    assert "make lambda" in [step.get("run") for step in steps[:credentials]]
    after = [step["run"] for step in steps[credentials + 1 :]]
    assert [run for run in after if "make" in run] == ["make --assume-old=lambda plan"]
