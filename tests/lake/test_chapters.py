"""A chapter stands for its manifests: byte for byte, proven by them, and never needed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lake.counted import counted
from totes.deadline import Deadline
from totes.errors import LakeDamaged
from totes.lake.cache import Cache
from totes.lake.document import StoredObject
from totes.lake.journal import Journal
from totes.lake.layout import chapter_path, manifest_path
from totes.lake.manifest import IngestionManifest, Position, SourceColumn, TableChanges
from totes.lake.store import Store
from totes.lake.workspace import Workspace

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)
LENGTH, BATCHES = 4, 11
ODD = 'a": {\n  "b'  # a table's name that looks like the text around it
COLUMNS = (SourceColumn(name="naïve 木", number=1, type="text", kind="text", nullable=True),)


def changes(batch: int, table: str, rows: int = 1) -> TableChanges:
    """A batch's changes of a table."""
    stored = StoredObject(path=f"{batch}", rows=rows, bytes=10 * rows, sha256="")
    return TableChanges(columns=COLUMNS, key=(table,), marked_by="content", objects=(stored,) if rows else ())


def lake(folder: Path, batches: int = BATCHES) -> Journal[IngestionManifest]:
    """A lake in which one table changes in every batch, and another one in the second and the sixth."""
    journal = Journal(Store.open("lake", folder), IngestionManifest, LENGTH)
    previous = None
    for batch in range(1, batches + 1):
        manifest = IngestionManifest(
            batch=batch, previous_sha256=previous, started_at=NOON, finished_at=NOON, schema_name="s", compression="none",
            position=Position(system_identifier="1", timeline=1, database=ODD, horizon=batch, next_transaction=batch, read_at=NOON),
            tables={ODD: changes(batch, ODD, batch), "seldom": changes(batch, "seldom", batch in (2, 6))},
        )  # fmt: skip
        journal.commit(manifest)
        previous = manifest.sha256()
    return journal


def again(folder: Path) -> tuple[Journal[IngestionManifest], Counter[str]]:
    """The journal of somebody who knows nothing of the lake yet, and how often the store is asked."""
    requests = Counter[str]()
    return Journal(counted(Store.open("lake", folder), requests), IngestionManifest, LENGTH), requests


def written(journal: Journal[IngestionManifest]) -> list[bool]:
    return [journal.write_chapter() for _ in range(3)]


def test_chapters_hold_the_manifests_byte_for_byte(tmp_path: Path) -> None:
    original = lake(tmp_path)
    assert written(original) == [True, True, False]
    journal, requests = again(tmp_path)
    found = list(journal.manifests(1, BATCHES))
    assert [one.content() for one in found] == [original.content(batch) for batch in range(1, BATCHES + 1)]
    assert [one.model_dump() for one in found] == [
        original.read(batch).model_dump() for batch in range(1, BATCHES + 1)
    ]
    # Two chapters, each with the manifest that proves it, and three manifests after them.
    assert requests == {"list": 1, "get": 2 * 2 + 3}


def test_what_repeats_is_stored_once(tmp_path: Path) -> None:
    journal = lake(tmp_path)
    written(journal)
    assert (journal.store.read(chapter_path(LENGTH)) or b"").count("naïve 木".encode()) == 1


def test_runners_write_the_same_chapter(tmp_path: Path) -> None:
    journal, other = lake(tmp_path), again(tmp_path)[0]
    other.last()
    assert journal.write_chapter()
    first = journal.store.read(chapter_path(LENGTH))
    (tmp_path / "lake" / chapter_path(LENGTH)).unlink()
    assert other.write_chapter()
    assert journal.store.read(chapter_path(LENGTH)) == first
    assert journal.write_chapter()
    assert other.write_chapter()  # which finds it there
    assert not other.write_chapter()


@pytest.mark.parametrize("damage", ["deleted", "cut short", "no chapter", "forged", "of other batches"])
def test_a_chapter_that_is_not_what_was_written_is_not_used(tmp_path: Path, damage: str) -> None:
    original = lake(tmp_path)
    written(original)
    file = tmp_path / "lake" / chapter_path(LENGTH)
    document = json.loads(file.read_bytes())
    if damage == "forged":
        place = next(number for number, piece in enumerate(document["pieces"]) if '"rows": 2' in piece)
        document["pieces"][place] = document["pieces"][place].replace('"rows": 2', '"rows": 7')
    elif damage == "of other batches":
        document |= {"first": 5, "last": 8}
    file.unlink()
    if damage != "deleted":
        content = {"cut short": json.dumps(document)[:-9], "no chapter": "{}"}
        file.write_text(content.get(damage, json.dumps(document)), encoding="utf-8")
    journal, _ = again(tmp_path)
    expected = [original.read(batch) for batch in range(1, BATCHES + 1)]
    assert list(journal.manifests(1, BATCHES)) == expected
    assert journal.sums() == original.sums()
    assert list(journal.newest_first(BATCHES, ["seldom"], skip=True)) == [expected[5], expected[1]]


def test_what_is_computed_does_not_rest_on_sums(tmp_path: Path) -> None:
    original = lake(tmp_path)
    written(original)
    for last in (LENGTH, 2 * LENGTH):
        file = tmp_path / "lake" / chapter_path(last)
        document = json.loads(file.read_bytes())
        document["sums"]["tables"] = {}
        file.write_text(json.dumps(document), encoding="utf-8")
    found = again(tmp_path)[0].newest_first(BATCHES, ["seldom"])
    assert [manifest.batch for manifest in found] == [6, 2]


def test_the_newest_batch_is_found_by_listing_what_comes_after_the_newest_chapter(tmp_path: Path) -> None:
    written(lake(tmp_path))
    (tmp_path / "lake" / manifest_path(3)).unlink()  # before the newest chapter: whoever reads it notices
    journal, requests = again(tmp_path)
    assert journal.last() == BATCHES
    # The chapters, the manifests after the newest, and once more none; that chapter's last manifest, and the next number.
    assert requests == {"list": 3, "get": 2}
    with pytest.raises(LakeDamaged, match=r"000000000003\.json is missing"):
        journal.read(3)
    (tmp_path / "lake" / manifest_path(BATCHES - 1)).unlink()
    with pytest.raises(LakeDamaged, match=r"000000000010\.json is missing, though later batches are there"):
        again(tmp_path)[0].last()


def test_a_chapter_beyond_the_newest_batch_hides_nothing(tmp_path: Path) -> None:
    journal = lake(tmp_path)
    journal.store.put_new(chapter_path(400), b"{}")
    assert again(tmp_path)[0].last() == BATCHES


def test_chapters_in_which_a_table_did_not_change_are_not_read(tmp_path: Path) -> None:
    original = lake(tmp_path, batches=24)
    while original.write_chapter():
        pass
    journal, requests = again(tmp_path)
    assert [manifest.batch for manifest in journal.newest_first(24, ["seldom"], skip=True)] == [6, 2]
    # The newest chapter says where to go on: in the second one, and from there in the first.
    assert requests == {"list": 1, "get": 3 * 2}


def test_sums_are_those_of_all_manifests(tmp_path: Path) -> None:
    written(lake(tmp_path))
    journal, _ = again(tmp_path)
    sums = journal.sums()
    assert (sums.largest, sums.largest_rows) == (11, 11)
    assert (sums.tables[ODD].rows, sums.tables[ODD].bytes) == (66, 660)
    assert (sums.tables["seldom"].rows, sums.tables["seldom"].changed) == (2, 6)


def test_manifests_that_do_not_follow_one_another_become_no_chapter(tmp_path: Path) -> None:
    journal = lake(tmp_path)
    changed = journal.read(2).model_copy(update={"schema_name": "another", "content_sha256": ""})
    changed._stored = None
    (tmp_path / "lake" / manifest_path(2)).write_bytes(changed.content())
    with pytest.raises(LakeDamaged, match="from batch 1 to 4 do not follow one another"):
        journal.write_chapter()


def test_a_lake_written_without_chapters_gets_all_of_them_at_once(tmp_path: Path) -> None:
    journal = lake(tmp_path)
    journal.last()
    with (
        Workspace.open(tmp_path / "cache", "100MB") as workspace,
        Cache.open(workspace, "s", journal) as cache,
    ):
        journal.last()
        cache.store_summaries(Deadline.after(0.0))  # at least one, however little time there is
        assert again(tmp_path)[0].chapters.last() == LENGTH
        cache.store_summaries()
    assert again(tmp_path)[0].chapters.last() == BATCHES // LENGTH * LENGTH > LENGTH
