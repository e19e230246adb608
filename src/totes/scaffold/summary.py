"""What `totes init` says at the end, in lines of 80 characters: what was made, what was left out and why, and what comes next."""

from __future__ import annotations

import shlex
import textwrap
from itertools import groupby
from pathlib import Path

from totes.display import count, one_line
from totes.scaffold.kind import Kind
from totes.scaffold.naming import CALENDAR_MODEL
from totes.scaffold.project import MODELS, ROLE, SETTINGS, Proposal
from totes.scaffold.settings import has_password

_WIDTH = 80
_LABEL = 15
_NAMES_MAX = 12


def summary(proposal: Proposal, folder: Path, url: str, existing: list[str]) -> list[str]:
    """The lines, for a person.

    Args:
        proposal: what was written.
        folder: where.
        url: the source's URL as it was given.
        existing: models in the folder that are not written over.
    """
    catalog, folded = proposal.catalog, proposal.plan.folded
    lines = [one_line(f"{catalog.database}, schema {catalog.schema}: {count(len(catalog.tables), 'table')}")]
    for kind in Kind:
        names = [draft.name for draft in proposal.drafts if draft.kind is kind]
        lines += _row(count(len(names), kind.name.lower()), _some(names)) if names else []
    if proposal.dates:
        lines += _row(
            "calendar", f"{CALENDAR_MODEL}, for {count(proposal.dates, 'column')} with dates of facts"
        )
    lines += _row("joined in", _some(list(folded))) if folded else []
    reasons = sorted((one.reason, name) for name, one in catalog.left_out.items())
    groups = [
        (reason, [name for _, name in group]) for reason, group in groupby(reasons, lambda item: item[0])
    ]
    for number, (reason, names) in enumerate(groups):
        lines += _row("" if number else "left out", f"{_some(names)}: {reason}")
    lines += _row("existing", _some(existing)) if existing else []
    models = count(sum(name.startswith(f"{MODELS}/") for name in proposal.files), "model")
    place = "This folder" if folder == Path() else str(folder)
    lines += ["", one_line(f"{place} has {SETTINGS}, {ROLE} for a role that can only read, and {models}.")]
    lines += ["", "Next:"]
    if folder != Path():
        lines.append(one_line(f"  cd {shlex.quote(str(folder))}"))
    if has_password(url):
        lines.append("  export PGPASSWORD=…    # the URL's password, which is in none of the files")
    return [*lines, "  totes doctor", "  totes run && totes verify"]


def _row(label: str, text: str) -> list[str]:
    begin = f"  {label}".ljust(_LABEL + 2)
    return textwrap.wrap(
        one_line(text),
        _WIDTH,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_MAX])
    return shown if len(names) <= _NAMES_MAX else f"{shown} and {len(names) - _NAMES_MAX} more"
