"""`totes` on the path of shells: what they call hands over to the test's process, which runs the command as all others."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes

_SECONDS_MAX = 120.0
# Sends its arguments, folder, variables and streams, and ends with the exit code that comes back.
_CALLED = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
    asked.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
    socket.send_fds(asked, [call.encode()], [0, 1, 2])
    sys.exit(int(asked.recv(16)))
"""
_BYTES_MAX = 1 << 18


@contextmanager
def totes_on_path() -> Iterator[Path]:
    """A folder with a program `totes`, for as long as the context lasts."""
    with (
        tempfile.TemporaryDirectory(prefix="path-") as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
    ):
        address = f"{place}/socket"
        program = Path(place, "totes")
        program.write_text(_CALLED.format(python=sys.executable, address=address), "utf-8")
        program.chmod(0o755)
        listener.bind(address)
        listener.listen()
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        try:
            yield Path(place)
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            asked, _ = listener.accept()
        except OSError:  # it was shut down
            return
        threading.Thread(target=_answer, args=(asked,), daemon=True).start()


def _answer(asked: socket.socket) -> None:
    """Runs a command over the streams of whoever called it."""
    with asked:
        call, streams, _, _ = socket.recv_fds(asked, _BYTES_MAX, 3)
        try:
            arguments, folder, environment = json.loads(call)
            read, out, err = (f"/proc/{os.getpid()}/fd/{stream}" for stream in streams)
            code = processes.over(read, out, err, arguments, Path(folder), environment, _SECONDS_MAX)
        finally:
            for stream in streams:
                os.close(stream)
        asked.send(str(code).encode())
