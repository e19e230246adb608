"""The zip of the Lambda functions, built once for all tests of the same sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ARCHITECTURE = "arm64" if os.uname().machine in ("arm64", "aarch64") else "x86_64"


def build(output: Path, *arguments: str) -> Path:
    """Builds the zip for this machine and its Python; skips the test where the packages cannot be fetched."""
    command = [
        sys.executable,
        ROOT / "infra" / "package.py",
        "--python",
        PYTHON,
        "--architecture",
        ARCHITECTURE,
    ]
    done = subprocess.run(
        [*command, "--output", output, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode and "connection" in done.stderr.lower():
        pytest.skip("the zip needs packages that cannot be fetched here: pip reaches no package index")
    assert done.returncode == 0, done.stderr
    return output / f"totes-{ARCHITECTURE}-py{PYTHON}.zip"


@pytest.fixture(scope="session")
def lambda_folder() -> Path:
    """A folder that all processes of the test run share; what it holds of other sources than these is removed."""
    sources = [ROOT / "infra" / "package.py", ROOT / "requirements" / "lambda.txt"]
    sources += [path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    digest = hashlib.sha256(PYTHON.encode())
    for source in sorted(sources):
        digest.update(f"{source}\0{source.stat().st_size}\0".encode() + source.read_bytes())
    folder = ROOT / "build" / "lambda-tests" / digest.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def lambda_zip(lambda_folder: Path) -> Path:
    """The zip for this machine and its Python; made once for the same sources."""
    if sys.platform != "linux":
        pytest.skip("the zip is for Lambda's Linux, and is run here as it is")
    with (lambda_folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = lambda_folder / f"totes-{ARCHITECTURE}-py{PYTHON}.zip"
        return made if made.is_file() else build(lambda_folder)
