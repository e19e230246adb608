"""The source's clock is set back: read times and histories go on, and what is captured does not depend on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from tests.faults import kiosk
from tests.faults.conftest import Shop
from tests.plain_lake import manifests_of, objects_of
from totes.ingestion import source

CLOCK = "{clock}() AT TIME ZONE 'UTC'"
HISTORY = (
    "SELECT order_id, valid_from, is_deleted, quantity FROM fact_order ORDER BY order_id, order_record_id"
)


def test_a_clock_that_is_set_back_by_a_day_loses_nothing_and_no_history_goes_back_in_time(
    make_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop()
    with monkeypatch.context() as ahead:
        assert CLOCK in source.POSITION_SQL
        ahead.setattr(
            source, "POSITION_SQL", source.POSITION_SQL.replace(CLOCK, f"{CLOCK} + interval '1 day'")
        )
        shop.run()
        shop.change()
        shop.database.execute('DELETE FROM "order" WHERE order_id = 2')  # it is gone from tomorrow on
        shop.run()
    shop.change()
    shop.database.execute("""INSERT INTO "order" VALUES (2, 11, 22, 1, now() AT TIME ZONE 'UTC')""")
    shop.run()
    shop.database.execute('DELETE FROM "order" WHERE order_id = 2')
    shop.run()
    assert shop.pipeline().run().ingested.batch is None  # type: ignore[union-attr]
    shop.check(4)

    manifests = manifests_of(objects_of(f"{shop.store}/ingestion"))
    times = [datetime.fromisoformat(manifest["position"]["read_at"]) for manifest in manifests]
    assert [later - earlier for earlier, later in itertools.pairwise(times)][1:] == [
        timedelta(microseconds=1)
    ] * 2
    [found] = kiosk.query(shop.warehouse, HISTORY)
    for _, versions in itertools.groupby(found, key=lambda version: version[0]):
        begins = [version[1] for version in versions]
        assert begins == sorted(set(begins))
    assert [version[2:] for version in found if version[0] == 2] == [
        (False, 1), (True, 1), (False, 22), (True, 22),
    ]  # fmt: skip
