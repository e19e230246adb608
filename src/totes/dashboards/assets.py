"""Everything that Superset imports for a project: its star's datasets, and the dashboards that stand beside its models."""

from __future__ import annotations

from pathlib import Path

from totes.dashboards.connection import connection
from totes.dashboards.dataset import Dataset
from totes.dashboards.design import designed, read_dashboards, read_datasets
from totes.dashboards.star import relations, star_datasets
from totes.dashboards.superset import bundle
from totes.star.project import Project
from totes.warehouse.table import Dialect

FOLDER = "dashboards"


def datasets(project: Project, dialect: Dialect, schema: str) -> list[Dataset]:
    """The datasets of a project: those of its star, with what `dashboards/datasets.yaml` adds.

    Raises:
        ConfigurationError: that file is wrong.
    """
    own = read_datasets(folder_of(project))
    return designed(star_datasets(project, dialect, schema), own, relations(project, dialect, schema))


def assets(project: Project, url: str, schema: str, base: Path) -> dict[str, str]:
    """The files of an import, by their paths.

    Args:
        project: the project.
        url: its warehouse's URL.
        schema: the schema of its tables; empty for the dialect's own.
        base: the folder that the file of a DuckDB warehouse may be given in relation to.

    Raises:
        ConfigurationError: the URL cannot be read, or a file in `dashboards/` is wrong.
    """
    reached = connection(url, schema, base)
    made = datasets(project, reached.dialect, reached.schema)
    return bundle(project.name, reached, made, read_dashboards(folder_of(project)))


def folder_of(project: Project) -> Path:
    """Where a project's own dashboards are."""
    return project.models[0].path.parent.parent / FOLDER
