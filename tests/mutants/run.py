"""Plants faults, one at a time, and says which of them no test notices.

python -m tests.mutants.run [--number N] [--seed SEED] [--only PACKAGE,…] [--measured]

What a run has found stays in build/mutants/results.jsonl: the same run goes on where it was ended. A mutant that was noticed is
not tried again while its file is the same, and one that was not is tried again when a test has changed.
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutants.reach import PLACE, ROOT, Reach, measure, test_files
from tests.mutants.sites import PACKAGES, Mutant, sample
from tests.mutants.trial import Outcome, Tree, tests_digest

RATE_MIN = 0.85
_RESULTS = PLACE / "results.jsonl"
_EQUIVALENT = Path(__file__).with_name("equivalent.txt")
_writing = threading.Lock()


def equivalents() -> set[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """The changes that change nothing a test could see, each with its reason in the file."""
    found = set()
    for part in _EQUIVALENT.read_text("utf-8").split("\n\n"):
        lines = [line for line in part.splitlines() if line.strip() and not line.startswith("#")]
        if lines:
            gone = tuple(line[1:].strip() for line in lines if line.startswith("-"))
            come = tuple(line[1:].strip() for line in lines if line.startswith("+"))
            found.add((lines[0].strip(), gone, come))
    return found


def main() -> int:
    """Runs, and gives the exit code: 1 where fewer mutants are noticed than have to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description=__doc__)
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 1_000_000))
    parser.add_argument("--only", default=",".join(PACKAGES), help="of these packages only")
    parser.add_argument(
        "--measured", action="store_true", help="use what has been measured, and measure nothing"
    )
    parser.add_argument("--parallel", type=int, default=2)
    asked = parser.parse_args()
    if not asked.measured:
        measure(test_files(), asked.parallel)
    same = equivalents()
    mutants = [
        mutant
        for mutant in sample(asked.number, asked.seed, tuple(asked.only.split(",")))
        if mutant.change not in same
    ]
    _say(
        f"{len(mutants)} mutants, seed {asked.seed}, at {_commit()}; {asked.number - len(mutants)} of {asked.number} are equivalent"
    )
    outcomes = _try_all(mutants, asked.parallel)
    return _report(mutants, outcomes)


def _try_all(mutants: list[Mutant], parallel: int) -> dict[str, Outcome]:
    """The outcome of each mutant, by name."""
    digest = tests_digest()
    known = {name: found for name, found in _known(digest).items() if name in {one.name for one in mutants}}
    trees: queue.Queue[Tree] = queue.Queue()
    for number in range(1, parallel + 1):
        trees.put(Tree(number))
    reach, refused = Reach(), set[str]()
    while True:
        _try_those(mutants, known, trees, reach, refused, digest)
        blind = _failing_anyway(known, trees, refused)
        if not blind:
            return known
        refused |= blind
        known = {name: found for name, found in known.items() if found.by not in blind}


def _try_those(
    mutants: list[Mutant],
    known: dict[str, Outcome],
    trees: queue.Queue[Tree],
    reach: Reach,
    refused: set[str],
    digest: str,
) -> None:
    def attempt(mutant: Mutant) -> Outcome:
        tree = trees.get()
        try:
            return tree.attempt(mutant, reach, refused)
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(trees.qsize()) as pool:
        pending = {pool.submit(attempt, mutant): mutant for mutant in mutants if mutant.name not in known}
        for number, done in enumerate(as_completed(pending), start=1):
            mutant, outcome = pending[done], done.result()
            known[mutant.name] = outcome
            by = f" by {outcome.by}" if outcome.by else f" {outcome.tests} tests"
            where = f"{mutant.path}:{mutant.lines[0]} {mutant.operator}"
            _say(f"{number:4} of {len(pending)}  {outcome.kind:9} {where}{by}, {outcome.seconds} s")
            if not outcome.is_killed:
                _say(_indented(mutant.diff))
            line = {"mutant": mutant.name, "digest": digest} | vars(outcome)
            with _RESULTS.open("a", encoding="utf-8") as results:
                results.write(f"{json.dumps(line)}\n")


def _failing_anyway(known: dict[str, Outcome], trees: queue.Queue[Tree], refused: set[str]) -> set[str]:
    """Of the tests that noticed something, those that fail without any fault."""
    killers = sorted(
        {found.by for found in known.values() if found.kind == "killed" and found.by.startswith("tests/")}
    )
    if not killers:
        return set()
    _say(f"making sure that {len(killers)} tests pass without a fault")
    tree = trees.get()
    try:
        failed = tree.run(killers, 600, all_of_them=True)
    finally:
        trees.put(tree)
    found = set(failed or ()) & set(killers)
    for name in sorted(found - refused):
        _say(f"{name} fails without any fault, and is left out")
    return found - refused


def _known(digest: str) -> dict[str, Outcome]:
    if not _RESULTS.exists():
        return {}
    found: dict[str, Outcome] = {}
    for line in map(json.loads, _RESULTS.read_text("utf-8").splitlines()):
        name, then = line.pop("mutant"), line.pop("digest")
        outcome = Outcome(**line)
        if outcome.is_killed or then == digest:
            found[name] = outcome
        else:
            found.pop(name, None)
    return found


def _report(mutants: list[Mutant], outcomes: dict[str, Outcome]) -> int:
    killed = sum(outcomes[mutant.name].is_killed for mutant in mutants)
    _say(f"\nNot noticed: {len(mutants) - killed}")
    for mutant in mutants:
        outcome = outcomes[mutant.name]
        if not outcome.is_killed:
            _say(f"\n{mutant.path}  ({outcome.kind}, {outcome.tests} tests)\n{_indented(mutant.diff)}")
    rate = killed / len(mutants) if mutants else 1.0
    _say(f"\n{killed} of {len(mutants)} mutants were noticed: {rate:.0%}")
    return int(rate < RATE_MIN)


def _indented(text: str) -> str:
    return "\n".join(f"      {line}" for line in text.splitlines())


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "no commit"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
