"""Bound queries as they were bound before, in a file: binding a model to the same relations always gives the same query.

The file can be deleted at any time. It belongs to one version of what binds models; with any other, it is rebuilt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from totes.permissions import make_folders, replace
from totes.processing.bound.declared import Output
from totes.processing.bound.leaf import Leaf
from totes.processing.bound.query import BoundQuery
from totes.processing.bound.relation import Relations
from totes.star.model import Model
from totes.star.understood import known_by, readers

_PLAIN = ("key", "key_of_base", "key_is_exact", "key_is_read_from_text", "hidden", "text", "relaxed_text")
_TUPLES = ("key", "key_of_base", "hidden")


class Retained:
    """The bound queries of a file; without a file, none."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._readers = readers(Path(__file__).parent) if file else ""
        self._queries = known_by(self._readers, file, "queries")

    def query(self, model: Model, relations: Relations) -> BoundQuery | None:
        """A model bound to relations, if that was done before."""
        known = self._queries.get(_identity(model, relations))
        if known is None:
            return None
        leaves = tuple(_leaf(number, one, relations) for number, one in enumerate(known["leaves"]))
        columns = {column.name: column for column in model.produced}
        outputs = tuple(_output(one, columns, leaves) for one in known["outputs"])
        plain: dict[str, Any] = {
            name: tuple(known[name]) if name in _TUPLES else known[name] for name in _PLAIN
        }
        return BoundQuery(model=model, leaves=leaves, outputs=outputs, **plain)

    def save(self, queries: Sequence[BoundQuery], relations: Relations) -> None:
        """Writes these queries, and no others."""
        if self._file is None:
            return
        found = {_identity(query.model, relations): _document(query) for query in queries}
        with suppress(OSError):  # then they are bound again
            make_folders(self._file.parent)
            document = {"readers": self._readers, "queries": found}
            replace(self._file, json.dumps(document).encode(), durable=False)


def _identity(model: Model, relations: Relations) -> str:
    """Identifies all that a bound query is made of: the model, and what the names in it stand for."""
    named = [(name, repr(relations.find(name))) for name in sorted(model.relations)]
    return sha256(json.dumps([model.definition, named]).encode()).hexdigest()


def _document(query: BoundQuery) -> dict[str, Any]:
    leaves = [
        {
            "relation": leaf.relation.name,
            "named": sorted(leaf.named),
            "computed": sorted(leaf.computed),
            "typed": sorted(leaf.typed or ()),
        }
        for leaf in query.leaves
    ]
    outputs = [
        {
            "column": one.column.name,
            "natural": one.natural,
            "origin": one.origin,
            "wrapped": one.wrapped,
            "is_document": one.is_document,
            "carrier": [one.carrier[0].index, one.carrier[1].name] if one.carrier else None,
        }
        for one in query.outputs
    ]
    return {"leaves": leaves, "outputs": outputs} | {name: getattr(query, name) for name in _PLAIN}


def _leaf(number: int, known: Mapping[str, Any], relations: Relations) -> Leaf:
    relation = relations.present[known["relation"]]
    return Leaf(number, relation, set(known["named"]), set(known["computed"]), set(known["typed"]))


def _output(known: Mapping[str, Any], columns: Mapping[str, Any], leaves: Sequence[Leaf]) -> Output:
    carrier = None
    if known["carrier"]:
        leaf, name = leaves[known["carrier"][0]], known["carrier"][1]
        carrier = leaf, next(column for column in leaf.relation.columns if column.name == name)
    return Output(
        columns[known["column"]],
        known["natural"],
        known["origin"],
        known["wrapped"],
        known["is_document"],
        carrier,
    )
