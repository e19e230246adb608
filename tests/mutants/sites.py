"""Where in the code a fault may be planted, and which: all of `src/totes/` that decides what the data are.

Left out by rule is what no test should hold: annotations, docstrings, log lines, the texts of errors and hints, progress
reports, failpoints, assertions for the type checker, and numbers of tuning, which change how fast and not what.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from tests.mutants.operators import OPERATORS, sql

ROOT = Path(__file__).parents[2]
# A node and what may stand instead, or a whole line of a file of SQL.
Site = tuple[cst.CSTNode, cst.CSTNode] | str
PACKAGES = ("ingestion", "lake", "star", "processing", "warehouse", "monitoring")
_SKIPPED = (cst.Annotation, cst.Import, cst.ImportFrom, cst.Assert, cst.Decorator, cst.Raise)
# What is called for people or for the tests only: the call may be missing. And whose arguments are texts for people, but not
# the call; and keywords that change neither rows nor refusals.
_SPOKEN = re.compile(r"(^|\.)(_log|logger|_?progress|_?say|reach|TypeVar|NewType)(\.\w+)?$")
_WORDED = re.compile(r"(^|\.)(_error|_refuse|fail|warn|ok|skip|Misfit|problem)$")
_SPOKEN_KEYWORDS = {"hint", "help", "prefix", "thread_name_prefix", "strict", "encoding"}
_TUNING = re.compile(
    r"_(BYTES|SECONDS|THREADS|WORKERS|ROWS|SHARE|AHEAD|MAX|MIN|GROWTH|LEVEL|PARTS|LEFT|BATCHES)(_\w+)?$"
)


@dataclass(frozen=True)
class Mutant:
    """A fault in one file: the text of the whole file with it, and where it is."""

    path: str
    lines: tuple[int, ...]
    operator: str
    original: str
    mutated: str

    @cached_property
    def diff(self) -> str:
        """What differs, as a unified diff without its heading."""
        lines = difflib.unified_diff(self.original.splitlines(), self.mutated.splitlines(), lineterm="", n=1)
        return "\n".join(list(lines)[2:])

    @cached_property
    def change(self) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        """File, lines that go, lines that come: the same wherever they stand in the file."""
        changed = [line for line in self.diff.splitlines() if not line.startswith("@@")]
        gone = tuple(line[1:].strip() for line in changed if line.startswith("-"))
        come = tuple(line[1:].strip() for line in changed if line.startswith("+"))
        return self.path, gone, come

    @cached_property
    def name(self) -> str:
        """The same as long as the file is."""
        return hashlib.sha256(f"{self.path}\0{self.original}\0{self.mutated}".encode()).hexdigest()[:16]


def sources(packages: tuple[str, ...] = PACKAGES) -> list[Path]:
    """The files in which faults are planted."""
    folders = [ROOT / "src" / "totes" / package for package in packages]
    return sorted(
        file for folder in folders for ending in ("py", "sql") for file in folder.rglob(f"*.{ending}")
    )


def sample(number: int, seed: int, packages: tuple[str, ...] = PACKAGES) -> Iterator[Mutant]:
    """Mutants chosen at random: first a line of all that have code, then one of its operators, then a mutation by that."""
    chosen, files = random.Random(seed), [_Source(path) for path in sources(packages)]
    places = [(source, line) for source in files for line in source.lines()]
    chosen.shuffle(places)
    made = 0
    for source, line in places:
        if made == number:
            return
        by_operator = source.sites(line)
        if not by_operator:
            continue
        operator = chosen.choice(sorted(by_operator))
        mutant = source.mutant(line, chosen.choice(by_operator[operator]), operator)
        if mutant is not None:
            made += 1
            yield mutant


class _Source:
    """A file, and what may be planted in it."""

    def __init__(self, file: Path) -> None:
        self.path = str(file.relative_to(ROOT))
        self.text = file.read_text("utf-8")
        self.is_python = file.suffix == ".py"

    @cached_property
    def _wrapper(self) -> MetadataWrapper:
        return MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self.text)

    def lines(self) -> list[int]:
        """The lines with code."""
        if not self.is_python:
            return [n for n, line in enumerate(self.text.splitlines(), 1) if line.partition("--")[0].strip()]
        found = {node.lineno for node in ast.walk(self._tree) if isinstance(node, ast.expr | ast.stmt)}
        return sorted(found)

    def sites(self, line: int) -> dict[str, list[Site]]:
        """What may be planted at a line, by operator."""
        if not self.is_python:
            code = self.text.splitlines()[line - 1].partition("--")[0]
            return {"sql": list(sql(code))} if any(sql(code)) else {}
        finder = _Finder(line)
        self._wrapper.visit(finder)
        return finder.sites

    def mutant(self, line: int, site: Site, operator: str) -> Mutant | None:
        """The mutant of a place; None where it is no Python, or the same program."""
        if isinstance(site, str):
            lines = self.text.splitlines(keepends=True)
            lines[line - 1] = site + lines[line - 1][len(lines[line - 1].partition("--")[0].rstrip("\n")) :]
            return Mutant(self.path, (line,), operator, self.text, "".join(lines))
        text = self._wrapper.module.deep_replace(*site).code
        try:
            tree = ast.parse(text)
        except SyntaxError:
            return None
        if ast.dump(tree) == ast.dump(self._tree):
            return None
        return Mutant(self.path, _statement(self._tree, line), operator, self.text, text)


class _Finder(cst.CSTVisitor):
    """Walks a file, and notes what may be planted at a line."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, line: int) -> None:
        super().__init__()
        self.sites: dict[str, list[Site]] = {}
        self._wanted = line
        self._line = 1
        self._lines: list[int] = []
        self._depth = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        position = self.get_metadata(PositionProvider, node, None)
        self._lines.append(self._line)
        if position is not None:
            self._line = position.start.line
        self._depth += isinstance(node, cst.FunctionDef | cst.ClassDef)
        outside = position is not None and not position.start.line <= self._wanted <= position.end.line
        if outside or self._is_left_out(node):
            return False
        if self._line == self._wanted:
            for name, kind, operator in OPERATORS:
                found = [(node, instead) for instead in operator(node)] if isinstance(node, kind) else []
                if found:
                    self.sites.setdefault(name, []).extend(found)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._depth -= isinstance(original_node, cst.FunctionDef | cst.ClassDef)
        self._line = self._lines.pop()

    def _is_left_out(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _SKIPPED) or _is_spoken(node) or _is_worded(node):
            return True
        if isinstance(node, cst.Arg):
            return node.keyword is not None and node.keyword.value in _SPOKEN_KEYWORDS
        if isinstance(node, cst.If):
            return isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"
        if not isinstance(node, cst.SimpleStatementLine):
            return False
        [first, *_] = node.body
        if isinstance(first, cst.Expr):
            return isinstance(first.value, cst.BaseString) or _is_spoken(first.value)
        named = self._depth == 0 and isinstance(first, cst.Assign)
        names = [name.value for target in first.targets for name in _names(target.target)] if named else []
        return any(name == "__all__" or _TUNING.search(name) for name in names)


def _is_spoken(node: cst.CSTNode) -> bool:
    """Whether it is a call for people or tests: a log line, a report of progress, a failpoint."""
    return isinstance(node, cst.Call) and bool(_SPOKEN.search(_called(node)))


def _is_worded(node: cst.CSTNode) -> bool:
    """Whether it is a call that matters and whose arguments do not: an error, or what makes or notes one."""
    if not isinstance(node, cst.Call):
        return False
    called = _called(node)
    return bool(_WORDED.search(called)) or called.rpartition(".")[2] in _ERRORS


def _called(node: cst.Call) -> str:
    return cst.Module([]).code_for_node(node.func)


def _names(node: cst.CSTNode) -> Iterator[cst.Name]:
    if isinstance(node, cst.Name):
        yield node
    for child in node.children:
        yield from _names(child)


def _statement(tree: ast.Module, line: int) -> tuple[int, ...]:
    """The lines of the innermost statement at a line: all of a simple one, and the heading of one that has others in it."""
    best = (line, line)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno):
            body = getattr(node, "body", None) or getattr(node, "cases", None)
            last = (
                body[0].lineno - 1
                if isinstance(body, list) and isinstance(body[0], ast.stmt)
                else node.end_lineno
            )
            last = max(last or node.lineno, node.lineno)
            if line <= last:
                best = (node.lineno, last)
    return tuple(range(best[0], best[1] + 1))


def _error_names() -> frozenset[str]:
    tree = ast.parse((ROOT / "src" / "totes" / "errors.py").read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


_ERRORS = _error_names() | {"ValueError", "TypeError", "RuntimeError", "AssertionError"}
