"""What a store's journal promises: a gapless sequence of batches, each committed once, in a folder and in S3 alike."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.lake.counted import counted
from totes.errors import BatchConflict, LakeDamaged
from totes.lake.journal import Journal
from totes.lake.layout import manifest_path
from totes.lake.manifest import Manifest
from totes.lake.store import Store

NOON = datetime(2024, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def journal(store: Store) -> Journal[Manifest]:
    """The journal of an empty store."""
    return Journal(store, Manifest)


def manifest(batch: int, previous: Manifest | None = None, finished_at: datetime = NOON) -> Manifest:
    """A manifest of nothing."""
    return Manifest(batch=batch, previous_sha256=previous.sha256() if previous else None, started_at=NOON,
                    finished_at=finished_at)  # fmt: skip


def test_an_empty_journal_has_no_batch(journal: Journal[Manifest]) -> None:
    assert journal.last() == 0
    assert journal.newest() is None


def test_batches_count_without_gaps(
    place: str, store: Store, journal: Journal[Manifest], tmp_path: Path
) -> None:
    first = manifest(1)
    second = manifest(2, first)
    journal.commit(first)
    journal.commit(second)
    assert journal.last() == 2
    assert journal.newest() == second
    assert sorted(store.list("batches/")) == ["batches/000000000001.json", "batches/000000000002.json"]
    assert Journal(Store.open(place, tmp_path), Manifest).last() == 2


def test_a_journal_sees_the_batches_of_other_runners(
    place: str, journal: Journal[Manifest], tmp_path: Path
) -> None:
    other = Journal(Store.open(place, tmp_path), Manifest)
    journal.commit(manifest(1))
    assert other.last() == 1
    journal.commit(manifest(2))
    journal.commit(manifest(3))
    assert other.last() == 3


def test_objects_that_are_no_manifests_are_no_batches(store: Store, journal: Journal[Manifest]) -> None:
    for path in ("batches/7.json", "batches/000000000009.json.tmp", "batches/notes/000000000008.json"):
        store.put_new(path, b"")
    assert journal.last() == 0


def test_a_batch_that_is_taken_is_not_committed_again(
    journal: Journal[Manifest], place: str, tmp_path: Path
) -> None:
    theirs, ours = manifest(1), manifest(1, finished_at=NOON.replace(hour=13))
    Journal(Store.open(place, tmp_path), Manifest).commit(theirs)
    with pytest.raises(BatchConflict, match="batch 1"):
        journal.commit(ours)
    assert journal.read(1) == theirs


def test_a_commit_whose_answer_was_lost_is_a_success(journal: Journal[Manifest]) -> None:
    journal.commit(manifest(1))
    journal.commit(manifest(1))
    assert journal.last() == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"format": 2}'])
def test_a_damaged_manifest_is_named(store: Store, journal: Journal[Manifest], content: bytes) -> None:
    store.put_new(manifest_path(1), content)
    with pytest.raises(LakeDamaged, match=r"batches/000000000001\.json"):
        journal.read(1)


def test_a_manifest_of_a_newer_format_is_not_taken_for_one_of_this(
    store: Store, journal: Journal[Manifest]
) -> None:
    newer = json.loads(manifest(1).content()) | {"encrypted_with": "a key"}
    store.put_new(manifest_path(1), json.dumps(newer).encode())
    with pytest.raises(LakeDamaged, match="the version of totes that wrote it"):
        journal.read(1)


def test_a_missing_manifest_among_later_ones_is_named(journal: Journal[Manifest]) -> None:
    journal.commit(manifest(1))
    journal.commit(manifest(3))
    assert journal.last() == 3
    with pytest.raises(LakeDamaged, match=r"batches/000000000002\.json is missing"):
        journal.read(2)


def test_who_knows_a_batch_lists_nothing_before_it(
    place: str, store: Store, journal: Journal[Manifest], tmp_path: Path
) -> None:
    first = manifest(1)
    second = manifest(2, first)
    for one in (first, second, manifest(3, second)):
        journal.commit(one)
    other, requests = Store.open(place, tmp_path), Counter[str]()
    later = Journal(counted(other, requests), Manifest)
    assert later.continues(2, second.sha256())
    assert later.last() == 3
    assert requests == {"get": 3}  # batches 2, 3 and 4


def test_a_batch_that_is_another_one_now_is_not_gone_on_from(journal: Journal[Manifest]) -> None:
    journal.commit(manifest(1))
    assert not journal.continues(1, manifest(1, finished_at=NOON.replace(hour=13)).sha256())
    assert not journal.continues(2, manifest(1).sha256())


def test_a_lost_manifest_is_not_written_anew_below_a_later_one(
    journal: Journal[Manifest], place: str, tmp_path: Path
) -> None:
    first = manifest(1)
    journal.commit(first)
    journal.commit(manifest(3))
    behind = Journal(Store.open(place, tmp_path), Manifest)
    assert behind.continues(1, first.sha256())
    assert behind.last() == 1
    with pytest.raises(LakeDamaged, match=r"batches/000000000002\.json is missing"):
        behind.commit(manifest(2, first))
