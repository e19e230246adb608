"""Workers on Apache Spark 4: each call is a job of one task, in a Python process of an executor.

Spark moves and schedules calls, and knows nothing of what they do: rows never pass through it. That there is a job for each
call, and a thread here that waits for it, is what limits how many run, whatever the cluster's size; Spark itself starts a task
again whose executor is lost. The executors need the same version of totes.
"""

from __future__ import annotations

import os
import pickle  # nosec B403
import socket
import sys
from collections.abc import Callable, Generator, Iterable
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from totes import __version__
from totes.errors import ConfigurationError, WorkersFailed
from totes.progress import report
from totes.redaction import redact
from totes.workers.protocol import A, R, in_threads

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_CONNECT_PORT, _SECONDS_MAX = 15002, 15.0


class SparkWorkers:
    """See Workers.

    Args:
        url: a standalone cluster, `spark://host:7077`; a server of Spark Connect, `sc://host:15002`; or a cluster of processes
            on this machine, `local-cluster[executors,cores,megabytes]`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: SparkSession | None = None

    def map(self, task: Callable[[A], R], arguments: Iterable[A], at_once: int) -> Generator[R]:
        """See Workers. A single argument is not worth a cluster: the task is called here."""
        following = iter(arguments)
        first = list(islice(following, 2))
        call = partial(self._call, self._session(), task) if len(first) > 1 else task
        return in_threads(call, chain(first, following), at_once)

    def close(self) -> None:
        """See Workers: the application ends, and its executors with it."""
        if self._opened:
            self._opened.stop()
            self._opened = None

    def _session(self) -> SparkSession:
        if self._opened is None:
            report(f"connecting to Spark at {redact(self._url)}")
            try:
                from pyspark.sql import SparkSession
            except ImportError as error:
                raise ConfigurationError(
                    f"workers.url is {redact(self._url)}, and PySpark is not installed",
                    hint="pip install 'totes[spark]'",
                ) from error
            builder = SparkSession.builder.appName("totes")
            if self._url.startswith("sc://"):
                self._check_server()
                builder = builder.remote(self._url)
            else:
                builder = builder.master(self._url).config("spark.ui.showConsoleProgress", "false")
            if self._url.startswith("local-cluster"):
                os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            try:
                self._opened = builder.getOrCreate()
            except Exception as error:
                raise self._failure("connecting failed", error) from error
        return self._opened

    def _check_server(self) -> None:
        """Makes sure that a server of Spark Connect answers: its client would go on trying for minutes."""
        try:
            place = urlsplit(self._url)
            socket.create_connection(
                (place.hostname or "", place.port or _CONNECT_PORT), _SECONDS_MAX
            ).close()
        except (OSError, ValueError) as error:
            raise self._failure("connecting failed", error) from error

    def _call(self, session: SparkSession, task: Callable[[A], R], argument: A) -> R:
        from pyspark.sql.functions import udf

        version, call = __version__, pickle.dumps((task, argument))
        # Not over Arrow, in which a result would pass through pandas.
        function = udf(lambda _: answer(version, call), "binary", useArrow=False)
        try:
            [[found]] = session.range(0, 1, 1, 1).select(function("id")).collect()
        except Exception as error:
            raise self._failure("a task failed", error) from error
        result, failure = pickle.loads(found)  # noqa: S301  # nosec B301
        if failure is not None:
            raise failure
        return result  # type: ignore[no-any-return]

    def _failure(self, what: str, error: Exception) -> WorkersFailed:
        lines = [line for line in str(error).splitlines() if line.strip()]
        named = next(
            (line for line in reversed(lines) if "ModuleNotFoundError" in line), lines[0] if lines else ""
        )
        step = (
            f"Install totes {__version__} there"
            if "ModuleNotFoundError" in named
            else "Look at Spark's own log"
        )
        return WorkersFailed(
            f"Spark at {redact(self._url)}: {what}: {redact(named) or type(error).__name__}",
            hint=f"{step}: docs/how-to/spark.md",
        )


def answer(version: str, call: bytes) -> bytes:
    """Runs a pickled call of a version of totes in an executor; returns its pickled result and error, one of which is None."""
    result, failure = None, None
    try:
        if version != __version__:
            raise WorkersFailed(
                f"an executor has totes {__version__}, and it was called by totes {version}",
                hint=f"Install totes {version} there: docs/how-to/spark.md",
            )
        task, argument = pickle.loads(call)  # noqa: S301  # nosec B301
        result = task(argument)
    except Exception as error:
        failure = _picklable(error)
    return pickle.dumps((result, failure))


def _picklable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # nosec B301
    except Exception:  # an error's own methods are called, and may raise anything
        return WorkersFailed(f"a task failed: {type(error).__name__}: {error}")
    return error
