"""The list of mutants that no test can notice speaks of the code as it is, and says why for each."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = Path(__file__).with_name("equivalent.txt").read_text("utf-8").split("\n\n")[1:]


def test_each_entry_names_lines_that_are_there_and_a_reason() -> None:
    wrong = []
    for part in PARTS:
        path, *lines = part.strip().splitlines()
        gone = [line[1:].strip() for line in lines if line.startswith("-")]
        there = [line.strip() for line in (ROOT / path).read_text("utf-8").splitlines()]
        found = any(there[number : number + len(gone)] == gone for number in range(len(there)))
        if not (gone and found and any(line.startswith("# ") for line in lines)):
            wrong.append(part)
    assert wrong == []
