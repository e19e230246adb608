"""Promise 4 at any time: killed again and again, wherever it just is, the pipeline leaves one history."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Database, rows_of
from tests.processes import Runner, run
from tests.spread import in_sweep
from tests.terrifictotes.independent import compare
from totes.lake.journal import ingestion_journal, processed_journal
from totes.pipeline import Pipeline
from totes.terrifictotes import demo_source

ONE_OPEN_VERSION = """SELECT count(*) FROM (
    SELECT sales_order_id FROM fact_sales_order GROUP BY sales_order_id HAVING count(*) FILTER (valid_to IS NULL) <> 1)"""


@pytest.fixture
def pipeline(totesys: Database, tmp_path: Path, make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    (tmp_path / "totes.toml").write_text(f'[source]\nurl = "{totesys.url}"\n', encoding="utf-8")
    return make_pipeline(totesys.url)


def check(pipeline: Pipeline, totesys: Database, tmp_path: Path, batches: int) -> None:
    """The warehouse equals the source, each version is there once, and both journals are gapless."""
    compare(totesys.url, tmp_path / "warehouse.duckdb", pipeline)
    assert rows_of(pipeline, ONE_OPEN_VERSION) == [(0,)]
    assert rows_of(pipeline, "SELECT count(*) = max(sales_record_id) FROM fact_sales_order") == [(True,)]
    assert rows_of(pipeline, "SELECT batch_id FROM totes_batches ORDER BY 1") == [
        (n,) for n in range(1, batches + 1)
    ]
    ingested, processed = (
        ingestion_journal(pipeline.ingestion_store),
        processed_journal(pipeline.processed_store),
    )
    assert (ingested.last(), processed.last()) == (batches, batches)
    assert all(ingested.read(n).batch == processed.read(n).batch == n for n in range(1, batches + 1))


@pytest.mark.parametrize("trials", [6, in_sweep(12)])
def test_a_pipeline_killed_again_and_again_ends_where_an_undisturbed_one_does(
    pipeline: Pipeline, totesys: Database, tmp_path: Path, trials: int
) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    shutil.copy(tmp_path / "totes.toml", calm)
    began = time.monotonic()
    assert run(calm).failures == {}
    seconds = time.monotonic() - began  # what a cycle takes here, so that kills are spread over all of it
    moments, batches, killed = random.Random(7), 1, 0
    for trial in range(trials):
        runner = Runner(tmp_path)
        time.sleep(moments.uniform(0.1, 1.0) * seconds)
        killed += runner.process.is_alive()
        runner.end()
        if trial in (trials // 3 - 1, 2 * trials // 3 - 1):
            assert run(tmp_path).failures == {}
            demo_source.trade(totesys.url)
            batches += 1
    assert run(tmp_path).failures == {}
    assert killed > 0
    check(pipeline, totesys, tmp_path, batches)
