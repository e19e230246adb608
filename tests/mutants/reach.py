"""Which tests reach which lines: measured with coverage for one test file at a time, and kept in build/mutants/.

A measurement is made again when its test file changes. When a source file changes, its lines are followed to where they
stand now, so that a measurement serves as long as the code does not change out of recognition.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "build" / "mutants"
PYTHON = ROOT / ".venv" / "bin" / "python"
# What runs no pipeline, or another one than that of `src/`: the package in Lambda's runtime, the benchmarks, texts.
_FAR = (
    "tests/aws/",
    "tests/mutants/",
    "tests/test_architecture.py",
    "tests/test_benchmarks.py",
    "tests/test_docs.py",
)
_SECONDS_MAX = 1800
_STATIC = re.compile(r"^.*? \((?:setup|call|teardown)\)\|?", re.DOTALL)
_CONFIGURATION = """\
[run]
source_pkgs = totes
parallel = true
data_file = ${TOTES_MUTANTS_DATA}
context = ${PYTEST_CURRENT_TEST-}
patch = _exit
"""


@dataclass(frozen=True)
class Test:
    """A test, and how many seconds it took when it was measured."""

    name: str
    seconds: float


def test_files() -> list[Path]:
    """The test files by which mutants may be noticed."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [file for file in files if not str(file.relative_to(ROOT)).startswith(_FAR)]


def measure(files: Iterable[Path], parallel: int = 2) -> None:
    """Measures test files of which there is no measurement, or one of another text."""
    PLACE.mkdir(parents=True, exist_ok=True)
    wanted = [file for file in files if not _is_measured(file)]

    def one(file: Path) -> None:
        sys.stdout.write(f"measuring which lines {file.relative_to(ROOT)} reaches …\n")
        sys.stdout.flush()
        _measure(file, _measurement(file))

    with ThreadPoolExecutor(parallel) as pool:
        list(pool.map(one, wanted))


def _is_measured(file: Path) -> bool:
    target = _measurement(file)
    return target.exists() and json.loads(target.read_text("utf-8"))["test_file"] == _digest(file)


def _measure(file: Path, target: Path) -> None:
    """Runs one test file under coverage."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sources = {str(path.relative_to(ROOT)): _keep(path) for path in (ROOT / "src").rglob("*.py")}
    digest = _digest(file)
    with tempfile.TemporaryDirectory(prefix="totes-reach-") as folder:
        configuration = Path(folder, "coveragerc")
        configuration.write_text(_CONFIGURATION, "utf-8")
        environment = os.environ | {
            "TOTES_MUTANTS_DATA": f"{folder}/data", "TOTES_MUTANTS_TIMES": f"{folder}/times",
            "COVERAGE_PROCESS_START": str(configuration),
        }  # fmt: skip
        command = [
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.mutants.contexts",
            str(file.relative_to(ROOT)),
        ]
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                timeout=_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired:
            sys.stdout.write(
                f"{file.relative_to(ROOT)} took longer than {_SECONDS_MAX} seconds; what it reached is noted\n"
            )
        times = Path(folder, "times")
        tests = {
            line["test"]: {"seconds": line["seconds"], "lines": {}}
            for line in map(json.loads, times.read_text("utf-8").splitlines() if times.exists() else ())
            if line["passed"]
        }
        for name, path, lines in _contexts(Path(folder)):
            if name in tests:
                reached = tests[name]["lines"]
                reached[path] = sorted({*reached.get(path, ()), *lines})
    content = {"test_file": digest, "sources": sources, "tests": tests}
    written = target.with_suffix(".part")
    written.write_text(json.dumps(content), "utf-8")
    written.replace(target)


def _contexts(folder: Path) -> Iterable[tuple[str, str, list[int]]]:
    """What the processes of a run have reached: test, file, lines."""
    from coverage.exceptions import DataError

    for data in folder.glob("data.*"):
        try:
            yield from list(_contexts_of(data))
        except DataError:  # the process was killed while it wrote the file
            continue


def _contexts_of(data: Path) -> Iterator[tuple[str, str, list[int]]]:
    from coverage import CoverageData

    found = CoverageData(basename=str(data))
    found.read()
    for context in found.measured_contexts():
        name = _STATIC.sub("", context) or context.rpartition(" (")[0]
        found.set_query_contexts([f"^{re.escape(context)}$"])
        for path in found.measured_files():
            lines = found.lines(path)
            if lines:
                yield name, str(Path(path).relative_to(ROOT)), lines


class Reach:
    """All measurements together."""

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], dict[int, int]] = {}

    @cached_property
    def _measurements(self) -> list[dict]:
        found = (_measurement(file) for file in test_files())
        return [json.loads(path.read_text("utf-8")) for path in found if path.exists()]

    def tests(self, path: str, lines: Sequence[int]) -> list[Test]:
        """The tests that reach one of the lines of a source file as it is now, the quickest first."""
        found = []
        for measurement in self._measurements:
            if path not in measurement["sources"]:
                continue
            now = self._moved(path, measurement["sources"][path])
            for name, test in measurement["tests"].items():
                if any(now.get(line) in lines for line in test["lines"].get(path, ())) and _is_there(name):
                    found.append(Test(name, test["seconds"]))
        return sorted(found, key=lambda test: test.seconds)

    def _moved(self, path: str, digest: str) -> dict[int, int]:
        """Where the lines of a former text of a source file stand now."""
        if (path, digest) not in self._current:
            former = (PLACE / "sources" / digest).read_text("utf-8").splitlines()
            present = (ROOT / path).read_text("utf-8").splitlines()
            blocks = difflib.SequenceMatcher(None, former, present, autojunk=False).get_matching_blocks()
            self._current[path, digest] = {
                a + offset + 1: b + offset + 1 for a, b, size in blocks for offset in range(size)
            }
        return self._current[path, digest]


def _is_there(test: str) -> bool:
    """Whether there is a test of that name still, in a file that has changed since it was measured."""
    path, _, name = test.partition("::")
    file = ROOT / path
    return file.exists() and f"def {name.partition('[')[0]}(" in _text(file)


@cache
def _text(file: Path) -> str:
    return file.read_text("utf-8")


def _measurement(file: Path) -> Path:
    return PLACE / "reach" / f"{str(file.relative_to(ROOT)).replace('/', '.')}.json"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _keep(source: Path) -> str:
    """Keeps the text of a source file, by its digest."""
    digest = _digest(source)
    kept = PLACE / "sources" / digest
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, kept)
    return digest


if __name__ == "__main__":
    measure([Path(name).resolve() for name in sys.argv[1:]] or test_files())
