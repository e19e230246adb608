"""What each page shows, as monitoring gives it. A page that cannot be shown says why, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from totes import engine
from totes.errors import CommandFailed, ConfigurationError, ModelError, TotesError
from totes.monitoring.counts import read_counts
from totes.monitoring.dictionary import read_dictionary
from totes.monitoring.past import StillReading
from totes.monitoring.plan import plan as read_plan
from totes.monitoring.quarantine import read_quarantine
from totes.monitoring.rows import COUNT_MAX, RowsWanted, find_model, read_rows
from totes.monitoring.status import read_status
from totes.monitoring.timeline import read_timeline
from totes.monitoring.verdict_file import read_verdict
from totes.ui.desk import Desk
from totes.ui.diagram import draw
from totes.ui.rendering import Page

BATCHES_SHOWN, BATCHES_LISTED, ROWS_SHOWN, QUARANTINE_SHOWN = 300, 25, 50, 200


def overview(desk: Desk, query: QueryParams) -> Page:
    """Stages, freshness, and batches over time."""
    status = read_status(desk.pipeline)
    last = _number(query, "last")
    found = desk.batches.read(BATCHES_SHOWN, last)
    shown = [
        {
            "batch": batch.batch,
            "at": batch.read_at.timestamp(),
            "rows": [stage.rows if stage else None for stage in (batch.ingest, batch.process, batch.load)],
            "seconds": [
                stage.seconds if stage else None for stage in (batch.ingest, batch.process, batch.load)
            ],
            "lag": batch.lag_seconds,
        }
        for batch in found.batches
    ]
    first = found.batches[0].batch if found.batches else 0
    return Page(
        "overview.html",
        {"status": status, "found": found, "chart": shown, "listed": found.batches[-BATCHES_LISTED:][::-1],
         "earlier": first - 1 if first > 1 else None, "last": last,
         "freshness": desk.pipeline.settings.alerts.freshness.total_seconds()},
    )  # fmt: skip


def batch(desk: Desk, name: str) -> Page:
    """One batch, table by table, object by object."""
    number = int(name) if re.fullmatch(r"\d{1,12}", name) else 0
    return Page("batch.html", {"detail": desk.batches.detail(number), "newest": desk.batches.read(1).newest})


def star(desk: Desk) -> Page:
    """All tables as a diagram, and which table refers to which."""
    dictionary = read_dictionary(desk.pipeline)
    facts = [table for table in dictionary.tables if table.references]
    targets = [table for table in dictionary.tables if table.referred_by]
    return Page(
        "star.html",
        {"dictionary": dictionary, "diagram": draw(dictionary.tables), "facts": facts, "targets": targets},
    )


def dictionary(desk: Desk) -> dict[str, Any]:
    """What the pages of the star and of its tables show, for programs."""
    return read_dictionary(desk.pipeline).as_json()


def table(desk: Desk, name: str) -> Page:
    """One table: its neighbours, its columns down to the source, its model."""
    find_model(desk.pipeline, name)
    dictionary = read_dictionary(desk.pipeline)
    found = dictionary.table(name)
    return Page("table.html", {"table": found, "diagram": draw(dictionary.tables, name)})


def tables(desk: Desk, query: QueryParams) -> Page:
    """The tables with their numbers of rows, now or as of a moment."""
    at = _moment(query)
    shown = desk.past.batch_at(at) if at else None
    return Page(
        "tables.html",
        {"counts": read_counts(desk.pipeline, at, desk.past), "at": at, "at_text": query.get("at", ""),
         "batch": shown.batch if shown else None, "read_at": shown.read_at if shown else None,
         "models": {model.name: model for model in desk.pipeline.project.models}},
    )  # fmt: skip


def rows(desk: Desk, name: str, query: QueryParams) -> Page:
    """A page of a table's rows."""
    model = find_model(desk.pipeline, name)
    columns = {column.name for column in model.output}
    filters = {
        key[2:]: text for key, text in query.items() if key.startswith("f.") and text and key[2:] in columns
    }
    sort = query.get("sort") or None
    at, descending = _moment(query), bool(sort and sort.startswith("-"))
    wanted = RowsWanted(
        filters, sort.removeprefix("-") if sort else None, descending, _number(query, "page") or 1, ROWS_SHOWN,
        at, query.get("versions") == "all",
    )  # fmt: skip
    found = read_rows(desk.pipeline, name, wanted, desk.past)
    retained = [(key, query[key]) for key in ("at", "versions") if query.get(key)]
    return Page(
        "rows.html",
        {"model": model, "found": found, "wanted": wanted, "at": at, "at_text": query.get("at", ""),
         "count_max": COUNT_MAX, "retained": retained, "filtering": [(f"f.{key}", text) for key, text in filters.items()]},
    )  # fmt: skip


def history(desk: Desk, name: str, query: QueryParams) -> Page:
    """One row's history."""
    key = query.getlist("key")
    if not key:
        raise ConfigurationError("no row is named", hint="Give its key, one value a key column")
    found = read_timeline(desk.pipeline, name, key)
    return Page(
        "history.html",
        {"timeline": found, "steps": found.steps[::-1], "is_star": bool(desk.pipeline.project.model(name))},
    )


def quarantine(desk: Desk, *, with_values: bool = True) -> Page:
    """What is in quarantine, by kind and with values row by row, and what the last retry did."""
    rows_max = QUARANTINE_SHOWN if with_values else 0
    found = desk.once(f"quarantine {rows_max}", lambda: read_quarantine(desk.pipeline, rows_max=rows_max))
    done, desk.retried = desk.retried, None
    return Page("quarantine.html", {"found": found, "done": done, "with_values": with_values})


def verify(desk: Desk, *, with_values: bool = True) -> Page:
    """The last verdict of `totes verify`."""
    return Page("verify.html", {"verdict": read_verdict(desk.pipeline.settings), "with_values": with_values})


def plan(desk: Desk) -> Page:
    """What differs between the models and the star."""
    found = desk.once("plan", lambda: read_plan(desk.pipeline))
    if found.unknown:  # the warehouse may be back by then
        desk.forget("plan")
    models = {model.name: model for model in desk.pipeline.project.models}
    return Page("plan.html", {"plan": found, "models": models})


def made(make: Callable[[], Page]) -> Page:
    """A page, or the one that shows why it cannot be made."""
    try:
        with engine.faults():
            return make()
    except TotesError as error:
        return failure(error)


def failure(error: TotesError) -> Page:
    """A page that says what is wrong and what to do."""
    if isinstance(error, StillReading):
        return Page("wait.html", {"error": error}, 200, refresh=1)
    known = isinstance(error, ConfigurationError | CommandFailed) and not isinstance(error, ModelError)
    return Page(
        "error.html",
        {"error": error, "title": "Not found" if known else "Not available now"},
        404 if known else 503,
    )


def fault() -> Page:
    """A page for what should not happen."""
    error = TotesError(
        "this is a fault of totes itself", hint="The terminal in which it runs has more, with --debug"
    )
    return Page("error.html", {"error": error, "title": "A fault"}, 500)


def _number(query: QueryParams, name: str) -> int | None:
    text = query.get(name, "")
    return int(text) if re.fullmatch(r"\d{1,12}", text) and int(text) else None


def _moment(query: QueryParams) -> datetime | None:
    text = query.get("at", "")
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text[:40]} is no moment", hint="Write it as 2026-11-28T09:30:00, in UTC"
        ) from error
