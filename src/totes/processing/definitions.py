"""Models as they were when their tables last began: each is stored in the manifest of that batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from totes.errors import ModelError, ModelFailed
from totes.lake.journal import Journal
from totes.lake.manifest import ModelChanges, ProcessedManifest
from totes.star.change import ModelChange, changes_of
from totes.star.model import Model
from totes.star.project import Project


def previous_models(
    project: Project, processed: Journal[ProcessedManifest], star: Mapping[str, ModelChanges]
) -> Callable[[str], Model | None]:
    """Gives a table's model as it was, or None: lakes of earlier releases do not have it.

    Args:
        project: the models as they are.
        processed: the processed lake.
        star: the tables as its newest batch has them.
    """

    def previous(name: str) -> Model | None:
        from totes.star.model_file import parse_definition

        entry, now = star.get(name), project.model(name)
        if entry is None or now is None or not entry.since:
            return None
        text = entry.definition or processed.read(entry.since).models[name].definition
        try:
            return replace(parse_definition(now.path, text), referenced=entry.soft_deletes) if text else None
        except ModelError:  # of a release that understood more
            return None

    return previous


def pending_changes(
    project: Project, processed: Journal[ProcessedManifest], newest: ProcessedManifest | None
) -> dict[str, ModelChange]:
    """How the models differ from the star as its newest batch has it; nothing before the first batch."""
    if newest is None:
        return {}
    return changes_of(project, newest.models, previous_models(project, processed, newest.models))


def known_failures(project: Project, newest: ProcessedManifest | None) -> dict[str, ModelFailed]:
    """The models, as they are, that the newest batch could not compute; without another batch they would fail again."""
    content = project.reference_content()
    failures = newest.failures if newest else {}
    return {
        model.name: ModelFailed(failures[model.name].reason, model=model.name)
        for model in project.models
        if model.name in failures and failures[model.name].sha256 == model.sha256(content)
    }
