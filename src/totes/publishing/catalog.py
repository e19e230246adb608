"""The Iceberg catalog in which a star is published. It is PyIceberg's, which is imported only if there is one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from totes import __version__
from totes.config import Settings
from totes.errors import CatalogError, CatalogRefused, ConfigurationError, TotesError
from totes.lake.manifest import ProcessedManifest
from totes.lake.store import Store
from totes.permissions import make_folders
from totes.redaction import redact

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog as PyIcebergCatalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

# The name by which PyIceberg's own settings know the catalog: PYICEBERG_CATALOG__TOTES__…
NAME = "totes"
_BATCH, _MANIFEST = "totes.batch", "totes.manifest-sha256"
_MADE = "totes.made-by"
_SNAPSHOTS_MAX = 50
_PROPERTIES = {
    _MADE: __version__,
    # Nobody removes the lake's objects when a snapshot expires or a table is dropped.
    "gc.enabled": "false",
    # A commit that lost a race is not repeated blindly: the batch may be there by now.
    "commit.retry.num-retries": "0",
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    # Iceberg for Spark, before 1.12, reads numbers that are kept as differences in this way only.
    "read.parquet.vectorization.enabled": "false",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


class Catalog:
    """An opened catalog, and the namespace of one project in it. Methods raise CatalogError when the catalog fails."""

    def __init__(self, opened: PyIcebergCatalog, namespace: str, metadata: Path | None) -> None:
        self.namespace = namespace
        self._opened = opened
        self._metadata = metadata

    @classmethod
    @contextmanager
    def open(cls, settings: Settings, store: Store) -> Iterator[Self]:
        """Opens the catalog that `publish.iceberg` names. The project's name makes the namespace.

        Iceberg's own files are where the catalog has a place for them; those of an SQL catalog without one are in the folder
        `iceberg` beside the processed lake, where that is a folder.

        Raises:
            ConfigurationError: PyIceberg is not installed.
            CatalogError: the catalog cannot be opened.
        """
        kind, _, uri = settings.iceberg_url().partition(":")
        if kind == "sql" and (file := re.fullmatch(r"sqlite:///([^/].*)", uri)):
            uri = f"sqlite:///{settings.base.resolve() / file.group(1)}"
        uri = re.sub("^postgres(ql)?://", "postgresql+psycopg://", uri)  # the driver that totes has
        try:
            from pyiceberg.catalog import load_catalog
            from pyiceberg.utils.config import Config
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "publish.iceberg is set, and PyIceberg is not installed", hint="pip install 'totes[iceberg]'"
            ) from error
        with catalog_errors("opening the catalog"):
            own = (
                Config().get_catalog_config(NAME) or {}
            )  # as the environment is now, and not when it was imported
            opened = load_catalog(NAME, **{**own, "type": kind, **({"uri": uri} if uri else {})})
        place = None
        if kind == "sql" and "warehouse" not in opened.properties:
            if not store.folders:
                raise ConfigurationError(
                    "an SQL catalog over a lake in S3 needs a place for Iceberg's own files",
                    hint="Set PYICEBERG_CATALOG__TOTES__WAREHOUSE=s3://bucket/prefix, outside of lake.processed",
                )
            place = store.folders[0].parent / "iceberg"
        try:
            yield cls(opened, re.sub(r"[^a-z0-9_]", "_", settings.project.name.lower()), place)
        finally:
            opened.close()

    def table(self, name: str) -> Table | None:
        """A table of the namespace as it is now; None if there is none.

        Raises:
            CatalogRefused: it is somebody else's.
        """
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        try:
            table = self._opened.load_table((self.namespace, name))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        self._refuse_others("table", name, table.properties)
        return table

    def _refuse_others(self, kind: str, name: str, properties: Mapping[str, str]) -> None:
        if _MADE not in properties:
            raise CatalogRefused(
                f"the catalog has a {kind} {self.namespace}.{name} that totes did not make",
                hint="Rename or drop it there, or give project.name another value",
            )

    def create(self, name: str, schema: Schema | None = None) -> Table:
        """Creates a table, by default without columns, which the first commit brings; or loads it if somebody was first."""
        from pyiceberg.exceptions import TableAlreadyExistsError
        from pyiceberg.schema import Schema

        location = None
        if self._metadata:
            make_folders(self._metadata)
            location = f"file://{self._metadata}/{self.namespace}/{name}"
        self._opened.create_namespace_if_not_exists(self.namespace)
        try:
            return self._opened.create_table(
                (self.namespace, name), schema or Schema(), location, properties=dict(_PROPERTIES)
            )
        except TableAlreadyExistsError:
            return self.table(name) or self.create(name, schema)

    def drop(self, name: str) -> None:
        """Drops a table of totes from the catalog with its views, if it is there. All files stay."""
        if self.table(name):
            self._opened.drop_table((self.namespace, name))
        for view in (f"{name}_current", f"{name}_history") if self.has_views else ():
            if self._opened.view_exists((self.namespace, view)):
                self._opened.drop_view((self.namespace, view))

    @property
    def has_views(self) -> bool:
        """Whether views can be made: PyIceberg does that in REST catalogs, if their server says that it has them."""
        from pyiceberg.catalog.rest import VIEW_ENDPOINTS

        return bool(getattr(self._opened, "_supported_endpoints", set()) >= VIEW_ENDPOINTS)

    def bring_up_view(self, name: str, schema: Schema, texts: Mapping[str, str]) -> None:
        """Makes a view what it is to be, if it is not: PyIceberg cannot replace one, so there is none for a moment.

        Raises:
            CatalogRefused: it is somebody else's.
        """
        from pyiceberg.view.metadata import ViewVersion

        place = (self.namespace, name)
        if self._opened.view_exists(place):
            view = self._opened.load_view(place)
            self._refuse_others("view", name, view.properties)
            present = view.current_version().representations
            if {one.root.dialect: one.root.sql for one in present} == texts:
                return
            self._opened.drop_view(place)
        written = [{"type": "sql", "dialect": dialect, "sql": text} for dialect, text in texts.items()]
        version = {"schema-id": 0, "representations": written, "default-namespace": [self.namespace]}
        made = {_MADE: __version__}
        self._opened.create_view(place, schema, ViewVersion.model_validate(version), properties=made)


@contextmanager
def catalog_errors(doing: str) -> Iterator[None]:
    """Turns what a catalog, its storage and its libraries raise into CatalogError."""
    try:
        yield
    except TotesError:
        raise
    except Exception as error:
        reason = redact(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise CatalogError(
            f"{doing} of publish.iceberg failed: {reason}",
            hint="The next run publishes what is missing; totes doctor checks the catalog",
        ) from error


def recorded(manifest: ProcessedManifest) -> dict[str, str]:
    """The properties of a snapshot that brings a table up to a batch."""
    return {_BATCH: str(manifest.batch), _MANIFEST: manifest.sha256()}


def published_batch(table: Table | None) -> int:
    """The batch up to which a table is published, as its newest snapshot of totes records it; 0 before the first."""
    return int(_summary(table).get(_BATCH, 0))


def published_manifest(table: Table | None) -> str | None:
    """The digest of that batch's manifest."""
    return _summary(table).get(_MANIFEST)


def _summary(table: Table | None) -> dict[str, str]:
    """What the newest snapshot of totes records; somebody may have compacted the table after it."""
    from pyiceberg.table.snapshots import ancestors_of

    snapshot = table.current_snapshot() if table else None
    for one in ancestors_of(snapshot, table.metadata) if table and snapshot else ():
        if one.summary and _BATCH in one.summary.additional_properties:
            return dict(one.summary.additional_properties)
    return {}


def outlived_snapshots(table: Table) -> list[Snapshot]:
    """The snapshots that go with the next commit, so that a table's metadata does not grow with its batches."""
    named = {reference.snapshot_id for reference in table.metadata.refs.values()}
    old = sorted(table.metadata.snapshots, key=_sequence)[: 1 - _SNAPSHOTS_MAX]
    return [one for one in old if one.snapshot_id not in named]


def remove_outlived(table: Table, outlived: list[Snapshot], *, rows: bool = False) -> None:
    """Removes the lists of files that only expired snapshots had; with `rows`, their files too, which are the ledger's own.

    Each snapshot is based on the one before it, so what the oldest one that is left does not have, no later one has. Where
    somebody has named snapshots, nothing is removed.
    """
    if not outlived or len(table.metadata.refs) > 1:
        return
    io = table.io
    needed = {one.manifest_path for one in min(table.metadata.snapshots, key=_sequence).manifests(io)}
    for snapshot in outlived:
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path in needed:
                continue
            needed.add(manifest.manifest_path)
            for entry in manifest.fetch_manifest_entry(io) if rows else ():
                io.delete(entry.data_file.file_path)
            io.delete(manifest.manifest_path)
        io.delete(snapshot.manifest_list)


def _sequence(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0
