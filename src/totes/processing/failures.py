"""Turns the engine's errors over a batch's rows into ones that name the batch, and the model where one failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from totes.errors import ModelFailed
from totes.lake.manifest import IngestionManifest
from totes.messages import message
from totes.star.model import Model


@contextmanager
def failures_of(manifest: IngestionManifest, model: Model | None = None) -> Iterator[None]:
    """Names a batch in errors, and the model whose query fails without showing for which row.

    Raises:
        ModelFailed: the engine failed.
    """
    try:
        yield
    except (duckdb.DataError, duckdb.ProgrammingError) as error:
        what = f"batch {manifest.batch} cannot be processed: {message(error)}"
        if model is None:
            raise ModelFailed(what) from error
        raise ModelFailed(
            f"{model.path.parent.name}/{model.path.name}: {what}",
            hint="Fix the query; the other tables go on, and this one's history is computed when it can be",
            model=model.name,
        ) from error
