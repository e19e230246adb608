"""The demo's results for a program, and the sentences and commands that it also shows to a person."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from totes.demo.story import RowHistory, Story


def as_document(story: Story) -> dict[str, object]:
    """The object that `totes demo --json` prints."""
    found = story.findings
    return {
        "folder": str(story.folder),
        "orders": story.orders,
        "postgresql": story.server,
        "seconds": story.seconds,
        "batches": [cycle.as_json() for cycle in story.batches],
        "traded": asdict(story.day),
        "changed_order": _history(found.changed),
        "deleted_order": _history(found.deleted),
        "moved": [_history(row) for row in found.moved],
        "answers": [
            {
                "question": answer.question,
                "sql": answer.sql,
                "rows": [dict(zip(answer.columns, row, strict=True)) for row in answer.rows],
            }
            for answer in found.answers
        ],
        "checked": {
            "what": what_was_checked(story),
            "tables": {name: asdict(comparison) for name, comparison in story.checked.items()},
        },
        "files": [asdict(made) for made in story.files],
        "next": [command for command, _ in next_commands(story)],
    }


def what_was_checked(story: Story) -> str:
    """A sentence on how the warehouse was compared with the source, and the result."""
    tables = story.checked.values()
    return (
        f"all {len(story.checked)} tables, as totes verify does. Each model's query, run over all of totesys at one"
        f" snapshot, gives exactly the rows that are current in the warehouse: {sum(one.rows for one in tables):,}"
        " rows, every column equal, none missing, none extra."
    )


def next_commands(story: Story) -> list[tuple[str, str]]:
    """Commands with what they show, in the order in which to type them."""
    here = story.folder.resolve() == Path.cwd()
    return [
        *_activation(),
        *([] if here else [(f"cd {shlex.quote(str(story.folder))}", "")]),
        ("totes status", "the state of each stage"),
        (
            f"totes history fact_sales_order {story.findings.changed.key}",
            "the changed order, version by version",
        ),
        (f"totes history dim_staff {story.findings.moved[0].key}", "somebody who moved with the department"),
        ("totes warehouse sql", "the star's tables, as SQL"),
        ('totes query "FROM dim_staff_current"', "a table of the star; totes shell for more"),
    ]


def _activation() -> list[tuple[str, str]]:
    """The command that puts `totes` on the shell's path, if it is not there."""
    own = Path(sys.executable).with_name("totes")
    found, script = shutil.which("totes"), own.with_name("activate")
    if (found and Path(found).absolute() == own.absolute()) or not script.exists():
        return []
    place = script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
    return [(f". {shlex.quote(str(place))}", "puts totes on this shell's path")]


def _history(row: RowHistory) -> dict[str, object]:
    versions = [
        {**version.values, "batch_id": version.batch, "objects": version.objects} for version in row.versions
    ]
    return {"table": row.table, "key": [str(row.key)], "versions": versions}
