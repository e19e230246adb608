"""Alerts reach people through a real SMTP server: once when something begins, once when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Command, Database, Mailbox
from tests.contracts.shop import MODELS, SCHEMA
from totes.config import Settings
from totes.monitoring.alerts import watch
from totes.monitoring.delivery import send
from totes.monitoring.health import health_file, read_health, write_health
from totes.pipeline import Pipeline

# What Apprise imports on Python 3.11 and 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
NOWHERE = "postgresql://reader:wrong-geheim@127.0.0.1:1/shop"


@pytest.fixture
def make(
    database: Database,
    smtp: Mailbox,
    make_pipeline: Callable[..., Pipeline],
    write_project: Callable[..., dict[str, Any]],
) -> Callable[..., Pipeline]:
    """Makes a shop's pipeline that alerts by mail; its source is up or `NOWHERE`."""
    database.execute(*SCHEMA)
    project = write_project(MODELS) | {"name": "shop"}

    def make(source: str = database.url, **alerts: Any) -> Pipeline:
        return make_pipeline(source, project=project, alerts={"urls": [smtp.url], **alerts})

    return make


def run(pipeline: Pipeline) -> None:
    watch(pipeline.settings, pipeline.run())


def test_a_source_that_is_down_is_told_once_and_once_more_when_it_is_back(
    make: Callable[..., Pipeline], smtp: Mailbox
) -> None:
    run(make())
    assert smtp.subjects == []
    for _ in range(3):
        run(make(NOWHERE))
    assert smtp.subjects == ["[totes] shop: ingest fails"]
    run(make())
    run(make())
    assert smtp.subjects == ["[totes] shop: ingest fails", "[totes] shop: ingest works again"]


def test_a_second_table_that_cannot_be_read_is_reported_too_and_both_are_named(
    make: Callable[..., Pipeline], smtp: Mailbox, database: Database
) -> None:
    database.execute("CREATE TABLE readable (id integer PRIMARY KEY)")
    run(make())
    database.execute("ALTER TABLE customer DROP CONSTRAINT customer_pkey")
    run(make())
    database.execute('ALTER TABLE "order" DROP CONSTRAINT order_pkey')
    run(make())
    run(make())
    of_ingest = [number for number, subject in enumerate(smtp.subjects) if "ingest" in subject]
    assert [smtp.subjects[number] for number in of_ingest] == ["[totes] shop: ingest fails"] * 2
    assert "public.customer has no primary key" in smtp.text(of_ingest[0])
    told = smtp.text(of_ingest[1])
    assert "2 tables are left out: public.customer has no primary key; public.order has no" in told
    database.execute("ALTER TABLE customer ADD PRIMARY KEY (customer_id)")
    run(make())
    database.execute('ALTER TABLE "order" ADD PRIMARY KEY (order_id)')
    run(make())
    assert [subject for subject in smtp.subjects if "ingest" in subject][2:] == [
        "[totes] shop: ingest works again"
    ]


def test_the_mail_says_what_since_when_and_the_next_step_and_no_password(
    make: Callable[..., Pipeline], smtp: Mailbox
) -> None:
    run(make(NOWHERE))
    [mail] = smtp.mails
    since = f"{read_health(health_file(make().settings)).incidents['ingest'].since:%Y-%m-%d %H:%M:%S} UTC"
    assert mail["To"] == "people@totes.example"
    text = smtp.text(0)
    assert text.startswith(
        f'Since {since}: connecting to the source failed: connection failed: connection to server at "127.0.0.1"'
    )
    assert (
        "Next step: Nothing listens there: check host and port in source.url, and that the server is up"
        in text
    )
    for secret in ("wrong-geheim", smtp.password):
        assert secret not in mail.as_string()


def test_freshness_that_is_lost_and_regained_is_told(make: Callable[..., Pipeline], smtp: Mailbox) -> None:
    pipeline = make()
    run(pipeline)
    health = read_health(health_file(pipeline.settings))
    assert health.captured_at is not None
    an_hour_ago = health.captured_at - timedelta(hours=1)
    write_health(health_file(pipeline.settings), health.model_copy(
        update={"fresh_at": an_hour_ago, "captured_at": an_hour_ago, "processed_at": an_hour_ago}))  # fmt: skip
    run(make(NOWHERE))
    run(make())
    assert smtp.subjects == [
        "[totes] shop: ingest fails", "[totes] shop: is not fresh",
        "[totes] shop: ingest works again", "[totes] shop: is fresh again",
    ]  # fmt: skip


def test_rows_that_are_set_aside_are_told(
    make: Callable[..., Pipeline], database: Database, smtp: Mailbox
) -> None:
    database.execute('UPDATE "order" SET price = 1.005 WHERE order_id IN (1, 2)')
    run(make())
    assert smtp.subjects == ["[totes] shop: 2 rows quarantined"]
    assert "- fact_order.price has more digits than DECIMAL(10, 2) keeps (2 rows)" in smtp.text(0)
    assert "Next step: totes quarantine list" in smtp.text(0)
    assert "1.005" not in smtp.text(0)
    run(make())
    assert len(smtp.mails) == 1


def test_no_alert_is_sent_where_none_is_wished(make_pipeline: Callable[..., Pipeline], smtp: Mailbox) -> None:
    run(make_pipeline(NOWHERE))
    assert smtp.mails == []


@pytest.mark.parametrize("url", ["mailto://robot:geheim-9@127.0.0.1:1?mode=insecure&from=a@b.example&to=c@d.example",
                                 "nonsense://geheim-9"])  # fmt: skip
def test_an_alert_that_cannot_be_sent_is_logged_and_stops_nothing(
    make: Callable[..., Pipeline],
    smtp: Mailbox,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    url: str,
) -> None:
    run(make(NOWHERE, urls=[url, smtp.url]))
    assert smtp.subjects == ["[totes] shop: ingest fails"]
    [failed] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failed.message == "an alert could not be sent, and is sent after a later cycle; check alerts.urls"
    assert "geheim-9" not in str([vars(record) for record in caplog.records]) + "".join(capfd.readouterr())


def test_a_secret_in_a_text_is_not_sent(smtp: Mailbox) -> None:
    Settings(source={"url": "postgresql://u:p@h/d"}, alerts={"urls": [smtp.url]})
    assert send(smtp.url, f"title {smtp.password}", f"body {smtp.password}") is True
    assert (smtp.subjects, smtp.text(0).strip()) == (["title ***"], "body ***")


def test_the_command_sends_them_too(
    make: Callable[..., Pipeline], smtp: Mailbox, totes: Callable[..., Command], database: Database
) -> None:
    settings = {
        "TOTES_PROJECT__PATH": "project",
        "TOTES_PROJECT__NAME": "shop",
        "TOTES_ALERTS__URLS": f'["{smtp.url}"]',
    }
    assert totes("ingest", TOTES_SOURCE__URL=NOWHERE, **settings).code == 3
    assert totes("run", TOTES_SOURCE__URL=database.url, **settings).code == 0
    assert smtp.subjects == ["[totes] shop: ingest fails", "[totes] shop: ingest works again"]
