"""What publishing refuses, and what an operator is told: other lakes, tables of others, objects that are gone, no PyIceberg."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Database, rows_of, run_cleanly
from tests.faults import kiosk
from tests.publishing.readers import ICEBERG, check, published
from totes.errors import CatalogRefused, LakeDamaged
from totes.monitoring.diagnosis.examination import diagnose
from totes.pipeline import Pipeline
from totes.publishing.catalog import Catalog


@pytest.mark.iceberg
def test_a_catalog_with_another_lake_is_left_alone(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any, tmp_path: Path
) -> None:
    database.execute(kiosk.STATES[0])
    project, shared = write_project(kiosk.MODELS), {"iceberg": f"sql:sqlite:///{tmp_path}/shared.db"}
    first = make_pipeline(database.url, project=project, publish=shared)
    run_cleanly(first)
    other = make_pipeline(database.url, folder=tmp_path / "other", project=project, publish=shared)
    failures = other.run().failures
    assert isinstance(failures["publish"], CatalogRefused)
    assert "has batch 1 of another lake" in str(failures["publish"])
    assert rows_of(other, "SELECT count(*) FROM dim_region") == [(3,)]
    check(first)


@pytest.mark.iceberg
def test_a_table_of_somebody_else_is_not_written_to(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    import pyarrow as pa

    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    database.execute(kiosk.STATES[0])
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        catalog._opened.create_namespace(catalog.namespace)
        theirs = pa.table({"a": [1]})
        place = f"file://{pipeline.settings.base}/theirs"
        made = catalog._opened.create_table((catalog.namespace, "dim_region"), theirs.schema, place)
        made.append(theirs)
    [failure] = pipeline.run().failures.values()
    assert "has a table project.dim_region that totes did not make" in str(failure)
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        assert catalog._opened.load_table((catalog.namespace, "dim_region")).scan().to_arrow() == theirs


@pytest.mark.iceberg
def test_an_object_that_is_gone_keeps_its_table_back_and_no_other(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    project = write_project(kiosk.MODELS)
    database.execute(kiosk.STATES[0])
    pipeline = make_pipeline(database.url, project=project)
    run_cleanly(pipeline)
    [gone] = (pipeline.settings.base / "lake/processed/dim_region").rglob("*.parquet")
    gone.rename(gone.with_suffix(".away"))
    pipeline = make_pipeline(database.url, project=project, publish=ICEBERG)
    failure = pipeline.run().failures["publish"]
    assert isinstance(failure, LakeDamaged)
    assert "dim_region cannot be published" in str(failure)
    assert published(pipeline, "fact_sale").scan().to_arrow().num_rows == 5
    assert published(pipeline, "totes_batches") is None
    gone.with_suffix(".away").rename(gone)
    run_cleanly(pipeline)
    check(pipeline)


@pytest.mark.iceberg
def test_doctor_looks_at_the_catalog_and_at_what_it_names(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    def found() -> list[tuple[str, str, str]]:
        checks = diagnose(pipeline, pipeline.settings.base / "totes.toml", lambda _doing: None).checks
        return [(check.name, check.severity, check.found) for check in checks if check.area == "publish"]

    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    place = pipeline.settings.base / "lake/iceberg.db"
    assert found() == [("catalog", "ok", f"{place} is not there yet; the next load creates it")]
    assert not place.exists()
    for state in kiosk.STATES[:2]:
        database.execute(state)
        run_cleanly(pipeline)
    assert found() == [
        ("catalog", "ok", "the tables of project are at batch 2"),
        ("published objects", "ok", "the lake has every object that the tables name"),
    ]
    [gone] = (pipeline.settings.base / "lake/processed/removed/dim_region").rglob("*.parquet")
    gone.unlink()
    assert found()[1] == (
        "published objects", "error", "dim_region names 1 object that the lake does not have any more: nobody can read it",
    )  # fmt: skip
    place.write_bytes(b"no database of any kind")
    [(name, severity, _)] = found()
    assert (name, severity) == ("catalog", "error")


@pytest.mark.iceberg
def test_a_table_that_somebody_dropped_is_published_again_with_its_next_change(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    for state in kiosk.STATES[:2]:
        database.execute(state)
        run_cleanly(pipeline)
    with Catalog.open(pipeline.settings, pipeline.processed_store) as catalog:
        catalog.drop("fact_sale")
    database.execute(kiosk.STATES[2])
    run_cleanly(pipeline)
    check(pipeline)


@pytest.mark.iceberg
def test_a_compacted_table_goes_on_from_where_it_was(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any
) -> None:
    pipeline = make_pipeline(database.url, project=write_project(kiosk.MODELS), publish=ICEBERG)
    for state in kiosk.STATES[:2]:
        database.execute(state)
        run_cleanly(pipeline)
    table = published(pipeline, "fact_sale")
    table.overwrite(table.scan().to_arrow())
    database.execute(kiosk.STATES[2])
    run_cleanly(pipeline)
    check(pipeline)


@pytest.mark.iceberg
def test_metadata_does_not_grow_with_the_number_of_batches(
    database: Database, make_pipeline: Callable[..., Pipeline], write_project: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("totes.publishing.catalog._SNAPSHOTS_MAX", 3)
    database.execute("CREATE TABLE item (id int PRIMARY KEY, name text)", "INSERT INTO item VALUES (1, 'a')")
    model = (
        "CREATE TABLE fact_item (r BIGINT PRIMARY KEY, id INTEGER, name VARCHAR) AS SELECT id, name FROM item"
    )
    pipeline = make_pipeline(database.url, project=write_project({"fact_item": model}), publish=ICEBERG)
    for number in range(6):
        database.execute(f"UPDATE item SET name = 'v{number}'")
        run_cleanly(pipeline)
    for name in ("fact_item", "totes_batches"):
        table = published(pipeline, name)
        assert len(table.metadata.snapshots) <= 4, name  # the ledger has two a batch
        folder = Path(table.location().removeprefix("file://"))
        named = {one.manifest_list for one in table.metadata.snapshots}
        manifests = [one for snapshot in table.metadata.snapshots for one in snapshot.manifests(table.io)]
        named |= {one.manifest_path for one in manifests}
        assert {f"file://{file}" for file in folder.rglob("*.avro")} == named
        live = {e.data_file.file_path for one in manifests for e in one.fetch_manifest_entry(table.io)}
        assert {f"file://{file}" for file in folder.rglob("*.parquet")} == (
            live if name == "totes_batches" else set()
        )
    assert check(pipeline) == {"fact_item": 6}


@pytest.mark.skipif(find_spec("pyiceberg") is not None, reason="PyIceberg is installed")
def test_without_pyiceberg_the_warehouse_is_loaded_and_the_next_step_said(
    database: Database, totes: Callable[..., Command], tmp_path: Path
) -> None:
    database.execute(kiosk.STATES[0])
    kiosk.write_project(tmp_path)
    (tmp_path / "totes.toml").write_text(
        f'[project]\nname = "kiosk"\npath = "."\n[source]\nurl = "{database.url}"\n[publish]\niceberg = "glue:"\n'
    )
    done = totes("run", cwd=tmp_path)
    assert done.code == 2
    assert (
        "publish: publish.iceberg is set, and PyIceberg is not installed. pip install 'totes[iceberg]'"
        in done.err
    )
    assert kiosk.query(f"duckdb:///{tmp_path}/warehouse.duckdb", "SELECT count(*) FROM dim_region") == [
        [(3,)]
    ]


def test_publishing_imports_nothing_of_iceberg_before_it_is_asked_to() -> None:
    program = "import sys, totes.publishing.stage, totes.pipeline; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"pyiceberg", "pyarrow"} & set(done.stdout.split()) == set()
