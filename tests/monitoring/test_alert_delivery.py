"""Each incident reaches each receiver as soon as that takes it: whoever was away meanwhile, and whenever the process died."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests import processes
from tests.conftest import Command, Database, Mailbox
from tests.contracts.shop import MODELS, SCHEMA
from totes.monitoring import alerts, delivery
from totes.monitoring.alerts import watch
from totes.monitoring.health import health_file, read_health, write_health
from totes.pipeline import Pipeline

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOWHERE = "postgresql://reader:wrong-geheim@127.0.0.1:1/shop"
FAILS, WORKS = "[totes] shop: ingest fails", "[totes] shop: ingest works again"


class Receiver(Mailbox):
    """A mailbox that is away until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self._controller: Controller | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"mailto://127.0.0.1:{self._port}?mode=insecure&from=robot@totes.example&to=p{self._port}@totes.example"

    def open(self) -> None:
        """Lets it take mail."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self._port)
        self._controller.start()

    def close(self) -> None:
        """Takes it away."""
        if self._controller:
            self._controller.stop()
            self._controller = None


@pytest.fixture
def receivers() -> Iterator[list[Receiver]]:
    """Two of them, both away."""
    made = [Receiver(), Receiver()]
    yield made
    for receiver in made:
        receiver.close()


@pytest.fixture
def make(
    database: Database,
    receivers: list[Receiver],
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[..., Pipeline]:
    """Makes a shop's pipeline that alerts the first receiver; its source is up or `NOWHERE`."""
    database.execute(*SCHEMA)
    project = write_project(MODELS) | {"name": "shop"}

    def make(source: str = database.url, **settings: Any) -> Pipeline:
        return make_pipeline(source, project=project, alerts={"urls": [receivers[0].url], **settings})

    return make


def run(pipeline: Pipeline) -> None:
    watch(pipeline.settings, pipeline.run())


def test_an_incident_that_could_not_be_sent_is_sent_once_the_receiver_is_back(
    make: Callable[..., Pipeline], receivers: list[Receiver]
) -> None:
    run(make(NOWHERE))
    run(make(NOWHERE))
    receivers[0].open()
    run(make(NOWHERE))
    assert receivers[0].subjects == [FAILS]
    run(make(NOWHERE))
    run(make())
    run(make())
    assert receivers[0].subjects == [FAILS, WORKS]


def test_an_incident_that_is_over_before_it_could_be_sent_is_sent_whole(
    make: Callable[..., Pipeline], receivers: list[Receiver]
) -> None:
    run(make(NOWHERE))
    run(make())
    run(make())
    receivers[0].open()
    run(make())
    run(make())
    assert receivers[0].subjects == [FAILS, WORKS]


def test_each_receiver_gets_each_alert_once(make: Callable[..., Pipeline], receivers: list[Receiver]) -> None:
    urls = [receiver.url for receiver in receivers]
    receivers[0].open()
    run(make(NOWHERE, urls=urls))
    run(make(urls=urls))
    assert [receiver.subjects for receiver in receivers] == [[FAILS, WORKS], []]
    receivers[0].close()
    receivers[1].open()
    run(make(NOWHERE, urls=urls))
    assert [receiver.subjects for receiver in receivers] == [[FAILS, WORKS], [FAILS, WORKS, FAILS]]
    receivers[0].open()
    run(make(NOWHERE, urls=urls))
    run(make(NOWHERE, urls=urls))
    assert [receiver.subjects for receiver in receivers] == [[FAILS, WORKS, FAILS]] * 2


def test_a_receiver_that_is_corrected_gets_what_the_wrong_one_did_not(
    make: Callable[..., Pipeline], receivers: list[Receiver]
) -> None:
    receivers[1].open()
    run(make(NOWHERE, urls=[]))
    run(make(NOWHERE, urls=["nonsense://x"]))
    run(make(NOWHERE, urls=[receivers[1].url]))
    run(make(NOWHERE, urls=[receivers[1].url]))
    assert receivers[1].subjects == [FAILS]


def test_where_nobody_is_named_nothing_waits_for_long(make: Callable[..., Pipeline]) -> None:
    for source in (NOWHERE, None, NOWHERE, None):
        run(make(*([source] if source else []), urls=[]))
    assert read_health(health_file(make().settings)).unsent == ()


def test_lost_freshness_and_rows_in_quarantine_wait_too(
    make: Callable[..., Pipeline], receivers: list[Receiver], database: Database
) -> None:
    pipeline = make()
    run(pipeline)
    health = read_health(health_file(pipeline.settings))
    assert health.captured_at is not None
    before = dict.fromkeys(
        ("fresh_at", "captured_at", "processed_at"), health.captured_at - timedelta(hours=1)
    )
    write_health(health_file(pipeline.settings), health.model_copy(update=before))
    run(make(NOWHERE))
    database.execute('UPDATE "order" SET price = 1.005, last_updated = now() WHERE order_id IN (1, 2)')
    run(make())
    receivers[0].open()
    run(make())
    run(make())
    assert receivers[0].subjects == [
        FAILS, "[totes] shop: is not fresh", WORKS, "[totes] shop: is fresh again", "[totes] shop: 2 rows quarantined",
    ]  # fmt: skip


def test_an_alert_that_is_sent_late_says_when_it_was_due(
    make: Callable[..., Pipeline], receivers: list[Receiver]
) -> None:
    run(make(NOWHERE))
    file = health_file(make().settings)
    health = read_health(file)
    [message] = health.unsent
    due = message.at - timedelta(hours=3)
    write_health(file, health.model_copy(update={"unsent": (message.model_copy(update={"at": due}),)}))
    receivers[0].open()
    run(make(NOWHERE))
    assert f"This message is from {due:%Y-%m-%d %H:%M:%S} UTC and could not be sent earlier." in receivers[
        0
    ].text(0)


@pytest.mark.parametrize("failpoint", ["health.write.after:1", "alert.sent:1"])
def test_a_runner_that_dies_while_it_alerts_leaves_the_rest_to_the_next_one(
    make: Callable[..., Pipeline], receivers: list[Receiver], tmp_path: Path, failpoint: str
) -> None:
    pipeline = make(NOWHERE)
    (tmp_path / "totes.toml").write_text(
        f'[source]\nurl = "{NOWHERE}"\n[project]\nname = "shop"\npath = "{pipeline.settings.project.path}"\n'
        f'[alerts]\nurls = ["{receivers[0].url}"]\n'
    )
    receivers[0].open()
    assert processes.run(tmp_path, failpoint=failpoint).code == processes.KILLED
    assert receivers[0].subjects == ([FAILS] if failpoint == "alert.sent:1" else [])
    run(make(NOWHERE))
    run(make(NOWHERE))
    assert receivers[0].subjects == [FAILS] * (2 if failpoint == "alert.sent:1" else 1)


def test_an_alert_that_breaks_stops_nothing(
    make: Callable[..., Pipeline],
    receivers: list[Receiver],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> bool:
        raise RuntimeError("a plugin's fault, with geheim-12345 in it")

    monkeypatch.setattr(delivery, "send", broken)
    run(make(NOWHERE))
    run(make())
    failed = [record for record in caplog.records if "alert could not be sent" in record.message]
    assert [vars(record)["fields"]["error"] for record in failed] == [
        "RuntimeError: a plugin's fault, with geheim-12345 in it"
    ] * 2
    monkeypatch.undo()
    receivers[0].open()
    run(make())
    assert receivers[0].subjects == [FAILS, WORKS]


def test_whatever_fails_in_the_watch_stops_nothing(
    make: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alerts, "read_health", lambda _file: 1 / 0)
    run(make())
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "the pipeline's health could not be brought up to date"
    ]


def test_a_health_file_that_cannot_be_written_is_remembered_by_the_process(
    make: Callable[..., Pipeline], receivers: list[Receiver]
) -> None:
    receivers[0].open()
    file = health_file(make().settings)
    file.mkdir(parents=True)
    for _ in range(3):
        run(make(NOWHERE))
    assert receivers[0].subjects == [FAILS]
    file.rmdir()
    run(make())
    assert receivers[0].subjects == [FAILS, WORKS]


def test_status_and_doctor_show_what_could_not_be_sent(
    make: Callable[..., Pipeline],
    receivers: list[Receiver],
    totes: Callable[..., Command],
    database: Database,
) -> None:
    settings = {
        "TOTES_PROJECT__PATH": "project", "TOTES_PROJECT__NAME": "shop", "TOTES_SOURCE__URL": database.url,
        "TOTES_ALERTS__URLS": f'["{receivers[0].url}"]',
    }  # fmt: skip
    make()
    assert totes("run", **{**settings, "TOTES_SOURCE__URL": NOWHERE}).code == 3
    done = totes("run", **settings)
    assert done.code == 0
    assert "an alert could not be sent, and is sent after a later cycle; check alerts.urls" in done.err
    assert "Alerts: 2 alerts could not be sent yet; check alerts.urls." in totes("status", **settings).out
    assert "2 alerts could not be sent, the first at" in totes("doctor", **settings).out
    receivers[0].open()
    assert totes("load", **settings).code == 0
    assert receivers[0].subjects == [FAILS, WORKS]
    assert "Alerts" not in totes("status", **settings).out
