"""The last verdict of `totes verify`, kept in the cache folder for whoever asks later."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from totes import permissions
from totes.config import Settings
from totes.display import json_line
from totes.errors import StoreError
from totes.monitoring.health import health_file
from totes.monitoring.verification import Verdict


def verdict_file(settings: Settings) -> Path:
    """Where the last verdict of a pipeline is kept: beside its health, for the same lake and warehouse."""
    health = health_file(settings)
    return health.with_name(health.name.replace("health-", "verdict-"))


def write_verdict(settings: Settings, verdict: Verdict) -> None:
    """Replaces the last verdict by one of now."""
    file = verdict_file(settings)
    document = {"at": datetime.now(UTC).isoformat(), **verdict.as_json()}
    permissions.make_folders(file.parent)
    permissions.replace(file, json_line(document).encode())


def read_verdict(settings: Settings) -> dict[str, Any] | None:
    """The last verdict: the document of `totes verify --json`, and `at`; None where there is none.

    Raises:
        StoreError: it is there, and cannot be read.
    """
    file = verdict_file(settings)
    try:
        document = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise StoreError(
            f"the last verdict in {file} cannot be read: {error.strerror}",
            hint="Let this account read and write lake.cache",
        ) from error
    return document if isinstance(document, dict) and "tables" in document else None
