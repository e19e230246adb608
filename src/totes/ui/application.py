"""The pages under their addresses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from totes import __version__, engine
from totes.errors import BatchConflict, ConfigurationError, TotesError
from totes.log import logger
from totes.monitoring.alerts import watch
from totes.monitoring.quarantine import retry
from totes.ui import pages
from totes.ui.desk import Desk
from totes.ui.links import ServerLinks
from totes.ui.protection import Access, Protection, is_own_form
from totes.ui.rendering import Page, Renderer, Surroundings

STATIC = Path(__file__).with_name("static")
_log = logger()


class Site:
    """All pages over one pipeline, as an application."""

    def __init__(self, desk: Desk, access: Access, warning: str = "") -> None:
        """Prepares it.

        Args:
            desk: what pages stand on.
            access: who may ask.
            warning: what is said on top of each page.
        """
        self._desk = desk
        self._access = access
        self._renderer = Renderer()
        self._around = Surroundings(
            desk.pipeline.settings.project.name, ServerLinks(__version__), access.csrf, warning
        )
        self._retrying = threading.Lock()

    def application(self) -> Starlette:
        """The application."""
        desk, route = self._desk, self._route
        return Starlette(
            routes=[
                route("/", lambda request: pages.overview(desk, request.query_params)),
                route("/batch/{name}", lambda request: pages.batch(desk, _name(request))),
                Route("/dictionary", self._dictionary),
                route("/star", lambda _: pages.star(desk)),
                route("/star/{name:path}", lambda request: pages.table(desk, _name(request))),
                route("/rows", lambda request: pages.tables(desk, request.query_params)),
                route(
                    "/rows/{name:path}",
                    lambda request: pages.rows(desk, _name(request), request.query_params),
                ),
                route(
                    "/history/{name:path}",
                    lambda request: pages.history(desk, _name(request), request.query_params),
                ),
                route("/quarantine", lambda _: pages.quarantine(desk)),
                Route("/quarantine/retry", self._retry, methods=["POST"]),
                route("/verify", lambda _: pages.verify(desk)),
                route("/plan", lambda _: pages.plan(desk)),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[Middleware(Protection, access=self._access)],
            exception_handlers={404: self._missing},
        )

    def _route(self, path: str, make: Callable[[Request], Page]) -> Route:
        def respond(request: Request) -> Response:
            return self._response(_made(lambda: make(request)))

        return Route(path, respond)

    def _response(self, page: Page) -> Response:
        headers = {"Refresh": str(page.refresh)} if page.refresh else None
        return HTMLResponse(self._renderer.html(page, self._around), page.status, headers)

    def _dictionary(self, _request: Request) -> Response:
        try:
            with engine.faults():
                return JSONResponse(pages.dictionary(self._desk))
        except TotesError as error:
            return self._response(pages.failure(error))

    def _missing(self, _request: Request, _error: Exception) -> Response:
        return self._response(pages.failure(ConfigurationError("there is no such page")))

    async def _retry(self, request: Request) -> Response:
        if not await is_own_form(request, self._access):
            return PlainTextResponse("This form is not of a page of this server. Open it again.\n", 403)
        return await run_in_threadpool(self._retry_now)

    def _retry_now(self) -> Response:
        if not self._retrying.acquire(blocking=False):
            return self._response(pages.failure(BatchConflict("a retry is running already")))
        try:
            with engine.faults():
                done = retry(self._desk.pipeline)
                if done.cycle:
                    watch(self._desk.pipeline.settings, done.cycle)
            self._desk.retried = done
        except TotesError as error:
            return self._response(pages.failure(error))
        finally:
            self._retrying.release()
        return RedirectResponse("/quarantine", 303)


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _made(make: Callable[[], Page]) -> Page:
    """A page, whatever comes of making it."""
    try:
        return pages.made(make)
    except (
        Exception
    ):  # a fault is shown as one, without a traceback; it is in the log, and the server goes on
        _log.exception("a page could not be made")
        return pages.fault()
