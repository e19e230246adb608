"""A warehouse table as Iceberg has it: its columns and partitions, its data files, and the commit that adds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from totes.lake.document import StoredObject
from totes.lake.manifest import ModelChanges
from totes.publishing.catalog import outlived_snapshots, remove_outlived
from totes.star.field_ids import ADDED_IDS, iceberg_type
from totes.star.model import IS_DELETED

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.update import TableUpdate

BATCH_ID, VALID_TO = "batch_id", "valid_to"
_NAME_MAPPING = "schema.name-mapping.default"
_FIRST_PARTITION_FIELD = 1000


@dataclass(frozen=True)
class PublishedTable:
    """A warehouse table in its published form. `entry` has field ids; `meanings` are the descriptions of columns.

    Every row has `batch_id`. A table with one row a key has a row for each time that it was written or deleted; the files
    do not hold `batch_id` then, nor whether they are of removed rows: both are partition values.
    """

    entry: ModelChanges
    description: str
    meanings: Mapping[str, str]

    @property
    def _partitions(self) -> dict[str, str]:
        """The columns that are partition values, with their types."""
        if self.entry.kind == "versioned":
            return {}
        return {BATCH_ID: "long"} | ({} if self.entry.soft_deletes else {IS_DELETED: "boolean"})

    def called(self, added: str) -> str:
        """What a column that totes adds is called: a model may declare one of that name."""
        taken = {one.name for one in self.entry.columns if one.field_id != ADDED_IDS[added]}
        return f"totes_{added}" if added in taken else added

    def schema(self, number: int) -> Schema:
        """The columns. `valid_to` is not among them: a file cannot know when a version that it holds will end."""
        from pyiceberg.schema import Schema

        fields = [
            {"id": column.field_id, "name": column.name, "type": iceberg_type(column)}
            for column in self.entry.columns
            if column.field_id != ADDED_IDS[VALID_TO]
        ]
        fields += [
            {"id": ADDED_IDS[added], "name": self.called(added), "type": kind}
            for added, kind in self._partitions.items()
        ]
        for field in fields:
            field |= {"required": False, "doc": self.meanings.get(str(field["name"]))}
        return Schema.model_validate({"type": "struct", "schema-id": number, "fields": fields})

    def _names(self) -> list[dict[str, object]]:
        """The columns of files that have no field ids, of earlier releases, by their names; all of them, as PyIceberg insists."""
        return [{"field-id": column.field_id, "names": [column.name]} for column in self.entry.columns]

    def spec(self, number: int) -> PartitionSpec:
        """The partitions."""
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import IdentityTransform

        fields = [
            PartitionField(
                source_id=ADDED_IDS[added],
                field_id=_FIRST_PARTITION_FIELD + place,
                transform=IdentityTransform(),
                name=self.called(added),
            )
            for place, added in enumerate(self._partitions)
        ]
        return PartitionSpec(*fields, spec_id=number)

    def files(self, changes: Iterable[tuple[int, ModelChanges]], url: str) -> list[DataFile]:
        """The objects of some batches as data files; `url` is where the store is."""
        return [
            self._file(entry, f"{url}/{entry.path}", batch, deleted=deleted, begins=changed.since == batch)
            for batch, changed in changes
            for deleted, objects in ((False, changed.objects), (True, changed.removed))
            for entry in objects
        ]

    def _file(
        self, entry: StoredObject, location: str, batch: int, *, deleted: bool, begins: bool
    ) -> DataFile:
        from pyiceberg.conversions import to_bytes
        from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
        from pyiceberg.typedef import Record
        from pyiceberg.types import LongType

        values = {BATCH_ID: batch, IS_DELETED: deleted}
        number = ADDED_IDS[BATCH_ID]
        first = 1 if begins and self.entry.kind == "versioned" else batch  # it may hold all of the history
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=location,
            file_format=FileFormat.PARQUET,
            partition=Record(*(values[added] for added in self._partitions)),
            record_count=entry.rows,
            file_size_in_bytes=entry.bytes,
            lower_bounds={number: to_bytes(LongType(), first)},
            upper_bounds={number: to_bytes(LongType(), batch)},
        )

    def updates(self, metadata: TableMetadata) -> tuple[TableUpdate, ...]:
        """What a table's metadata needs to be of this form."""
        from pyiceberg.table.update import (
            AddPartitionSpecUpdate,
            AddSchemaUpdate,
            SetCurrentSchemaUpdate,
            SetDefaultSpecUpdate,
            SetPropertiesUpdate,
        )

        updates: list[TableUpdate] = []
        schema = self.schema(max(one.schema_id for one in metadata.schemas) + 1)
        if schema.as_struct() != metadata.schema().as_struct():
            updates += [AddSchemaUpdate(schema=schema), SetCurrentSchemaUpdate(schema_id=-1)]
        spec = self.spec(max(one.spec_id for one in metadata.partition_specs) + 1)
        if not spec.compatible_with(metadata.spec()):
            same = [one.spec_id for one in metadata.partition_specs if spec.compatible_with(one)]
            updates += [] if same else [AddPartitionSpecUpdate(spec=spec)]
            updates += [SetDefaultSpecUpdate(spec_id=same[0] if same else -1)]
        wanted = {"comment": self.description, _NAME_MAPPING: json.dumps(self._names())}
        if changed := {key: value for key, value in wanted.items() if metadata.properties.get(key) != value}:
            updates.append(SetPropertiesUpdate(updates=changed))
        return tuple(updates)


def commit(
    table: Table,
    form: PublishedTable,
    files: Iterable[DataFile],
    recorded: dict[str, str],
    *,
    replaces: bool,
) -> None:
    """Adds data files to a table in one snapshot, with what the form changes; with `replaces`, no others remain.

    Args:
        table: the table as it was loaded.
        form: its form.
        files: the data files.
        recorded: the snapshot's properties.
        replaces: whether the table begins anew.

    Raises:
        CommitFailedException: of PyIceberg, if somebody has committed since the table was loaded. Nothing was changed.
    """
    from pyiceberg.table.update import RemoveSnapshotsUpdate

    outlived = outlived_snapshots(table)
    with table.transaction() as transaction:
        if updates := form.updates(table.metadata):
            transaction._apply(updates)
        snapshot = transaction.update_snapshot(snapshot_properties=recorded)
        overwrites = replaces and table.current_snapshot() is not None
        with snapshot.overwrite() if overwrites else snapshot.merge_append() as producer:
            for task in table.scan().plan_files() if overwrites else ():
                producer.delete_data_file(task.file)
            spec_id = transaction.table_metadata.default_spec_id
            for file in files:
                file.spec_id = spec_id
                producer.append_data_file(file)
        if outlived:
            expired = RemoveSnapshotsUpdate(snapshot_ids=[one.snapshot_id for one in outlived])
            transaction._apply((expired,))
    remove_outlived(table, outlived)
