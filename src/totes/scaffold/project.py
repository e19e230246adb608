"""A project for a database: surveyed, planned, drafted, and tried by the project's own parser and binder before it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from totes.errors import SourceRefused
from totes.scaffold.catalog import Catalog, LeftOut
from totes.scaffold.draft import Draft
from totes.scaffold.models import draft_models
from totes.scaffold.naming import CALENDAR_MODEL
from totes.scaffold.settings import role_text, settings_text
from totes.scaffold.star import Plan, plan
from totes.scaffold.survey import survey
from totes.scaffold.trial import refused
from totes.scaffold.writing import CALENDAR_TEXT, written

SETTINGS, ROLE, MODELS = "totes.toml", "role.sql", "models"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Proposal:
    """A project that is not written yet: the star, its models, and the text of each file by its path in the folder."""

    catalog: Catalog
    plan: Plan
    drafts: tuple[Draft, ...]
    files: dict[str, str]

    @property
    def dates(self) -> int:
        """How many columns of the models refer to the calendar."""
        return sum(column.references == CALENDAR_MODEL for draft in self.drafts for column in draft.columns)


def propose(
    url: str, shown_url: str, schema: str | None, patterns: tuple[str, ...], progress: Progress
) -> Proposal:
    """Makes a project for a database.

    Args:
        url: the source's URL.
        shown_url: what stands for it in the settings, which may be `secretsmanager:NAME`.
        schema: the schema; `public`, or the only one with tables, if it is None.
        patterns: the tables, by names or patterns; all if empty.
        progress: is called with what is being done.

    Raises:
        SourceError: the source cannot be reached or read.
        SourceRefused: none of its tables can be modelled.
        ConfigurationError: there is no such schema or table.
    """
    progress("reading the catalog")
    catalog = survey(url, schema, patterns)
    progress("designing the star")
    while True:
        if not catalog.tables:
            reasons = "; ".join(f"{name}: {one.reason}" for name, one in sorted(catalog.left_out.items())[:3])
            raise SourceRefused(
                f"no table of schema {catalog.schema} can be modelled ({reasons})",
                hint="docs/how-to/views-and-tables-without-keys.md says how a table or view is given a key",
            )
        found = plan(catalog)
        drafts = draft_models(found)
        models = {draft.name: written(draft) for draft in drafts}
        if any(CALENDAR_MODEL in draft.references() for draft in drafts):
            models[CALENDAR_MODEL] = CALENDAR_TEXT
        progress(f"checking {len(models)} models")
        refusals = refused(catalog, models)
        if not refusals:
            break
        by_model = {draft.name: draft.table for draft in drafts}
        catalog = _without(catalog, {by_model[name]: reason for name, reason in refusals.items()})
    files = {SETTINGS: settings_text(catalog, shown_url, patterns), ROLE: role_text(catalog)}
    files |= {f"{MODELS}/{name}.sql": text for name, text in sorted(models.items())}
    return Proposal(catalog, found, tuple(drafts), files)


def _without(catalog: Catalog, refused: dict[str, str]) -> Catalog:
    """The catalog without tables whose models are refused."""
    left_out = {name: LeftOut(f"its model is refused: {reason}") for name, reason in refused.items()}
    tables = {name: table for name, table in catalog.tables.items() if name not in refused}
    return replace(catalog, tables=tables, left_out=catalog.left_out | left_out)
