"""The server: one process on one address, until it is stopped."""

from __future__ import annotations

import ipaddress
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn

from totes.errors import ConfigurationError
from totes.redaction import register_secret
from totes.ui.application import Site
from totes.ui.desk import Desk
from totes.ui.protection import Access, hosts_of

OPEN = (
    "This page can be reached from other machines, without encryption: whoever has its address with the token sees the"
    " warehouse's rows."
)


class _Server(uvicorn.Server):
    """uvicorn's server, for which being asked to stop is its good end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops at SIGINT and SIGTERM; at the second one at once."""
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(desk: Desk, host: str, port: int, announce: Callable[[str, str], None]) -> None:
    """Serves the pages until SIGINT or SIGTERM.

    Args:
        desk: what pages stand on.
        host: an address of this machine; on another than loopback a token is required.
        port: the port; 0 for one that is free.
        announce: is called with the address, including the token if there is one, and the warning to show.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    with closing(_listen(host, port)) as listening:
        port = listening.getsockname()[1]
        local = _is_loopback(listening.getsockname()[0])
        token = "" if local else secrets.token_urlsafe(24)
        if token:
            register_secret(token)
        access = Access(hosts_of(host, port) if local else None, token)
        warning = "" if local else OPEN
        shown = f"[{host}]" if ":" in host else host
        settings: dict[str, Any] = {
            "lifespan": "off", "ws": "none", "http": "h11", "loop": "asyncio", "proxy_headers": False,
            "log_config": None, "access_log": False, "server_header": False, "limit_concurrency": 100,
            "timeout_graceful_shutdown": 2,
        }  # fmt: skip
        server = _Server(uvicorn.Config(Site(desk, access, warning).application(), **settings))
        with server.capture_signals():  # from the moment on at which somebody knows of it
            announce(f"http://{shown}:{port}/{f'?token={token}' if token else ''}", warning)
            server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)  # requests may come as soon as the address is known
    except OSError as error:
        raise ConfigurationError(
            f"{host} port {port} cannot be listened on: {error.strerror}",
            hint="Choose another --port; 0 takes one that is free",
        ) from error
    return listening


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
