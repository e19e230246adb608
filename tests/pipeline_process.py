"""What a runner's process does: a cycle by the settings in a folder, and its health, as `totes run` does it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import nanoarrow  # noqa: F401

import totes.cli.answer
import totes.cli.app
import totes.console
import totes.demo.story
import totes.ingestion.log.preparation
import totes.ingestion.stage
import totes.monitoring.diagnosis.examination
import totes.monitoring.history
import totes.monitoring.quarantine
import totes.monitoring.status
import totes.monitoring.timeline
import totes.monitoring.verdict_file
import totes.monitoring.verification
import totes.processing.bound.resolution
import totes.processing.evolution
import totes.processing.rebuild
import totes.processing.stage
import totes.publishing.catalog
import totes.scaffold.project
import totes.star.maintainable
import totes.warehouse.duckdb_file
import totes.warehouse.postgresql
import totes.warehouse.settled
import totes.warehouse.stage
import totes.warehouse.statement  # noqa: F401  commands import what they need, and here it is imported once for all
from totes.config import load_settings
from totes.monitoring.alerts import watch
from totes.monitoring.health import health_file
from totes.pipeline import Pipeline
from totes.star import functions, syntax

__all__ = ["cycle"]


def _learn() -> None:
    """Asks once for all processes which functions DuckDB has; the engine that is asked is closed before any is forked."""
    with duckdb.connect(":memory:") as asked, mock.patch.object(syntax, "parser", return_value=asked):
        functions.catalog()
        syntax._lambda_functions()


_learn()


def cycle(folder: Path, only: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs one cycle, or one stage; gives its report and what failed, by stage."""
    logging.getLogger("totes").setLevel(logging.CRITICAL)
    os.chdir(folder)
    pipeline = Pipeline(load_settings(folder / "totes.toml"))
    done = pipeline.run(only)
    watch(pipeline.settings, done)
    assert health_file(pipeline.settings).exists()
    return done.as_json(), {stage: str(error) for stage, error in done.failures.items()}
