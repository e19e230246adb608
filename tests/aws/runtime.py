"""An execution environment of Lambda on this machine: the zip, unpacked, under AWS's own runtime client.

The process sees what it would see there: its own packages from the zip, those that Lambda's runtime brings, and the standard
library; nothing of this repository, nor of the environment that the tests run in. What stands for the service is a small
HTTP server that hands out events and takes answers in; beyond the time limit it kills the process, as the service does.

Not as there: the processor and memory that a function gets, the system that the files are on (folders stand for `/var/task`
and `/tmp`), and that the process has no rights. It writes no byte code, as it could not there, and finds what was made when
the zip was unpacked, so that not each of these processes compiles all modules.
"""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# What Lambda's Python brings beside the standard library.
RUNTIME_PACKAGES = (
    "awslambdaric", "runtime_client", "simplejson", "snapshot_restore_py", "boto3", "botocore", "s3transfer",
    "jmespath", "dateutil", "six", "urllib3",
)  # fmt: skip
_API = "/2018-06-01/runtime"
_START_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a call gave: its result, or an error as the service tells it, and what the process printed meanwhile."""

    result: Any = None
    error_type: str = ""
    error_message: str = ""
    stack_trace: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The lines that are JSON."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return [document for document in self.documents if "_aws" not in document]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines that CloudWatch takes for metrics."""
        return [document for document in self.documents if "_aws" in document]


class Runtime:
    """One execution environment of a function: warm from its second call on."""

    def __init__(
        self,
        package: Path,
        handler: str,
        environment: Mapping[str, str],
        folder: Path,
        *,
        name: str = "totes",
        memory_mb: int = 1769,
    ) -> None:
        """Makes an environment that starts with the first call.

        Args:
            package: the zip.
            handler: `totes.aws.handlers.ingest`, for example.
            environment: the function's variables, its credentials among them.
            folder: where the zip is unpacked, once for all that use the folder, and where `/tmp` is.
            name: the function's name.
            memory_mb: what the function is told that it has.
        """
        self._handler = handler
        self._environment = dict(environment)
        self._name = name
        self._memory_mb = memory_mb
        self.task_root = unpacked(package, folder)
        self._brought = brought(folder)
        self._place = folder / f"{name}-{uuid.uuid4().hex[:8]}"
        self.tmp = self._place / "tmp"
        self.tmp.mkdir(parents=True)
        self._output = self._place / "output"
        self._process: subprocess.Popen[bytes] | None = None
        self._service: _Service | None = None
        self._read = 0

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def invoke(
        self, event: object, seconds_max: float = 60.0, *, told_seconds: float | None = None
    ) -> Outcome:
        """Calls the function, and kills its process where it takes longer; the next call then begins in a new one.

        Args:
            event: the event.
            seconds_max: the time limit.
            told_seconds: what the function is told of the time it has left, where that is not the limit: a call at
                the end of its time, without the risk that it is killed.
        """
        began = time.monotonic()
        if self._process is None or self._process.poll() is not None:
            self._start()
            began = time.monotonic()
        assert self._service is not None
        kind, document = self._service.call(
            json.dumps(event), seconds_max, seconds_max if told_seconds is None else told_seconds
        )
        if kind in ("timeout", "exit", "init"):
            self.kill()
        taken = time.monotonic() - began
        lines = self._new_lines()
        if kind == "response":
            return Outcome(result=document, lines=lines, seconds=taken)
        if kind == "timeout":
            document = {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"Task timed out after {seconds_max:.2f} seconds",
            }
        elif kind == "exit":
            document = {
                "errorType": "Runtime.ExitError",
                "errorMessage": "Runtime exited without providing a reason",
            }
        trace = tuple(document.get("stackTrace") or ())
        return Outcome(None, document["errorType"], document["errorMessage"], trace, lines, taken)

    def kill(self) -> None:
        """Ends the process at once. What it left in `/tmp` stays, as it does there."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
        if self._service is not None:
            self._service.close()
            self._service = None

    def renew(self) -> None:
        """Ends the environment; the next call begins in a new one, with an empty `/tmp`."""
        self.kill()
        shutil.rmtree(self.tmp)
        self.tmp.mkdir()

    def close(self) -> None:
        """Ends the environment for good."""
        self.kill()
        shutil.rmtree(self._place, ignore_errors=True)

    def _start(self) -> None:
        self.kill()
        self._service = _Service()
        variables = {
            "_HANDLER": self._handler,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": self._name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{self._name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{uuid.uuid4().hex}",
            "AWS_LAMBDA_RUNTIME_API": self._service.address,
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join((str(self.task_root), str(self._brought))),
            "TMPDIR": str(self.tmp),
            "TZ": ":UTC",
        }
        variables |= self._environment
        # The function's own `/tmp`, in which it keeps what outlives a call.
        if (cache := variables.get("TOTES_LAKE__CACHE", "")).startswith("/tmp/"):
            variables["TOTES_LAKE__CACHE"] = str(self.tmp / cache.removeprefix("/tmp/"))
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "awslambdaric", self._handler],
                cwd=self.task_root, env=variables, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        self._service.watch(self._process)

    def _new_lines(self) -> tuple[str, ...]:
        with self._output.open("rb") as output:
            output.seek(self._read)
            printed = output.read()
        self._read += len(printed)
        # The runtime client writes an error with carriage returns between its lines: one entry of the log.
        return tuple(line for line in printed.decode().split("\n") if line)


@dataclass
class _Service:
    """The service's side of one process: it gives events, one at a time, and takes answers in."""

    events: queue.SimpleQueue[tuple[str, str, float] | None] = field(default_factory=queue.SimpleQueue)
    answers: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    ready: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.ready.set()
                given = service.events.get()
                if given is None:
                    self.close_connection = True
                    return
                request_id, event, seconds = given
                body = event.encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + seconds) * 1000)))
                self.send_header(
                    "Lambda-Runtime-Invoked-Function-Arn",
                    "arn:aws:lambda:eu-west-2:123456789012:function:totes",
                )
                self.send_header(
                    "Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0"
                )
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                kind = "init" if self.path == f"{_API}/init/error" else self.path.rpartition("/")[2]
                service.answers.put((kind, json.loads(body)))

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where the runtime client finds the service."""
        return f"127.0.0.1:{self._server.server_port}"

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Notices when the process ends."""

        def wait() -> None:
            process.wait()
            self.ready.set()
            self.answers.put(("exit", None))

        threading.Thread(target=wait, daemon=True).start()

    def call(self, event: str, seconds_max: float, told_seconds: float) -> tuple[str, Any]:
        """Gives an event, and waits for the answer; the time counts from when the process is ready for it."""
        if not self.ready.wait(_START_SECONDS_MAX):
            return "timeout", None
        self.events.put((str(uuid.uuid4()), event, told_seconds))
        try:
            return self.answers.get(timeout=seconds_max)
        except queue.Empty:
            return "timeout", None

    def close(self) -> None:
        """Ends the service."""
        self.events.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def unpacked(package: Path, folder: Path) -> Path:
    """The folder that the zip is unpacked in, below the one given; done once."""
    target = folder / f"task-{package.stem}-{package.stat().st_mtime_ns}"
    if not target.is_dir():
        unfinished = folder / f"unpacking-{uuid.uuid4().hex}"
        with zipfile.ZipFile(package) as archive:
            archive.extractall(unfinished)
        compileall.compile_dir(unfinished, quiet=2, stripdir=str(unfinished), prependdir=str(target))
        try:
            unfinished.rename(target)
        except OSError:  # somebody else was first
            shutil.rmtree(unfinished)
    return target


def brought(folder: Path) -> Path:
    """A folder with links to the packages that Lambda's runtime brings, as they are installed here."""
    target = folder / "runtime"
    target.mkdir(exist_ok=True)
    for name in RUNTIME_PACKAGES:
        found = importlib.util.find_spec(name)
        assert found is not None, f"{name} is not installed: it is what Lambda's runtime brings"
        assert found.origin is not None
        origin = Path(found.origin)
        origin = origin.parent if origin.name == "__init__.py" else origin
        with suppress(FileExistsError):
            (target / origin.name).symlink_to(origin)
    return target
