"""Who may ask: only pages of this server, under a name of this machine, and with the token where one is required.

A page of another site can have a browser send requests here, and with DNS rebinding read the answers as well. So the Host
that a request names has to be one of ours, what changes something has to come from a page of ours (Origin and a token in
the form), and pages load nothing from elsewhere.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_COOKIE = "totes-ui"
_FORM_BYTES_MAX = 4096


@dataclass(frozen=True)
class Access:
    """What this process accepts: `hosts` with their port, any if None; `token` is empty where none is required."""

    hosts: frozenset[str] | None
    token: str = ""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Protection:
    """Answers what may not be asked, and passes on the rest."""

    def __init__(self, application: ASGIApp, access: Access) -> None:
        self._application = application
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if "cache-control" not in headers:
                    headers["Cache-Control"] = "no-store"
            await send(message)

        request = Request(scope)
        answer = self._refusal(request) or self._admission(request)
        await (answer or self._application)(scope, receive, guarded)

    def _refusal(self, request: Request) -> ASGIApp | None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or (self._access.hosts is not None and hosts[0].lower() not in self._access.hosts):
            return PlainTextResponse("This is not the name of this server.\n", 421)
        if request.method not in ("GET", "HEAD"):
            origin = request.headers.get("origin", "")
            if origin.lower() != f"http://{hosts[0].lower()}":
                return PlainTextResponse("This did not come from a page of this server.\n", 403)
        return None

    def _admission(self, request: Request) -> ASGIApp | None:
        """Asks for the token; one that comes in the address becomes a cookie, so that no address has it from then on."""
        if not self._access.token:
            return None
        given = request.query_params.get("token", "")
        if request.method == "GET" and _same(given, self._access.token):
            rest = [(key, text) for key, text in request.query_params.multi_items() if key != "token"]
            answer = RedirectResponse(request.url.path + (f"?{urlencode(rest)}" if rest else ""), 303)
            answer.set_cookie(_COOKIE, self._access.token, httponly=True, samesite="strict", path="/")
            return answer
        if _same(request.cookies.get(_COOKIE, ""), self._access.token):
            return None
        return PlainTextResponse("This needs the token: open the address that totes ui printed.\n", 401)


async def is_own_form(request: Request, access: Access) -> bool:
    """Whether what was sent is a form of a page that this process made."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES_MAX:
            return False
    return _same(parse_qs(body.decode("latin-1")).get("csrf", [""])[0], access.csrf)


def hosts_of(host: str, port: int) -> frozenset[str]:
    """The names under which a server on loopback is asked for."""
    names = {"127.0.0.1", "localhost", "[::1]", f"[{host}]" if ":" in host else host}
    return frozenset(f"{name}:{port}" for name in names) | (names if port == 80 else frozenset())


def _same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode(), expected.encode())
