"""Failpoints: named places at which a test can kill or stop the process, to simulate a crash or a long pause there.

`TOTES_FAILPOINT=NAME:N` kills the process the Nth time that it reaches NAME, `NAME:N=stop` stops it until it receives
SIGCONT, and `TOTES_FAILPOINT_TRACE=FILE` records which points are reached. Without these variables nothing happens. The idea
is that of TiKV's and FreeBSD's fail points; every name is in the code once, as a literal.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from threading import Lock

_reached: Counter[str] = Counter()
_counting = Lock()


def reach(name: str) -> None:
    """Marks a place between two steps at which a crash may happen."""
    trace = os.environ.get("TOTES_FAILPOINT_TRACE")
    if trace:
        with Path(trace).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
    wanted = os.environ.get("TOTES_FAILPOINT")
    if not wanted:
        return
    place, _, action = wanted.partition("=")
    point, _, turn = place.partition(":")
    if point != name:
        return
    with _counting:
        _reached[name] += 1
        is_wanted = _reached[name] == int(turn or 1)
    if is_wanted:
        os.kill(os.getpid(), signal.SIGSTOP if action == "stop" else signal.SIGKILL)
