"""A query that was bound before is the same query, and is bound again as soon as anything that it is made of differs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from totes.processing.bound import binding
from totes.processing.bound.binding import bind_models
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relation, RelationColumn, Relations
from totes.processing.calendar import calendar_relation
from totes.star import understood
from totes.star.project import Project, load_project

MODELS = {
    "fact_sale": "CREATE TABLE fact_sale (record BIGINT PRIMARY KEY, id INTEGER NOT NULL, price DECIMAL(12, 2), half DOUBLE,"
    " who VARCHAR, data JSON, day DATE) AS SELECT s.id, s.price, s.price / 2 AS half, c.who, s.data, d.date AS day"
    " FROM sale AS s LEFT JOIN (SELECT client_id, name AS who FROM client WHERE active) AS c USING (client_id)"
    " LEFT JOIN calendar AS d ON d.date = CAST(s.sold_at AS DATE) WHERE s.price > 0",
    "dim_client": "CREATE TABLE dim_client (client_id INTEGER PRIMARY KEY, who VARCHAR NOT NULL) AS"
    " SELECT client_id, upper(name) AS who FROM client",
}


def column(name: str, kind: str, raw: str = "VARCHAR") -> RelationColumn:
    return RelationColumn(name, raw, kind)


SALE = Relation(
    "sale",
    (column("id", "INTEGER", "BIGINT"), column("client_id", "INTEGER", "BIGINT"), column("price", "DECIMAL(12, 2)"),
     column("sold_at", "TIMESTAMP"), column("data", "JSON"), column("unused", "DATE")),
    ("id",), is_source=True, number=7,
)  # fmt: skip
CLIENT = Relation(
    "client",
    (column("client_id", "INTEGER", "BIGINT"), column("name", "VARCHAR"), column("active", "BOOLEAN", "BOOLEAN")),
    ("client_id",), is_source=True, number=8,
)  # fmt: skip
RELATIONS = Relations({"sale": SALE, "client": CLIENT, "calendar": calendar_relation()}, {})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "models").mkdir()
    for name, text in MODELS.items():
        (tmp_path / "models" / f"{name}.sql").write_text(text)
    return load_project("shop", tmp_path)


def bind(project: Project, file: Path | None, relations: Relations = RELATIONS) -> list[BoundQuery]:
    """As a process of its own would."""
    binding._bind.cache_clear()
    return bind_models(project.models, relations, file)


def test_a_query_is_the_same_whether_it_was_bound_before_or_not(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known" / "queries.json"
    fresh = bind(project, file)
    monkeypatch.setattr("totes.processing.bound.resolution.bound_query", None)  # nothing is bound any more
    for one, other in zip(fresh, bind(project, file), strict=True):
        for field in fields(BoundQuery):
            assert getattr(one, field.name) == getattr(other, field.name), field.name
        assert one.sql(lambda leaf: leaf.relation.name) == other.sql(lambda leaf: leaf.relation.name)
        assert one.touching(one.base, lambda leaf: "x") == other.touching(other.base, lambda leaf: "x")
        assert (one.key_is_base_key, one.keeps_lineage) == (other.key_is_base_key, other.keeps_lineage)


def test_a_relation_that_differs_is_bound_to_again(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "queries.json"
    bind(project, file)
    wider = [replace(one, typed="DECIMAL(14, 2)") if one.name == "price" else one for one in SALE.columns]
    others = Relations(RELATIONS.present | {"sale": replace(SALE, columns=tuple(wider))}, {})
    assert [query.outputs for query in bind(project, file, others)] == [
        query.outputs for query in bind(project, None, others)
    ]


def test_a_model_that_differs_is_bound_again(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "queries.json"
    bind(project, file)
    path = tmp_path / "models" / "dim_client.sql"
    path.write_text(MODELS["dim_client"].replace("upper", "lower"))
    texts = [query.text for query in bind(load_project("shop", tmp_path), file)]
    assert [("lower(" in text, "upper(" in text) for text in texts].count((True, False)) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"readers": "others", "queries": {}}'])
def test_a_file_that_is_damaged_or_of_another_version_is_made_anew(
    project: Project, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "queries.json"
    texts = [query.text for query in bind(project, file)]
    before = file.read_bytes()
    file.write_bytes(content)
    assert [query.text for query in bind(project, file)] == texts
    assert file.read_bytes() == before


def test_what_binds_models_is_part_of_what_is_known(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "queries.json"
    bind(project, file)
    before = file.read_bytes()
    monkeypatch.setattr("totes.processing.bound.retained.readers", lambda _folder: "of another release")
    assert understood.readers(tmp_path) != "of another release"
    bind(project, file)
    assert file.read_bytes() != before
