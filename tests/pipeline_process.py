"""What a runner's process does: a cycle by the settings in a folder, and its health, as `totes run` does it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import structlog

import totes.cli.app
import totes.demo.story
import totes.ingestion.stage
import totes.monitoring.quarantine
import totes.monitoring.status
import totes.processing.stage
import totes.warehouse.duckdb_file
import totes.warehouse.postgresql
import totes.warehouse.stage  # noqa: F401  commands import what they need, and here it is imported once for all
from totes.config import load_settings
from totes.monitoring.alerts import watch
from totes.monitoring.health import health_file
from totes.pipeline import Pipeline

__all__ = ["cycle"]


def cycle(folder: Path, only: str | None) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs one cycle, or one stage; gives its report and what failed, by stage."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.chdir(folder)
    pipeline = Pipeline(load_settings(folder / "totes.toml"))
    done = pipeline.run(only)
    watch(pipeline.settings, done)
    assert health_file(pipeline.settings).exists()
    return done.as_json(), {stage: str(error) for stage, error in done.failures.items()}
