"""Which rows a batch's changes touch: of the first table, and of the warehouse table. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from totes import engine
from totes.lake.packets import TURN
from totes.processing.bound.leaf import PLACE, Leaf
from totes.processing.inputs import Inputs
from totes.processing.source_rows import READ

PLACE_OF_STEP = f"coalesce({TURN}, 0)"
_PLACE = engine.name(PLACE)
_NOW, _BEFORE = '"~now"', '"~before"'


def touched_keys(inputs: Inputs) -> str:
    """A query for the first table's keys of the rows with which a changed row of any table is joined at present.

    They are touched by the batch that are joined with a changed row before its changes are applied, or afterwards. In a batch
    from the log each has the time and the place of the transaction that touched it, as `READ` and `TURN`.
    """
    base, parts = inputs.query.base, []
    read = f", {READ}, {TURN}" * inputs.from_log
    if inputs.base_changes:
        parts.append(f"SELECT {_renamed(base.relation.key, base.key)}{read} FROM {inputs.base_changes}")
    for leaf in inputs.query.leaves[1:]:
        if changes := inputs.seen.get(leaf.index):
            joined = inputs.query.touching(leaf, only(inputs.rows, leaf, changes, leaf.relation.key))
            same = engine.equal("joined", "change", leaf.key, leaf.relation.key)
            times = f" JOIN {changes} AS change ON {same}" * inputs.from_log
            parts.append(
                f"SELECT DISTINCT {engine.names(base.key, 'joined')}{read} FROM ({joined}) AS joined{times}"
            )
    return " UNION ".join(f"({part})" for part in parts)


def seen_changes(leaf: Leaf, changes: str, rows: str, *, from_log: bool) -> str:
    """A query for the changes of a joined table that a model sees: of rows that come or go, or differ in a column that it names.

    It gives the rows' keys, and in a batch from the log `READ` and `TURN`.

    Args:
        leaf: the joined table in the model.
        changes: the relation with its changes; several of one row where they have `TURN`.
        rows: the relation with its rows before them.
        from_log: whether the batch is from the log.
    """
    keys = leaf.relation.key
    seen = [
        column.name for column in leaf.relation.columns if column.name in leaf.named or column.name in keys
    ]
    times, before = (
        "",
        f"CASE WHEN {engine.name('known', keys[0])} IS NOT NULL THEN {packed(seen, 'known')} END",
    )
    now = f"CASE WHEN _op = 'upsert' THEN {packed(seen, 'change')} END"
    if from_log:
        times = f", change.{READ}, change.{TURN}"
        turns = f"OVER (PARTITION BY {engine.names(keys, 'change')} ORDER BY change.{TURN})"
        before = f"CASE row_number() {turns} WHEN 1 THEN {before} ELSE lag({now}) {turns} END"
    states = (
        f"SELECT {engine.names(keys, 'change')}{times}, {now} AS {_NOW}, {before} AS {_BEFORE} FROM {changes} AS change"
        f" LEFT JOIN {rows} AS known ON {engine.equal('change', 'known', keys)}"
    )
    return f"SELECT * EXCLUDE ({_NOW}, {_BEFORE}) FROM ({states}) WHERE {_NOW} IS DISTINCT FROM {_BEFORE}"


def packed(columns: Sequence[str], alias: str) -> str:
    """A row's columns as one value, under names that no column can disturb."""
    values = ", ".join(f"'c{number}': {engine.name(alias, column)}" for number, column in enumerate(columns))
    return f"{{{values}}}"


def computed_rows(inputs: Inputs, touched: str) -> str:
    """A query for the model's rows that are computed: all of them, or those of changed or touched rows of the first table."""
    query = inputs.query
    if inputs.whole:
        return query.sql(inputs.rows)
    if inputs.in_order:
        base = _base_in_order(inputs, touched)
        return query.sql(lambda leaf: base if leaf is query.base else inputs.rows(leaf), PLACE_OF_STEP)
    if inputs.reads_changes:
        return query.sql(lambda _: inputs.base_rows)
    keys = f"(SELECT {_renamed(query.base.key, query.base.relation.key)} FROM {touched})"
    return query.sql(only(inputs.rows, query.base, keys, query.base.relation.key))


def steps(inputs: Inputs, touched: str) -> str:
    """A query for the states of the first table's rows that are computed in order: their keys, `_at`, `READ` and the place.

    There is one for each change of a row, and one for a row that is touched without a change of its own.
    """
    base = inputs.query.base
    keys, place = engine.names(base.relation.key), f"{READ}, {PLACE_OF_STEP} AS {_PLACE}"
    parts = [f"SELECT {keys}, _at, {place} FROM {inputs.base_steps}"] if inputs.base_steps else []
    if not inputs.query.rowwise:
        parts.append(f"SELECT {keys}, NULL::TIMESTAMP AS _at, {place} FROM {_touched_alone(inputs, touched)}")
    return " UNION ALL ".join(parts)


def _base_in_order(inputs: Inputs, touched: str) -> str:
    """The relation with the states of the first table's rows that are computed in order, with `TURN`."""
    base, changes = inputs.query.base, inputs.base_steps
    columns = engine.names([*(column.name for column in base.relation.columns), "_at"])
    parts = [f"SELECT {columns}, {TURN} FROM {changes} WHERE _op = 'upsert'"] if changes else []
    if not inputs.query.rowwise:
        same = engine.equal("present", "alone", base.relation.key)
        rows = f"(SELECT {columns} FROM {inputs.rows(base)}) AS present JOIN {_touched_alone(inputs, touched)} AS alone ON {same}"
        parts.append(f"SELECT present.*, alone.{TURN} FROM {rows}")
    return f"({' UNION ALL '.join(parts)})"


def _touched_alone(inputs: Inputs, touched: str) -> str:
    """A relation with the keys of the first table's rows that are touched without a change of their own, each once."""
    base, changes = inputs.query.base, inputs.base_steps
    newest = f"max({READ}) AS {READ}, max({TURN}) AS {TURN}"
    keys = f"SELECT {_renamed(base.key, base.relation.key)}, {newest} FROM {touched} GROUP BY ALL"
    if not changes:
        return f"({keys})"
    same = engine.equal("alone", "change", base.relation.key)
    return f"(SELECT alone.* FROM ({keys}) AS alone ANTI JOIN {changes} AS change ON {same})"


def recomputed_keys(inputs: Inputs, touched: str) -> tuple[str, tuple[str, ...]]:
    """The relation with the keys of the first table's rows that are computed, unless all are; and its key columns."""
    base = inputs.query.base
    if inputs.query.rowwise:
        return str(inputs.base_changes), base.relation.key
    return touched, base.key


def affected_keys(inputs: Inputs, new: str, touched: str) -> str:
    """A query for the keys of the warehouse table's rows that may change: those of the new rows, and those of earlier ones.

    Args:
        inputs: what the model reads.
        new: the relation with its computed rows.
        touched: the relation with the touched keys.
    """
    query = inputs.query
    computed = f"SELECT {engine.names(query.key)} FROM {new}"
    source, columns = recomputed_keys(inputs, touched)
    if query.keeps_lineage:
        return (
            f"{computed} UNION SELECT {engine.names(query.key, 'star')} FROM {inputs.newest} AS star"
            f" SEMI JOIN {source} AS touched ON {engine.equal('star', 'touched', query.key_of(query.base), columns)}"
        )
    carried = dict(zip(query.key_of(query.base), columns, strict=True))
    types = {column.name: column.type for column in query.model.produced}
    keys = ", ".join(f"TRY_CAST({engine.name(carried[key])} AS {types[key]})" for key in query.key)
    return f"{computed} UNION SELECT {keys} FROM {source}"


def only(
    rows: Callable[[Leaf], str], chosen: Leaf, relation: str, columns: tuple[str, ...]
) -> Callable[[Leaf], str]:
    """The rows of each leaf, but of one only those whose key a relation has."""

    def limited(leaf: Leaf) -> str:
        if leaf is not chosen:
            return rows(leaf)
        semi_join = f"SEMI JOIN {relation} AS o ON {engine.equal('r', 'o', columns)}"
        return f"(SELECT r.* FROM {rows(leaf)} AS r {semi_join})"

    return limited


def _renamed(columns: tuple[str, ...], names: tuple[str, ...]) -> str:
    return ", ".join(
        f"{engine.name(column)} AS {engine.name(name)}" for column, name in zip(columns, names, strict=True)
    )
