"""A process that holds a pipeline and runs one cycle for each line that it reads; it says how long that took, as JSON."""

from __future__ import annotations

import faulthandler
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.measurement import BenchmarkFailed

ROOT = Path(__file__).parents[1]


class Cycles:
    """The process, from outside; it lives as long as the context."""

    def __init__(self, settings: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.cycles", str(settings)]
        self._log = (settings.parent / "cycles.log").open("wb+")
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def __enter__(self) -> Cycles:
        """Returns itself; the process runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends the process."""
        self._process.communicate()
        self._log.close()

    def run(self) -> dict[str, Any]:
        """Runs a cycle; gives the document of `totes run --json`, and `elapsed` and `cpu`: its seconds from start to committed.

        Raises:
            BenchmarkFailed: a stage failed, or the process ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            words = self._log.read().decode(errors="replace")[-3000:]
            raise BenchmarkFailed(f"the process of the cycles ended with {self._process.wait()}: {words}")
        document: dict[str, Any] = json.loads(line)
        if "failures" in document:
            raise BenchmarkFailed(f"a cycle failed: {document['failures']}")
        return document


def main() -> None:
    """Runs cycles until standard input ends."""
    from totes import log
    from totes.config import load_settings
    from totes.pipeline import Pipeline

    faulthandler.enable()
    log.configure(terminal=False)
    pipeline = Pipeline(load_settings(Path(sys.argv[1])))
    with pipeline.kept_open():
        for _ in sys.stdin:
            began, busy = time.perf_counter(), time.process_time()
            cycle = pipeline.run()
            taken = {"elapsed": time.perf_counter() - began, "cpu": time.process_time() - busy}
            print(json.dumps(cycle.as_json() | taken, default=str), flush=True)


if __name__ == "__main__":
    main()
