"""Runs the oracle's machine with ever new seeds until it is told to stop; a failure says how to see it again.

python -m tests.oracle.soak [--seed N] [--kind duckdb|postgresql] [--steps N] [--life short|long] [--minutes N]

A long life has at least three times as many steps, and what takes many batches to come about (life.py).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Database
from tests.oracle.life import LongLife
from tests.oracle.machine import ShopMachine, tally
from totes import log
from totes.terrifictotes.server import LocalServer

STEPS = {"short": 100, "long": 300}


def run_machine(
    new_database: Callable[[], Any],
    kind: str,
    number: int,
    *,
    steps: int,
    machine: type[ShopMachine] = ShopMachine,
) -> None:
    """Runs one machine of so many steps, which its seed chooses.

    Nothing is shrunk, since each try takes seconds. The first two of three examples are Hypothesis's smallest: nothing
    happens in them.
    """
    shop = type("Shop", (machine,), {"new_database": staticmethod(new_database), "kind": kind})
    chosen = settings(
        max_examples=3, stateful_step_count=steps, phases=(Phase.generate,), deadline=None, database=None,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(shop), settings=chosen)


def say(line: str) -> None:
    """Writes a line to standard output, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Runs until a machine fails, or the time is over; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="one machine of this seed only")
    parser.add_argument(
        "--kind", choices=("duckdb", "postgresql"), help="the kind of warehouse; by default in turn"
    )
    parser.add_argument("--steps", type=int, help=f"how many steps a machine has; by default {STEPS}")
    parser.add_argument("--life", choices=("short", "long"), help="how they live; by default in turn")
    parser.add_argument("--minutes", type=float, help="when to stop; by default never")
    asked = parser.parse_args()
    log.configure(terminal=False)
    logging.getLogger("totes").setLevel(logging.CRITICAL)
    began, names = time.monotonic(), itertools.count(1)
    kinds = [asked.kind] if asked.kind else ["duckdb", "duckdb", "postgresql"]
    with LocalServer.start() as server:

        def new_database() -> Database:
            name = f"soak_{next(names)}"
            with psycopg.connect(server.url(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            return Database(server.url(name), name)

        for number in itertools.count(1):
            chosen = asked.seed or random.SystemRandom().randrange(1, 1 << 31)
            kind, life = kinds[number % len(kinds)], asked.life or ("short", "long")[number // 2 % 2]
            steps = asked.steps or STEPS[life]
            machine = LongLife if life == "long" else ShopMachine
            try:
                run_machine(new_database, kind, chosen, steps=steps, machine=machine)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    return 0
                traceback.print_exc()
                again = f"--seed {chosen} --kind {kind} --life {life} --steps {steps}"
                say(f"\nTo see it again: .venv/bin/python -m tests.oracle.soak {again}")
                return 1
            minutes = (time.monotonic() - began) / 60
            say(f"{number} machines, {minutes:.1f} min: {dict(sorted(tally.items()))}")
            if asked.seed or (asked.minutes and minutes > asked.minutes):
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
