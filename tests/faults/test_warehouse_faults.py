"""The warehouse is away, or goes away half-way: the lake grows without it, a batch is loaded wholly or not, and all is made up for."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Database, Mailbox
from tests.faults import kiosk
from tests.faults.conftest import LEDGER, Shop
from tests.faults.proxies import BytesProxy
from tests.spread import in_sweep
from totes.errors import WarehouseError
from totes.monitoring.alerts import watch
from totes.terrifictotes.server import LocalServer
from totes.warehouse import duckdb_writer, postgresql, postgresql_star

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def warehouse(new_database: Callable[..., Database]) -> Database:
    """An empty PostgreSQL warehouse."""
    return new_database()


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Another process has a DuckDB file open."""
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        yield
        holder.communicate("")


def test_batches_without_a_postgresql_warehouse_are_made_up_for(
    make_shop: Callable[..., Shop], server: LocalServer, warehouse: Database, smtp: Mailbox
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    shop = make_shop("", warehouse.url)
    url = warehouse.url.replace(f":{server.port}/", f":{port}/")
    pipeline = shop.pipeline(warehouse={"url": url}, alerts={"urls": (smtp.url,)})
    for batch in range(1, 5):
        shop.change()
        cycle = pipeline.run()
        assert {stage: type(error) for stage, error in cycle.failures.items()} == {"load": WarehouseError}
        assert str(port) in str(cycle.failures["load"])
        assert cycle.processed is not None
        assert list(cycle.processed.batches) == [batch]
        watch(pipeline.settings, cycle)
    with BytesProxy(server.port, port):
        cycle = pipeline.run()
    watch(pipeline.settings, cycle)
    assert cycle.loaded is not None
    assert list(cycle.loaded.batches) == list(range(1, 5))
    assert smtp.subjects == [f"[totes] shop: load {what}" for what in ("fails", "works again")]
    shop.check(4)


def test_batches_without_a_duckdb_warehouse_are_made_up_for(
    make_shop: Callable[..., Shop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_writer, "_PATIENCE_SECONDS", 0.05)
    shop = make_shop()
    with held(tmp_path / "warehouse.duckdb"):
        for batch in range(1, 5):
            shop.change()
            cycle = shop.pipeline().run()
            assert {stage: type(error) for stage, error in cycle.failures.items()} == {"load": WarehouseError}
            assert f"{tmp_path}/warehouse.duckdb" in str(cycle.failures["load"])
            assert "Close the program that writes it" in str(cycle.failures["load"])
            assert cycle.processed is not None
            assert list(cycle.processed.batches) == [batch]
    assert list(shop.run().loaded.batches) == list(range(1, 5))  # type: ignore[union-attr]
    shop.check(4)


@pytest.mark.parametrize(
    ("moment", "how", "loaded"),
    [
        ("postgresql.rows", "reset", 1),
        in_sweep("postgresql.rows", "terminate", 1),
        ("postgresql.commit.before", "terminate", 1),
        ("postgresql.commit.before", "reset", 2),  # it is done, and only the answer is lost
    ],
)
def test_a_connection_that_is_cut_leaves_a_batch_loaded_wholly_or_not(
    make_shop: Callable[..., Shop],
    server: LocalServer,
    warehouse: Database,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    how: str,
    loaded: int,
    temporary: Path,
) -> None:
    shop = make_shop("", warehouse.url)
    shop.run()
    shop.change()
    tables = ("TABLE fact_order", "TABLE dim_customer")
    before = kiosk.query(warehouse.url, *tables)
    with BytesProxy(server.port) as proxy, monkeypatch.context() as patched:

        def cut(name: str) -> None:
            if name == moment and how == "terminate":
                warehouse.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            elif name == moment:
                proxy.after_bytes = 0  # the next answer does not arrive

        for module in (postgresql, postgresql_star):
            patched.setattr(module, "reach", cut)
        failures = shop.pipeline(warehouse={"url": proxy.url(warehouse.url)}).run().failures
    assert {stage: type(error) for stage, error in failures.items()} == {"load": WarehouseError}
    assert str(failures["load"]).startswith("loading batch 2 failed: ")
    ledger, *after = kiosk.query(warehouse.url, LEDGER, *tables)
    assert (len(ledger), after == before) == (loaded, loaded == 1)
    shop.run()
    shop.check(2)


def test_a_timeout_that_the_database_sets_does_not_cut_a_load(
    make_shop: Callable[..., Shop], warehouse: Database
) -> None:
    shop = make_shop("", warehouse.url)
    shop.run()
    shop.change()
    warehouse.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.6); RETURN NULL; END $$",
        "CREATE TRIGGER slow AFTER INSERT ON fact_order FOR EACH STATEMENT EXECUTE FUNCTION slow()",
        *(
            f"ALTER DATABASE {warehouse.name} SET {name} = '300ms'"
            for name in ("statement_timeout", "transaction_timeout")
        ),
    )
    shop.run()
    warehouse.execute(f"ALTER DATABASE {warehouse.name} RESET ALL")
    shop.check(2)


def test_a_loader_that_stands_still_in_its_transaction_does_not_keep_the_others_out_for_ever(
    make_shop: Callable[..., Shop], warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop("", warehouse.url)
    assert "('idle_in_transaction_session_timeout', '5min')" in postgresql.SET_TIMEOUTS
    with monkeypatch.context() as patched:
        patched.setattr(postgresql, "SET_TIMEOUTS", postgresql.SET_TIMEOUTS.replace("5min", "200ms"))
        patched.setattr(
            postgresql_star, "reach", lambda name: time.sleep(0.8) if name == "postgresql.rows" else None
        )
        error = shop.pipeline().run().failures["load"]
    assert isinstance(error, WarehouseError)
    assert "idle-in-transaction timeout" in str(error)
    shop.run()
    shop.check(1)


def test_a_warehouse_that_may_not_be_written_is_named_and_its_grant_completes_it(
    make_shop: Callable[..., Shop], warehouse: Database
) -> None:
    shop = make_shop("", warehouse.url)
    shop.run()
    role = f"loader_{warehouse.name}"
    warehouse.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'geheim-6'", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    )
    url = f"postgresql://{role}:geheim-6@{warehouse.url.partition('@')[2]}"
    shop.change()
    shop.run(warehouse={"url": url})
    warehouse.execute(f"REVOKE INSERT ON fact_order FROM {role}")
    shop.change()
    error = shop.pipeline(warehouse={"url": url}).run().failures["load"]
    assert isinstance(error, WarehouseError)
    assert "loading batch 3 failed" in str(error)
    assert "permission denied for table fact_order" in str(error)
    assert "Grant it" in str(error)
    warehouse.execute(f"GRANT INSERT ON fact_order TO {role}")
    shop.run(warehouse={"url": url})
    shop.check(3)
