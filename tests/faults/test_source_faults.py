"""The source fails: each fault ends with a line that says what and where, and the next run takes in all that was missed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Command, Database, Mailbox, rows_of, run_cleanly
from tests.faults.conftest import NOTES, Shop
from tests.faults.proxies import BytesProxy
from tests.spread import in_sweep
from totes.errors import SourceError, TotesError
from totes.pipeline import Pipeline
from totes.terrifictotes.server import LocalServer
from totes.warehouse.connection import Warehouses

ALL_NOTES = "UPDATE note SET body = upper(body)"
OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
IN_A_TABLE, AT_THE_START = 1_000_000, 1_500


@pytest.fixture
def proxy(server: LocalServer) -> Iterator[BytesProxy]:
    with BytesProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def shop(make_shop: Callable[..., Shop], temporary: Path) -> Shop:
    """A shop with notes, one batch of which is captured, and whose notes have all changed since."""
    shop = make_shop("", "", *NOTES)
    shop.run()
    shop.change()
    shop.database.execute(ALL_NOTES)
    return shop


def failure(shop: Shop, url: str) -> TotesError:
    """What ingestion fails with; the other stages must not, and no batch comes of it."""
    cycle = shop.pipeline(source={"url": url}).run()
    assert set(cycle.failures) == {"ingest"}
    shop_batches = [path.name for path in Path(shop.store, "ingestion/batches").iterdir()]
    assert shop_batches == ["000000000001.json"]
    return cycle.failures["ingest"]


@pytest.mark.parametrize(
    ("how", "after", "where"),
    [
        ("reset", IN_A_TABLE, "reading note failed"),
        in_sweep("terminate", IN_A_TABLE, "reading note failed"),
        ("terminate", AT_THE_START, "connecting to the source failed"),
    ],
)
def test_a_connection_that_is_cut_is_named_and_the_next_run_captures_all(
    shop: Shop, proxy: BytesProxy, how: str, after: int, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def cut() -> bool:
        if how == "terminate":
            shop.database.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}")
        return how == "terminate"

    proxy.after_bytes, proxy.then = after, cut
    error = failure(shop, proxy.url(shop.database.url))
    assert proxy.after_bytes is None
    assert isinstance(error, SourceError)
    assert str(error).startswith(where)
    assert "\n" not in str(error)
    assert caplog.messages == []  # psycopg would tell of a rollback that failed, past all that masks secrets
    assert shop.run(source={"url": proxy.url(shop.database.url)}).ingested.batch == 2  # type: ignore[union-attr]
    shop.check(2)


def test_a_timeout_that_the_database_sets_does_not_cut_a_long_read(shop: Shop, proxy: BytesProxy) -> None:
    def rest() -> bool:
        time.sleep(0.9)
        return True

    for setting in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
        shop.database.execute(f"ALTER DATABASE {shop.database.name} SET {setting} = '400ms'")
    proxy.after_bytes, proxy.then = IN_A_TABLE, rest
    shop.run(source={"url": proxy.url(shop.database.url)})
    assert proxy.after_bytes is None
    shop.database.execute(f"ALTER DATABASE {shop.database.name} RESET ALL")
    shop.check(2)


def test_a_statement_that_is_cancelled_costs_its_table_alone(shop: Shop, proxy: BytesProxy) -> None:
    proxy.after_bytes = IN_A_TABLE
    proxy.then = lambda: bool(shop.database.execute(f"SELECT pg_cancel_backend(pid) {OTHERS}"))
    cycle = shop.pipeline(source={"url": proxy.url(shop.database.url)}).run()
    error = str(cycle.failures["ingest"])
    assert error.startswith("reading note failed: canceling statement due to user request")
    shop.run()
    shop.check(3)


def test_a_server_that_is_restarted_while_it_is_read_is_read_again(
    place: Path,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = write_project(
        {
            "dim_note": "CREATE TABLE dim_note (note_id INTEGER PRIMARY KEY, body VARCHAR) AS SELECT note_id, body FROM note"
        }
    )
    with LocalServer.start(place) as first:
        database = Database(first.url(), "")
        database.execute(*NOTES)
        with BytesProxy(first.port) as proxy:
            pipeline = make_pipeline(proxy.url(database.url), project=project)
            proxy.after_bytes, proxy.then = IN_A_TABLE, lambda: first.stop() is not None
            error = pipeline.run().failures["ingest"]
            assert str(error).startswith("reading note failed")
            assert "Check source.url" in str(pipeline.run().failures["ingest"])
            monkeypatch.setattr("totes.terrifictotes.server._free_port", lambda: first.port)
            with LocalServer.start(place):
                run_cleanly(pipeline)
                assert rows_of(pipeline, "SELECT count(*), sum(length(body)) FROM dim_note") == [
                    (60, 60 * 96_000)
                ]


def test_a_grant_that_is_withdrawn_is_named_and_told_and_its_return_completes_the_history(
    make_shop: Callable[..., Shop], totes: Callable[..., Command], smtp: Mailbox, tmp_path: Path
) -> None:
    shop = make_shop()
    role = f"reader_{shop.database.name}"
    shop.database.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'geheim-5'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
    )
    parts = urlsplit(shop.database.url)
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "postgresql://{role}:geheim-5@{parts.hostname}:{parts.port}{parts.path}"\n'
        f'[project]\npath = "shop"\n[lake]\ncompression = "gzip"\n[alerts]\nurls = ["{smtp.url}"]\n'
    )
    assert totes("run").code == 0
    shop.change()
    shop.database.execute(f'REVOKE SELECT ON "order" FROM {role}')
    refused = totes("run")
    ingest, process = [line for line in refused.err.splitlines() if line.startswith("error: ")]
    assert refused.code == 3
    assert ingest.startswith("error: ingest: public.order may not be read by this role")
    assert process.startswith("error: process: models/fact_order.sql")
    assert all('GRANT SELECT ON "public"."order"' in line for line in (ingest, process))
    shop.change()
    shop.database.execute(f'GRANT SELECT ON "order" TO {role}')
    assert totes("run").code == 0
    assert smtp.subjects == [
        f"[totes] terrifictotes: {stage} {what}"
        for what in ("fails", "works again")
        for stage in ("ingest", "process")
    ]
    assert "public.order may not be read" in smtp.text(0)
    shop.check(3)


@pytest.mark.parametrize("side", ["source", "warehouse"])
def test_a_peer_that_never_answers_is_given_up(
    make_shop: Callable[..., Shop], proxy: BytesProxy, side: str
) -> None:
    shop = make_shop()
    proxy.silent = True
    began = time.monotonic()
    limited = f"{proxy.url(shop.database.url)}?connect_timeout=2"
    cycle = shop.pipeline(**{side: {"url": limited}}).run()
    assert time.monotonic() - began < 20
    stage = {"source": "ingest", "warehouse": "load"}[side]
    assert str(cycle.failures[stage]).startswith(f"connecting to the {side} failed")
    assert "timeout expired" in str(cycle.failures[stage])


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux shows the timers of its sockets")
def test_a_host_that_is_gone_is_noticed_on_every_connection(
    make_shop: Callable[..., Shop], proxy: BytesProxy
) -> None:
    shop = make_shop()
    pipeline, probed = shop.pipeline(source={"url": proxy.url(shop.database.url)}), set()

    def look() -> None:
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, _, timer, *_ = line.split()
            kind, _, ticks = timer.partition(":")
            keepalive = kind == "02" and int(ticks, 16) <= 60 * os.sysconf("SC_CLK_TCK")
            if int(remote.rpartition(":")[2], 16) == proxy.port and keepalive:
                probed.add(local)

    pipeline.ingest(lambda _snapshot: look())
    # The control connection, and for its two tables bulk ones, where there is a core for each.
    assert len(probed) == 1 + min(2, os.cpu_count() or 1)
    probed.clear()
    with Warehouses(Path(), "", "100MB").open(proxy.url(shop.database.url)):
        look()
    assert len(probed) == 1
