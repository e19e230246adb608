"""A model that was understood once is not parsed again, unless its text or what reads it has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from totes.errors import ModelError
from totes.star import understood
from totes.star.project import Project, load_project

ITEM = """\
-- Items.
CREATE TABLE dim_item (
    item_id INTEGER PRIMARY KEY,
    name VARCHAR(20) NOT NULL, -- What it is called.
    colour_id INTEGER NOT NULL REFERENCES dim_colour
) AS
SELECT item.item_id, upper(item.name) AS name, colour.colour_id
FROM item JOIN colour USING (colour_id)
"""
COLOUR = "CREATE TABLE dim_colour (colour_id INTEGER PRIMARY KEY) AS SELECT colour_id FROM colour"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder with two models."""
    (tmp_path / "models").mkdir()
    write(tmp_path, dim_item=ITEM, dim_colour=COLOUR)
    return tmp_path


def write(folder: Path, **models: str) -> None:
    for name, text in models.items():
        (folder / "models" / f"{name}.sql").write_text(text)


def load(folder: Path) -> Project:
    return load_project("shop", folder, folder / "known")


def test_a_model_is_the_same_whether_it_was_understood_before_or_not(folder: Path) -> None:
    fresh, again, plain = load(folder), load(folder), load_project("shop", folder)
    assert fresh.models == again.models == plain.models
    for one, other in zip(again.models, plain.models, strict=True):
        assert one.query.sql() == other.query.sql()
        assert (one.names, one.output, one.descriptions) == (other.names, other.output, other.descriptions)
        assert one.sha256({}) == other.sha256({})
    assert [model.joins for model in again.models] == [False, True]


def test_what_was_understood_needs_no_parser(folder: Path) -> None:
    load(folder)
    program = (
        "import sys; from pathlib import Path; from totes.star.project import load_project\n"
        "folder = Path(sys.argv[1])\n"
        "project = load_project('shop', folder, folder / 'known')\n"
        "print(sorted(project.source_tables), project.models[1].query_sha256({})[:2], 'sqlglot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    expected = load_project("shop", folder).models[1].query_sha256({})[:2]
    assert done.stdout == f"['colour', 'item'] {expected} False\n"


def test_a_model_that_has_changed_is_checked_again(folder: Path) -> None:
    load(folder)
    write(folder, dim_item=ITEM.replace("upper(", "uper("))
    with pytest.raises(ModelError, match="no function uper"):
        load(folder)
    write(folder, dim_item=ITEM.replace("upper(", "lower("))
    assert "lower(" in load(folder).models[1].text


def test_what_models_say_of_one_another_is_checked_every_time(folder: Path) -> None:
    load(folder)
    (folder / "models" / "dim_colour.sql").unlink()
    with pytest.raises(ModelError, match="REFERENCES dim_colour, which no model defines"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"readers": "others", "models": {}}', b"\xff"])
def test_a_file_that_is_damaged_or_of_another_version_is_made_anew(folder: Path, content: bytes) -> None:
    models, file = load(folder).models, folder / "known" / "models.json"
    before = file.read_bytes()
    file.write_bytes(content)
    assert load(folder).models == models
    assert file.read_bytes() == before


def test_what_reads_models_is_part_of_what_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(folder)
    file = folder / "known" / "models.json"
    document = json.loads(file.read_text())
    for model in document["models"].values():
        model["description"] = "of another release"
    file.write_text(json.dumps(document))
    assert load(folder).models[0].description == "of another release"
    monkeypatch.setattr(understood, "readers", lambda _folder: "of this one")
    assert load(folder).models[0].description == ""


def test_where_nothing_can_be_written_a_project_is_loaded_all_the_same(folder: Path) -> None:
    (folder / "known").write_text("a file where the folder would be")
    assert load(folder).models == load_project("shop", folder).models
