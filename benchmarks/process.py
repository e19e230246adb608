"""Runs a command and measures it from its start to its end: seconds, and the peak memory of its whole process tree."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from benchmarks.measurement import BenchmarkFailed

SAMPLE_SECONDS = 0.05
LINES_SHOWN = 12
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OTHERS = ("TOTES_", "PG", "SLING_", "DLT_")


@dataclass(frozen=True)
class Finished:
    """A command that has ended well."""

    seconds: float
    peak_bytes: int | None
    out: str


class PeakMemory:
    """Samples a process and all its descendants every 50 ms, while the context lasts.

    The sum is of resident memory; of processes that share pages, such as forks, of proportional memory, which counts
    a shared page once. `peak_bytes` stays None where there is no /proc to read.
    """

    def __init__(self, process_id: int) -> None:
        self.peak_bytes: int | None = None
        self._process_id = process_id
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, daemon=True)

    def __enter__(self) -> PeakMemory:
        """Begins to sample."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops sampling."""
        self._ended.set()
        self._thread.join()

    def _sample_on(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        tree = _tree(self._process_id)
        total = sum(_resident_bytes(process) for process in tree)
        if total <= (self.peak_bytes or 0):
            return
        if len(tree) > 1:  # dearer to read, so only where it can make a difference
            total = sum(_proportional_bytes(process) for process in tree)
        if total > (self.peak_bytes or 0):
            self.peak_bytes = total


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> Finished:
    """Runs a command to its end.

    Args:
        command: the program and its arguments.
        folder: the working directory.
        environment: variables over those of this process, without those that programs measured here would read.

    Raises:
        BenchmarkFailed: it ended with another code than 0; the message has the end of what it said.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    with (folder / "stderr.log").open("wb+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=inherited | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=said,
        )  # fmt: skip
        with PeakMemory(process.pid) as memory:
            out, _ = process.communicate()
            seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            words = " | ".join((out + said.read()).decode(errors="replace").split("\n")[-LINES_SHOWN - 1 :])
            raise BenchmarkFailed(f"{Path(command[0]).name} ended with {process.returncode}: {words}")
    return Finished(seconds, memory.peak_bytes, out.decode())


def _tree(process_id: int) -> list[int]:
    """A process and its descendants."""
    found = [process_id]
    for process in found:
        try:
            threads = list(Path(f"/proc/{process}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
    return found


def _resident_bytes(process_id: int) -> int:
    try:
        return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional_bytes(process_id: int) -> int:
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
