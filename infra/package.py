"""Builds the zip that the Lambda functions run: `python infra/package.py --help`, or `make lambda`.

The same sources and pins give the same bytes, whoever builds them and when. Nothing is compiled: wheels for Lambda's
system are fetched, whatever this machine is.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNZIPPED_MIB_MAX = 250  # what Lambda takes, layers included
MIB = 1 << 20
# Amazon Linux 2023, on which Lambda's Pythons run from 3.12 on, has glibc 2.34; a wheel for an older one runs there.
GLIBC_MINORS = range(34, 16, -1)
# Parts of totes that stand on the pipeline beside the handlers, and what a part has for another use.
NOT_OF_TOTES = (
    "cli", "console.py", "dashboards", "demo", "monitoring/diagnosis", "output_files.py", "scaffold", "ui", "__main__.py",
    "terrifictotes/[!_]*.py", "terrifictotes/*.sh", "terrifictotes/source", "terrifictotes/dashboards",
)  # fmt: skip
OF_MONITORING = ("__init__.py", "alerts.py", "delivery.py", "health.py", "retained_log.py")
# What is in wheels for people and compilers. A package finds its version in METADATA, so that stays.
NOT_OF_WHEELS = (
    "bin", "adbc_driver_duckdb", "**/__pycache__", "**/tests",
    "**/*.pyi", "**/py.typed", "**/*-stubs", "**/*.pyx", "**/*.pxd", "**/*.h", "**/*.c",
    "*.dist-info/RECORD", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED", "*.dist-info/sboms",
)  # fmt: skip
FROM_PYTHON_3_14 = ("backports.zstd",)  # what is in Python itself then


def main() -> None:
    """Builds the zip that the command line describes, and says where it is and how large."""
    arguments = _arguments()
    name = f"totes-{arguments.architecture}-py{arguments.python}.zip"
    target: Path = arguments.output / name
    with tempfile.TemporaryDirectory(prefix="totes-package-") as place:
        tree = Path(place)
        _install(tree, arguments.python, arguments.architecture)
        _prune(tree, NOT_OF_WHEELS)
        shutil.copytree(ROOT / "src" / "totes", tree / "totes")
        _prune(tree / "totes", (*NOT_OF_TOTES, "**/__pycache__", "py.typed"))
        for module in (tree / "totes" / "monitoring").glob("*.py"):
            if module.name not in OF_MONITORING:
                module.unlink()
        add_own(tree, arguments.project, arguments.certificates)
        unzipped = sum(file.stat().st_size for file in _files(tree))
        if unzipped > UNZIPPED_MIB_MAX * MIB:
            sys.exit(f"error: {unzipped / MIB:.1f} MiB unzipped, and Lambda takes {UNZIPPED_MIB_MAX}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write(tree, target)
    try:
        shown = target.resolve().relative_to(Path.cwd())
    except ValueError:
        shown = target
    print(f"{shown}: {target.stat().st_size / MIB:.1f} MiB, {unzipped / MIB:.1f} MiB unzipped")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Builds the zip that the Lambda functions run.")
    parser.add_argument("--python", default="3.13", help="Lambda's Python, such as 3.13")
    parser.add_argument("--architecture", default="arm64", choices=("arm64", "x86_64"))
    parser.add_argument(
        "--project", type=Path, help="a folder with models/ and reference/; it becomes project/ in the zip"
    )
    parser.add_argument(
        "--certificates",
        type=Path,
        help="a PEM file with the authorities of the databases' certificates; it becomes certificates.pem in the zip",
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "build" / "lambda", help="the folder for the zip"
    )
    arguments = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", arguments.python):
        parser.error(f"--python {arguments.python}: write a version such as 3.13")
    if arguments.project and not (arguments.project / "models").is_dir():
        parser.error(f"--project {arguments.project}: there is no folder models/ in it")
    if arguments.certificates and not arguments.certificates.is_file():
        parser.error(f"--certificates {arguments.certificates}: there is no such file")
    return arguments


def _install(tree: Path, python: str, architecture: str) -> None:
    """Puts the pinned packages into a folder, as they are for Lambda's Python, system and processor."""
    machine = {"arm64": "aarch64"}.get(architecture, architecture)
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS] + [f"manylinux2014_{machine}"]
    pinned = (ROOT / "requirements" / "lambda.txt").read_text(encoding="utf-8")
    pins = re.findall(
        r"^[\w.-]+==(?:.*\\\n)*.*\n", pinned, re.MULTILINE
    )  # a version, and the digests of its archives
    if int(python.partition(".")[2]) >= 14:
        pins = [pin for pin in pins if not pin.startswith(FROM_PYTHON_3_14)]
    wanted = tree / "requirements.txt"
    wanted.write_text("".join(pins), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
        "--target",
        str(tree),
    ]
    command += ["--no-deps", "--no-compile", "--only-binary", ":all:", "--implementation", "cp"]
    command += ["--python-version", python, *(f"--platform={platform}" for platform in platforms)]
    command += ["--require-hashes", "--requirement", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted.unlink()
    if done.returncode:
        sys.exit(
            f"error: pip could not fetch the packages for Python {python} on {architecture}:\n{done.stderr.strip()}"
        )


def _prune(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for found in list(folder.glob(pattern)):
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink(missing_ok=True)


def add_own(tree: Path, project: Path | None, certificates: Path | None) -> None:
    """Puts a project's models and reference files into the folder, and nothing else that is beside them; and certificates."""
    for part in ("models", "reference") if project else ():
        if project and (project / part).is_dir():
            shutil.copytree(project / part, tree / "project" / part)
    if certificates:
        shutil.copyfile(certificates, tree / "certificates.pem")


def _files(tree: Path) -> Iterator[Path]:
    return (path for path in tree.rglob("*") if path.is_file())


def write(tree: Path, target: Path) -> None:
    """Writes the zip: files in order, all of one date and with the same rights."""
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, file in sorted((file.relative_to(tree).as_posix(), file) for file in _files(tree)):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix: what the rights are written for
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open("rb") as content, archive.open(entry, "w") as kept:
                shutil.copyfileobj(content, kept, MIB)
    unfinished.replace(target)


if __name__ == "__main__":
    main()
