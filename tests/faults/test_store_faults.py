"""S3 fails: what passes is survived without a trace, what lasts is named, and nothing is ever stored twice or by half."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import Bucket, Mailbox
from tests.faults.conftest import Shop
from tests.faults.proxies import Fault, HttpProxy
from totes.errors import StoreError
from totes.lake import s3 as store_module
from totes.lake.store import Store
from totes.monitoring.alerts import watch

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def proxy(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    """What the environment points to, between the pipeline and a real S3 server."""
    with HttpProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def shop(make_shop: Callable[..., Shop], s3: Bucket, proxy: HttpProxy, temporary: Path) -> Shop:
    """A shop whose lakes are in S3."""
    return make_shop(s3.prefix)


def kind_of(method: str, path: str) -> str:
    """What a request is about: a listing, or putting or getting a manifest, a packet, marks or rows."""
    parts = urlsplit(path).path.partition("gestion/")[2] or urlsplit(path).path.partition("processed/")[2]
    return f"{method} {parts.partition('/')[0] or 'list'}"


def first_of_each_kind(fault: Fault) -> Callable[[str, str], Fault | None]:
    """The first request of each kind meets a fault."""
    seen: Counter[str] = Counter()

    def choose(method: str, path: str) -> Fault | None:
        kind = kind_of(method, path)
        seen[kind] += 1
        return fault if seen[kind] == 1 else None

    return choose


@pytest.mark.parametrize("fault", ["unavailable", "half", "lost", "slow"])
def test_what_passes_is_survived_and_leaves_no_trace(
    shop: Shop, proxy: HttpProxy, fault: Fault, tmp_path: Path
) -> None:
    proxy.fault = first_of_each_kind(fault)
    shop.run()
    shutil.rmtree(tmp_path / ".totes")
    shop.change()
    shop.run()
    assert len({kind_of(*request) for request in proxy.met(fault)}) >= 8
    proxy.fault = lambda _method, _path: None
    shop.check(2)


def test_an_object_that_comes_short_is_asked_for_again(shop: Shop, proxy: HttpProxy) -> None:
    shop.run()
    shop.change()
    faults = first_of_each_kind("short")
    proxy.fault = lambda method, path: faults(method, path) if "date" in path and method == "GET" else None
    shop.pipeline().ingest()
    fetched: Counter[str] = Counter()

    def once(method: str, path: str) -> Fault | None:
        fetched[path] += method == "GET" and "date" in path
        return "short" if fetched[path] == 1 else None

    proxy.fault = once
    shop.run()
    assert proxy.met("short")
    proxy.fault = lambda _method, _path: None
    shop.check(2)


def test_a_manifest_that_comes_short_is_not_taken_for_one(shop: Shop, proxy: HttpProxy) -> None:
    shop.run()
    shop.change()
    proxy.fault = lambda method, path: "short" if method == "GET" and path.endswith("1.json") else None
    cycle = shop.pipeline().run()
    assert set(cycle.failures) == {"ingest", "process", "load"}
    for stage, store in (("ingest", "ingestion"), ("load", "processed")):
        assert str(cycle.failures[stage]).startswith(f"{shop.store}/{store}/batches/000000000001.json is not")
    proxy.fault = lambda _method, _path: None
    shop.run()
    shop.check(2)


@pytest.mark.parametrize("fault", ["unavailable", "lost"])
def test_what_lasts_is_named_and_told_and_the_next_run_completes(
    shop: Shop, proxy: HttpProxy, fault: Fault, monkeypatch: pytest.MonkeyPatch, smtp: Mailbox
) -> None:
    shop.run()
    shop.change()
    monkeypatch.setattr(store_module, "RETRY_SECONDS_MAX", 0.5)
    proxy.fault = lambda _method, _path: fault
    pipeline = shop.pipeline(alerts={"urls": (smtp.url,)})
    cycle = pipeline.run()
    assert {stage: type(error) for stage, error in cycle.failures.items()} == {
        "ingest": StoreError, "process": StoreError, "load": StoreError,
    }  # fmt: skip
    for stage, store in (("ingest", "ingestion"), ("process", "processed"), ("load", "processed")):
        assert f"{shop.store}/{store}/" in str(cycle.failures[stage])
        assert "\n" not in str(cycle.failures[stage])
    watch(pipeline.settings, cycle)
    proxy.fault = lambda _method, _path: None
    watch(pipeline.settings, shop.pipeline().run())
    assert [subject.rpartition(": ")[2] for subject in smtp.subjects] == [
        f"{stage} {what}" for what in ("fails", "works again") for stage in ("ingest", "process", "load")
    ]
    assert shop.store in smtp.text(0)
    shop.check(2)


def test_an_s3_that_fails_while_objects_are_written_leaves_no_batch(
    shop: Shop, proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_SECONDS_MAX", 0.5)
    proxy.fault = lambda method, path: "unavailable" if method == "PUT" and "/order/" in path else None
    error = str(shop.pipeline().run().failures["ingest"])
    assert error.startswith(f"writing {shop.store}/ingestion/order/")
    proxy.fault = lambda _method, _path: None
    assert list(shop.pipeline().ingestion_store.list("batches/")) == []
    shop.run()
    shop.check(1)


def test_a_manifest_whose_answer_is_lost_is_the_batch_of_the_runner_that_put_it(
    shop: Shop, proxy: HttpProxy
) -> None:
    answers = iter(["lost", "lost", None])
    proxy.fault = lambda method, path: (
        next(answers, None) if method == "PUT" and "/batches/" in path else None
    )  # type: ignore[return-value]
    assert shop.run().ingested.batch == 1  # type: ignore[union-attr]
    assert len(proxy.met("lost")) == 2
    shop.check(1)


def test_a_refusal_is_not_asked_again(
    s3: Bucket, proxy: HttpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    store = Store.open(s3.url("store"), tmp_path)
    for call in (lambda: store.put_new("a", b""), lambda: list(store.list("")), lambda: store.read("a")):
        proxy.seen.clear()
        with pytest.raises(StoreError):
            call()
        assert len(proxy.seen) == 1
