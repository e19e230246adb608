"""The house rules that no linter knows: which way imports go, what modules are called, and who knows what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "totes"

# A module may import what is in a layer below its own, and in its own part of its layer.
LAYERS = (
    (
        "config",
        "console",
        "deadline",
        "display",
        "engine",
        "errors",
        "failpoint",
        "libpq",
        "log",
        "masking",
        "messages",
        "output_files",
        "permissions",
        "progress",
        "redaction",
        "reused",
        "scratch",
        "secrets",
        "setting_types",
        "sqlstate",
        "urls",
    ),
    ("lake",),
    ("workers",),
    ("star",),
    ("ingestion", "processing", "warehouse", "publishing", "terrifictotes"),
    ("cycle",),
    ("pipeline",),
    ("monitoring",),
    ("dashboards", "demo", "scaffold", "ui"),
    ("cli", "aws"),
    ("__main__",),
)
# These import one another as they need; TopologicalSorter makes sure that they do not go in a circle.
GROUND = LAYERS[0]

# TerrificTotes is a project like any other; what knows it outside its folder is here, with the reason.
KNOWS_TERRIFICTOTES = {
    "config.py": "the name of the project that is built when no other is named",
    "star/project.py": "where the built-in project is",
    "cli/demo.py": "the command's help says whose data it shows",
    "demo/*.py": "the demo tells TerrificTotes' story",
}
TERRIFICTOTES = re.compile(
    r"terrific|totesys|sales_order|purchase_order|counterparty|dim_staff|fact_payment", re.IGNORECASE
)

NO_NOUNS = {"utils", "util", "common", "helpers", "helper", "types", "base", "misc", "core", "shared"}
LINES_MAX = 400

MODULES = sorted(SOURCE.rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part(module: str) -> str:
    """`totes.lake.store` is of the part `lake`; the package itself is of none."""
    return [*module.split("."), ""][1]


NAMES = {dotted(path) for path in MODULES}


def imports(path: Path) -> set[str]:
    """The modules of totes that a module imports, anywhere in it, also where only types need them."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
            found |= submodules or {str(node.module)}
    return {name for name in found if name.partition(".")[0] == "totes"}


def layer(name: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if name in parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def may_import(importer: str, imported: str) -> bool:
    own, other = part(importer), part(imported)
    if not own or not other or other == own or {own, other} <= set(GROUND):
        return True
    return layer(other) < layer(own)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{dotted(path)} imports {imported}, which is not below it"
        for path in MODULES
        for imported in sorted(imports(path))
        if not may_import(dotted(path), imported)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_part_has_its_layer() -> None:
    assert {part(name) for name in NAMES} - {""} <= {name for parts in LAYERS for name in parts}


def test_imports_make_no_circle() -> None:
    try:
        TopologicalSorter({dotted(path): imports(path) - {"totes"} for path in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' → '.join(error.args[1])}")


def test_only_its_folder_knows_terrifictotes() -> None:
    knowing = [
        path.relative_to(SOURCE)
        for path in MODULES
        if part(dotted(path)) != "terrifictotes" and TERRIFICTOTES.search(path.read_text("utf-8"))
    ]
    assert not [path for path in knowing if not any(map(path.match, KNOWS_TERRIFICTOTES))]


def test_a_stage_begins_in_stage_py() -> None:
    assert all(
        (SOURCE / stage / "stage.py").is_file()
        for stage in ("ingestion", "processing", "warehouse", "publishing")
    )


def test_a_module_is_a_noun_and_says_what_it_is_for() -> None:
    assert {name for name in NAMES if NO_NOUNS & set(name.split("."))} == set()
    assert [dotted(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_a_file_can_be_held_in_the_head() -> None:
    files = [
        file for folder in ("src", "tests", "docs", "benchmarks") for file in (ROOT / folder).rglob("*.py")
    ]
    lines = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in files}
    assert {file: count for file, count in lines.items() if count > LINES_MAX} == {}


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What of a module runs when it is imported: all but the bodies of its functions."""
    yield node
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from run_at_import(child)


def test_nothing_reads_the_environment_when_it_is_imported() -> None:
    reads = [
        f"{dotted(path)}, line {node.lineno}"
        for path in MODULES
        for node in run_at_import(tree(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]
    assert not reads, "\n".join(reads)


def test_nothing_connects_or_starts_a_program_when_it_is_imported() -> None:
    program = (
        "import importlib, sys\n"
        "def watch(event, arguments):\n"
        "    if event in ('socket.connect', 'subprocess.Popen', 'os.fork', 'os.posix_spawn'):\n"
        "        raise SystemExit(f'{event} {arguments}')\n"
        "names = sys.argv[1:]\n"
        "import duckdb, obstore, pydantic, sqlglot, typer\n"
        "sys.addaudithook(watch)\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
    )
    names = sorted(NAMES - {"totes.__main__"})
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("totes.cli.app", {"duckdb", "psycopg", "pydantic_settings", "rich", "sqlglot"}),
        ("totes.monitoring.status", {"adbc_driver_manager", "psycopg", "sqlglot"}),
        ("totes.ingestion.stage", {"nanoarrow", "rich", "sqlglot"}),
        ("totes.processing.stage", {"rich", "sqlglot"}),
        ("totes.warehouse.stage", {"psycopg", "rich", "sqlglot"}),
    ],
)
def test_what_begins_quickly_imports_nothing_that_others_need(module: str, unneeded: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert unneeded & set(done.stdout.split()) == set()
