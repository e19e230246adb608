"""Whatever is printed in a function is a document of the log, without a secret: by stages, libraries, threads, Python itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.aws.runtime import Runtime
from tests.security.planting import at, found_in

PROGRAM = """
import logging, sys, threading, warnings
logging.getLogger().addHandler(logging.StreamHandler())  # as Lambda's runtime does
from totes.aws import logs
from totes.log import logger
from totes.redaction import register_secret
logs.configure()
register_secret(sys.argv[1])
logs.begin_call(execution="one", stage="load", captured_at=None)
logger(stage="process").info("a stage", url=sys.argv[1], of=[sys.argv[1]])
logger().debug("unheard")
thread = threading.Thread(target=logger().warning, args=(sys.argv[1],))
thread.start(), thread.join()
thread = threading.Thread(target=int, args=(sys.argv[1],))
thread.start(), thread.join()
logging.getLogger("library").warning("given %r", sys.argv[1])
logging.getLogger("library").info("unheard")
logging.getLogger("library").error("failed", exc_info=ValueError(sys.argv[1]))
warnings.warn(sys.argv[1])
type("Kept", (), {"__del__": lambda self: int(sys.argv[1])})()
raise ValueError(sys.argv[1])
"""


def test_all_that_is_printed_is_a_document_of_the_log_without_a_secret() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, at(1, "source")], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = [(line["level"], line["stage"], line["execution"]) for line in lines]
    levels = ["INFO", "WARNING", "ERROR", "WARNING", "ERROR", "WARNING", "ERROR", "ERROR"]
    assert told == [(level, "process" if level == "INFO" else "load", "one") for level in levels]
    assert all("***" in json.dumps(line) for line in lines)
    assert found_in(done.stdout) == set()


def test_a_function_that_cannot_begin_says_so(lambda_zip: Path, lambda_folder: Path) -> None:
    with Runtime(lambda_zip, "totes.aws.handlers.unload", {}, lambda_folder) as runtime:
        assert runtime.invoke({}).error_type == "Runtime.HandlerNotFound"


def test_a_function_without_settings_says_what_is_missing(lambda_zip: Path, lambda_folder: Path) -> None:
    with Runtime(lambda_zip, "totes.aws.handlers.load", {}, lambda_folder) as runtime:
        outcome = runtime.invoke({"execution": "first"})
    assert outcome.error_type == "ConfigurationError"
    [line] = outcome.log
    assert (line["level"], line["retryable"], line["execution"]) == ("ERROR", False, "first")
