"""A processed lake as releases wrote it that knew no field ids."""

from __future__ import annotations

import shutil

import duckdb

from totes.lake.document import StoredObject
from totes.lake.folder import digest
from totes.lake.manifest import ModelChanges
from totes.pipeline import Pipeline


def without_field_ids(pipeline: Pipeline) -> None:
    """Makes a lake in a folder, with one processed batch that is not loaded yet, what an earlier release would have written."""
    store, manifest = pipeline.processed_store, pipeline.processed_journal.read(1)
    [folder] = store.folders

    def rewritten(entry: StoredObject) -> StoredObject:
        file = folder / entry.path
        file.chmod(0o600)
        duckdb.execute(
            f"COPY (FROM read_parquet('{file}', hive_partitioning = false)) TO '{file}.new' (FORMAT parquet)"
        )
        shutil.move(f"{file}.new", file)
        sha256, size = digest(file)
        return entry.model_copy(update={"sha256": sha256, "bytes": size})

    def earlier(model: ModelChanges) -> ModelChanges:
        columns = tuple(column.model_copy(update={"field_id": 0}) for column in model.columns)
        objects = tuple(map(rewritten, model.objects))
        return model.model_copy(update={"field_ids": 0, "columns": columns, "objects": objects})

    models = {name: earlier(model) for name, model in manifest.models.items()}
    written = manifest.model_copy(update={"models": models})
    written._stored = None
    file = folder / "batches" / "000000000001.json"
    file.chmod(0o600)
    file.write_bytes(written.content())
    shutil.rmtree(pipeline.settings.cache_folder)
