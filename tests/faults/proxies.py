"""Two proxies that misbehave on purpose: one of bytes, for PostgreSQL, and one of HTTP, for S3."""

from __future__ import annotations

import http.client
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, Self

_PIECE_BYTES = 1 << 16
_LOOK_SECONDS = 0.05
_SLOW_SECONDS = 0.1
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def reset(connection: socket.socket) -> None:
    """Ends a connection as a machine that has lost it does: what comes from the other side is answered by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class BytesProxy:
    """Passes connections on to a port of this machine, until told otherwise.

    `after_bytes` is how much of an answer a client gets before `then` is called, once; when that gives False the
    connection is reset on both sides. So a test acts while a table is being read, whatever the machine's speed. While
    `silent` is set, connections are taken and nothing is passed on.
    """

    def __init__(self, port: int, own_port: int = 0) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", own_port))
        self.port: int = self._listener.getsockname()[1]
        self.after_bytes: int | None = None
        self.then: Callable[[], bool] = lambda: False
        self.silent = False
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def url(self, url: str) -> str:
        """A URL of the target as one that leads through here."""
        return url.replace(f":{self._target}/", f":{self.port}/")

    def _accept(self) -> None:
        while not self._ending.is_set():
            if select.select([self._listener], [], [], _LOOK_SECONDS)[0]:
                thread = threading.Thread(target=self._serve, args=(self._listener.accept()[0],))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            if self.silent:
                self._ending.wait()
                return
            with socket.socket() as server:
                # What the target has sent and the client has not seen is little, so that it is disturbed in mid-answer.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE_BYTES)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE_BYTES)
                server.connect(("127.0.0.1", self._target))
                self._pass(client, server)

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        answered = 0
        while not self._ending.is_set():
            for giver in select.select([client, server], [], [], _LOOK_SECONDS)[0]:
                piece = giver.recv(_PIECE_BYTES)
                if not piece:
                    return
                answered += len(piece) if giver is server else 0
                if giver is server and self.after_bytes is not None and answered > self.after_bytes:
                    self.after_bytes = None
                    if not self.then():
                        reset(client)
                        reset(server)
                        return
                (server if giver is client else client).sendall(piece)


Fault = Literal["unavailable", "slow", "half", "short", "lost"]


class HttpProxy:
    """Passes requests on to an S3 server, except for those to which `fault` gives a fault; `seen` has all of them.

    - `unavailable`: 503, without asking the server
    - `slow`: late, and the content in two pieces with a pause between them
    - `half`: the connection ends in the middle of the answer
    - `short`: half the content, with a length that says it is all
    - `lost`: the server does what it was asked to, and the connection is reset instead of an answer

    Signatures of requests cover the header Host, which is passed on unchanged.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
        self.seen: list[tuple[str, str, Fault | None]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_LOOK_SECONDS,))
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def met(self, fault: Fault) -> list[tuple[str, str]]:
        """The requests that met a fault."""
        return [(method, path) for method, path, met in self.seen if met == fault]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: HttpProxy


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has gone
            self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Says nothing."""

    def answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy = self.server.proxy
        fault = proxy.fault(self.command, self.path)
        proxy.seen.append((self.command, self.path, fault))
        if fault == "unavailable":
            self._give(
                503, {}, b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>", None
            )
            return
        status, headers, found = self._ask(content)
        if fault == "lost":
            self.close_connection = True
            reset(self.connection)
        else:
            self._give(status, headers, found, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

    def _ask(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        server = http.client.HTTPConnection(self.server.proxy.target.removeprefix("http://"), timeout=30)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            server.putheader(name, value)
        server.endheaders(content)
        answer = server.getresponse()
        found = answer.read()
        server.close()
        return answer.status, dict(answer.getheaders()), found

    def _give(self, status: int, headers: dict[str, str], content: bytes, fault: Fault | None) -> None:
        length, half = len(content), len(content) // 2
        if fault == "short":
            content, length = content[:half], half
        if self.command == "HEAD":
            length = int(headers.get("Content-Length", 0))
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if fault == "slow":
            time.sleep(_SLOW_SECONDS)
        self.wfile.write(content[:half])
        self.wfile.flush()
        if fault == "slow":
            time.sleep(_SLOW_SECONDS)
        if fault == "half":
            self.close_connection = True
        else:
            self.wfile.write(content[half:])
