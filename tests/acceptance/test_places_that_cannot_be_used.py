"""A place that the settings name and that cannot be used is one line: which setting, what is wrong there, what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import Database
from tests.processes import Command

MODEL = "CREATE TABLE dim_t (id INTEGER PRIMARY KEY, v VARCHAR) AS\nSELECT id, v FROM t;\n"
Totes = Callable[..., Command]
# What a URL takes apart, each within a password that nobody else has.
PASSWORDS = ("geheim@wort", "geheim/wort", "geheim@wort/mehr", "geh/eim@wort", "4711/wort", "4711/wo@rt")


@pytest.fixture
def settings(database: Database, write_project: Any) -> dict[str, str]:
    """The environment of a pipeline that works."""
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    write_project({"dim_t": MODEL})
    return {"TOTES_SOURCE__URL": database.url, "TOTES_PROJECT__PATH": "project"}


def failures(done: Command) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("error: ")]


def test_a_file_in_the_place_of_a_folder_is_named_with_its_setting(
    totes: Totes, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("x", encoding="utf-8")
    for setting, value, stages in (
        ("ingestion", "taken", ("ingest", "process")),
        ("processed", "taken/in/it", ("process", "load")),
    ):
        done = totes("run", **settings, **{f"TOTES_LAKE__{setting.upper()}": value})
        line = (
            f"the folder {tmp_path / value} cannot be used as a store: {tmp_path / 'taken'} is not a folder. "
            f"Move it away, or set lake.{setting} to another folder"
        )
        assert (done.code, failures(done)) == (3, [f"error: {stage}: {line}" for stage in stages])
    doctor = totes("doctor", **settings, TOTES_LAKE__INGESTION="taken")
    assert "Move it away, or set lake.ingestion to another folder" in doctor.out
    assert "Let this account write there" not in doctor.out
    done = totes("run", **settings, TOTES_LAKE__CACHE="taken")
    assert failures(done) == [
        "error: ingest: the cache folder taken cannot be used: taken is not a folder. "
        "Move it away, or set lake.cache to another folder"
    ]
    done = totes("backup", "taken", **settings)
    assert failures(done) == [
        f"error: the folder {tmp_path}/taken/ingestion cannot be used as a store: {tmp_path}/taken is not a folder. "
        "Move it away, or name another folder"
    ]


def test_a_folder_that_this_account_may_not_write_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    """Root may write everywhere, unless it is started without that right."""
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override"]
    prefix = without if os.geteuid() == 0 else []
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root keeps its right to write everywhere here")

    def run() -> list[str]:
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "totes", "run"],
            cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 3
        return [line for line in done.stderr.splitlines() if line.startswith("error: ")]

    lake = tmp_path / "lake"
    lake.mkdir(mode=0o500)
    assert run()[0] == (
        f"error: ingest: the folder {lake}/ingestion cannot be used as a store: this account may not write in {lake}. "
        "Let it write there, or set lake.ingestion to another folder"
    )
    lake.chmod(0o700)
    (lake / "ingestion").mkdir(mode=0o500)
    [line] = run()
    assert line.startswith(f"error: ingest: writing {lake}/ingestion/")
    assert line.endswith(
        f"failed: this account may not write in {lake}/ingestion. Let it write there, or name another folder"
    )
    (lake / "ingestion").chmod(0o700)


@pytest.mark.parametrize("command", ["run", "status", "verify"])
def test_another_kind_of_store_is_refused_before_anything_is_made(
    command: str, totes: Totes, settings: dict[str, str], tmp_path: Path
) -> None:
    a_store = "A store is a folder or s3://bucket/prefix"
    for url, step in (
        ("gs://key:geheim@bucket/lake", f"gs://… is not a store. {a_store}"),
        ("abfss://container@account/lake", f"abfss://… is not a store. {a_store}"),
        ("S3://bucket/lake", "S3://… is not a store. Write s3://bucket/prefix"),
        ("s3:/bucket/lake", "s3:/… is not a store. Write s3://bucket/prefix"),
        ("file:///lake", "file://… is not a store. Write the path of the folder alone"),
    ):
        for setting in ("INGESTION", "PROCESSED"):
            done = totes(command, **settings, **{f"TOTES_LAKE__{setting}": url})
            assert (done.code, failures(done)) == (
                2,
                [f"error: TOTES_LAKE__{setting}: lake.{setting.lower()}: {step}"],
            )
            assert "geheim" not in done.out + done.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["project"]


@pytest.mark.parametrize("stage", ["source", "warehouse"])
def test_a_password_that_a_url_takes_apart_is_said_and_not_shown(
    stage: str, totes: Totes, settings: dict[str, str], server: Any
) -> None:
    variable = f"TOTES_{stage.upper()}__URL"
    for password in PASSWORDS:
        url = f"postgresql://reader:{password}@127.0.0.1:{conninfo_to_dict(server.url())['port']}/shop"
        done = totes("run", **settings | {variable: url})
        assert (done.code, failures(done)) == (
            2,
            [
                f"error: {variable}: {stage}.url: its user or password has an @ or a / in it. "
                "Write %40 for @, %2F for /, %25 for % and %20 for a space"
            ],
        ), password
        assert not any(part in done.out + done.err for part in ("geh", "eim", "wort", "mehr", "4711"))


@pytest.mark.parametrize("stage", ["source", "warehouse"])
def test_what_else_a_url_has_to_encode_is_said_and_not_shown(
    stage: str, totes: Totes, settings: dict[str, str], database: Database
) -> None:
    for password in ("geheim%wort", "geheim wort"):
        url = f"postgresql://reader:{password}@127.0.0.1:1/shop"
        done = totes("run", **settings | {f"TOTES_{stage.upper()}__URL": url})
        [line] = failures(done)
        assert line.endswith(
            f"Write {stage}.url as postgresql://user:password@host:port/database, in user and password "
            "%40 for @, %2F for /, %25 for % and %20 for a space"
        )
        assert not any(part in done.out + done.err for part in ("geheim", "wort"))
    name = database.url.rpartition("/")[2]
    database.execute(
        f'CREATE ROLE "reader@{name}" LOGIN PASSWORD \'p@s/s:%?#[] !\'',
        f'GRANT SELECT ON t TO "reader@{name}"', f'GRANT CREATE ON SCHEMA public TO "reader@{name}"',
    )  # fmt: skip
    place = database.url.rpartition("@")[2]
    url = f"postgresql://reader%40{name}:p%40s%2Fs%3A%25%3F%23%5B%5D%20!@{place}"
    assert totes("run", **settings | {f"TOTES_{stage.upper()}__URL": url}).code == 0
