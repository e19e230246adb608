"""Secrets that are planted in the environment of a command, and a search for them in what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.security.planting import PLANTED, encoded, found_in

Run = Callable[..., Command]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the environment, and in the URL of alerts that cannot be sent."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for variable, value in {
        "PGPASSWORD": PLANTED["libpq"], "AWS_SECRET_ACCESS_KEY": PLANTED["aws"], "AWS_ACCESS_KEY_ID": "id",
        "AWS_SESSION_TOKEN": PLANTED["session"], "AWS_REGION": "eu-west-2", "TMPDIR": str(scratch),
        "TOTES_ALERTS__URLS": json.dumps([f"mailto://robot:{encoded('mail')}@127.0.0.1:1?mode=insecure"]),
    }.items():  # fmt: skip
        monkeypatch.setenv(variable, value)


@pytest.fixture
def run(totes: Callable[..., Command], planted: None) -> Run:
    """Runs a command, and looks for the secrets in what it says."""

    def run(*arguments: str, **environment: str) -> Command:
        done = totes(*arguments, **environment)
        assert found_in(done.out) == found_in(done.err) == set()
        return done

    return run
