"""Where objects are: paths as the contract writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from totes.lake.layout import folder_name, manifest_batch, manifest_path, new_object_path

READ_AT = datetime(2024, 11, 26, 23, 59, 59, tzinfo=UTC)


def test_a_manifest_has_twelve_digits() -> None:
    assert manifest_path(7) == "batches/000000000007.json"
    assert manifest_batch("batches/000000000007.json") == 7


@pytest.mark.parametrize(
    "path",
    [
        "batches/7.json",
        "batches/0000000000071.json",
        "batches/000000000007.json.tmp",
        "x/batches/000000000007.json",
    ],
)
def test_no_other_path_is_a_manifests(path: str) -> None:
    assert manifest_batch(path) is None


def test_an_object_is_below_its_table_and_day_with_batch_part_and_a_suffix() -> None:
    path = new_object_path("sales_order", batch=7, part=2, read_at=READ_AT, ending="jsonl.zst")
    assert re.fullmatch(r"sales_order/date=2024-11-26/000000000007-0002-[0-9a-f]{8}\.jsonl\.zst", path)
    assert path != new_object_path("sales_order", batch=7, part=2, read_at=READ_AT, ending="jsonl.zst")


@pytest.mark.parametrize(
    ("table", "folder"),
    [("order details", "order details"), ("Übergröße", "Übergröße"), ("a/b", "a%2Fb"), ("50%", "50%25"), ("..", "%2E."),
     ("a*[b]?", "a%2A%5Bb%5D%3F"), ('say "hi"', "say %22hi%22"), ("x:y#z", "x%3Ay%23z"), ("a\nb", "a%0Ab")],
)  # fmt: skip
def test_a_name_stays_as_it_is_but_for_what_paths_and_globs_read(table: str, folder: str) -> None:
    assert folder_name(table) == folder


@given(
    st.sets(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
        max_size=20,
    )
)
def test_two_names_never_share_a_folder_and_no_folder_leaves_the_store(names: set[str]) -> None:
    folders = {folder_name(name) for name in names}
    assert len(folders) == len(names)
    assert not any("/" in folder or folder in (".", "..") for folder in folders)
