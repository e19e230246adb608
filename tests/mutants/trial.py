"""A mutant's trial: the tests that reach its lines, on a copy of the repository that has it, until one fails."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.reach import PLACE, PYTHON, ROOT, Reach, Test
from tests.mutants.sites import Mutant

# Tests are taken until they took so long, together, when they were measured: those of the mutant's package, which are almost all,
# and others. Then so much time is given to each of them, for a machine with more to do than then.
_OWN_SECONDS, _OTHER_SECONDS = 120.0, 60.0
_STARTING_SECONDS, _PATIENCE = 60.0, 8.0
_COPIED = (
    "src",
    "tests",
    "docs",
    "pyproject.toml",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
)
_WRONG_USE = 4
_UNKNOWN = re.compile(r"^ERROR: not found: \S*?/(tests/\S.*)$", re.MULTILINE)
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: `killed`, `survived`, `hung` (which is killed), `unreached` by any test, or `slow` by no fault of it."""

    kind: str
    by: str = ""
    tests: int = 0
    seconds: float = 0.0

    @property
    def is_killed(self) -> bool:
        """Whether a test noticed."""
        return self.kind in ("killed", "hung")


class Tree:
    """A copy of the repository in which mutants are put, one after the other."""

    def __init__(self, number: int) -> None:
        self.folder = PLACE / f"tree-{number}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name in _COPIED:
            path = ROOT / name
            if path.is_dir():
                shutil.copytree(
                    path, self.folder / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
                )
            elif path.exists():
                shutil.copy2(path, self.folder / name)
        self._moment = int(time.time())

    def attempt(self, mutant: Mutant, reach: Reach, refused: Collection[str] = ()) -> Outcome:
        """Tries a mutant; tests that fail anyway are `refused`."""
        chosen = [test for test in chosen_tests(mutant, reach) if test.name not in refused]
        if not chosen:
            return Outcome("unreached")
        seconds_max = _STARTING_SECONDS + _PATIENCE * max(test.seconds for test in chosen)
        names, began = [test.name for test in chosen], time.monotonic()
        self._write(mutant.path, mutant.mutated)
        try:
            failed = self.run(names, seconds_max)
        finally:
            self._write(mutant.path, mutant.original)
        if failed is None:
            kind, by = ("hung", "a time-out") if self.run(names, seconds_max) == [] else ("slow", "")
        else:
            kind, by = ("killed", failed[0]) if failed else ("survived", "")
        return Outcome(kind, by, len(names), round(time.monotonic() - began, 1))

    def run(self, names: Sequence[str], seconds_max: float, *, all_of_them: bool = False) -> list[str] | None:
        """Runs tests in this order, up to the first that fails; gives those that failed, None where one took too long."""
        options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *([] if all_of_them else ["-x"])]
        process = subprocess.Popen(
            [PYTHON, "-m", "pytest", *options, *names], cwd=self.folder, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output = _output(process, seconds_max)
        if output is None:
            _end(process)
            return None
        if process.returncode == 0:
            return []
        unknown = set(_UNKNOWN.findall(output)) if process.returncode == _WRONG_USE else set()
        left = [name for name in names if not {name, name.partition("[")[0]} & unknown]
        if len(left) < len(names):  # some are parametrized otherwise since they were measured
            return self.run(left, seconds_max, all_of_them=all_of_them) if left else []
        return _FAILED.findall(output) or [f"pytest, which ended with {process.returncode}"]

    def _write(self, path: str, text: str) -> None:
        """Writes a file with a time that no other version of it had: by size and time Python knows what it compiled."""
        file = self.folder / path
        file.write_text(text, encoding="utf-8")
        self._moment += 1
        os.utime(file, (self._moment, self._moment))


def chosen_tests(mutant: Mutant, reach: Reach) -> list[Test]:
    """The tests by which a mutant has to be noticed: its package's first, the quickest of these first, as many as time allows."""
    package = mutant.path.split("/")[2]
    lines, path = _lines(mutant), mutant.path.replace(".sql", ".py")
    found = reach.tests(path, lines) or reach.tests(path, range(1, len(mutant.original.splitlines()) + 1))
    near = [test for test in found if test.name.startswith((f"tests/{package}/", "tests/contracts/"))]
    others = [test for test in found if test not in near]
    chosen: list[Test] = []
    for tests, seconds_max in ((near, _OWN_SECONDS), (others, _OTHER_SECONDS)):
        spent = 0.0
        for test in tests:
            spent += test.seconds
            if chosen and spent > seconds_max:
                break
            chosen.append(test)
    return chosen


def _lines(mutant: Mutant) -> Sequence[int]:
    """The mutant's lines; those of all that runs later, where the mutant's own run when the module is imported."""
    everything = range(1, 100_000)
    if mutant.path.endswith(".sql"):
        return everything
    inner = [
        node
        for node in ast.walk(ast.parse(mutant.original))
        if isinstance(node, ast.FunctionDef) and node.lineno <= mutant.lines[0] <= (node.end_lineno or 0)
    ]
    if inner:
        return mutant.lines
    text = mutant.original.splitlines()
    constant = re.match(r"(\w+)\b.*=", text[mutant.lines[0] - 1])
    if constant is None:  # in a class
        return everything
    used = re.compile(rf"\b{re.escape(constant.group(1))}\b")
    found = [number for number, line in enumerate(text, start=1) if used.search(line)]
    return found if len(found) > 1 else everything


def _output(process: subprocess.Popen[bytes], silence_seconds_max: float) -> str | None:
    """What it writes until it ends, a sign for each test among it; None if nothing more comes for too long."""
    assert process.stdout is not None
    output = b""
    while select.select([process.stdout], [], [], silence_seconds_max)[0]:
        more = os.read(process.stdout.fileno(), 1 << 16)
        if not more:
            process.wait()
            return output.decode()
        output += more
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends pytest so that it ends what it started; and if it does not, all of it."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def tests_digest() -> str:
    """Changes with any test: a survivor of before may be noticed now."""
    digest = hashlib.sha256()
    for file in sorted(Path(ROOT / "tests").rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
