"""A model's query bound to relations: every name resolved, every row that an output row comes from made visible.

The tables in the query's FROMs, at whatever depth, are its *leaves*. Each becomes a common table expression
`~leafN`, whose rows the caller chooses, and hidden columns carry the keys of the leaves' rows out to the output row:
they show which output rows a changed source row touches, directly or through a chain of joins.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from totes.errors import ModelError
from totes.processing.bound.leaf import BAD, Leaf, raw_name
from totes.processing.bound.relation import Relation, RelationColumn, Relations
from totes.processing.bound.row_errors import guard
from totes.star import syntax
from totes.star.model import Model
from totes.star.written import Written, line_of, output_name, shown, sql

_JOINED = "Name it: (SELECT … FROM a JOIN b …) AS x"


@dataclass
class Scope:
    """One SELECT with what its FROM names, by alias."""

    select: exp.Select
    sources: dict[str, Leaf | Scope] = field(default_factory=dict)

    def first_leaf(self) -> Leaf:
        """The first table of its FROM, at whatever depth."""
        first = next(iter(self.sources.values()))
        return first if isinstance(first, Leaf) else first.first_leaf()

    def outputs(self) -> dict[str, exp.Expr]:
        """Each column that the SELECT gives, with its expression."""
        return {output_name(projection): projection.unalias() for projection in self.select.expressions}

    def has(self, alias: str, column: str) -> bool:
        """Whether the source of that alias has that column."""
        source = self.sources[alias]
        if isinstance(source, Leaf):
            return source.relation.column(column) is not None
        return any(name.lower() == column.lower() for name in source.outputs())


class Binder:
    """Binds one model's query."""

    def __init__(self, model: Model, relations: Relations) -> None:
        self._model = model
        self._relations = relations
        self.leaves: list[Leaf] = []

    def bind(self) -> Scope:
        """Resolves the whole query.

        Raises:
            ModelError: a table or column is not there, or a name could mean several.
        """
        query = self._model.written.copy()
        for select in query.find_all(exp.Select):
            for projection in list(select.expressions):
                if isinstance(projection, exp.Column):
                    # The column keeps the name that it has here, whatever the source's own spelling of it is.
                    named = exp.alias_(projection.copy(), output_name(projection), quoted=True)
                    projection.replace(named)
        self._inline(query, {})
        scope = self._scope(query)
        self._resolve(scope, outermost=True)
        return scope

    def _inline(self, select: exp.Select, outer: dict[str, exp.Select]) -> None:
        """Puts each common table expression in where it is named, so that every occurrence stands for itself."""
        visible = dict(outer)
        for common in select.ctes:
            body = common.this
            if common.args["alias"].args.get("columns") or not isinstance(body, exp.Select):
                raise self._error(common, f"the common table expression {common.alias} is not a plain SELECT")
            self._inline(body, visible)
            visible[common.alias.lower()] = body
        select.set("with_", None)
        for source in _from_items(select):
            if isinstance(source, exp.Table) and source.name.lower() in visible:
                body = visible[source.name.lower()].copy()
                source.replace(exp.Subquery(this=body, alias=_alias(source.alias_or_name)))
            elif isinstance(source, exp.Subquery) and isinstance(source.this, exp.Select):
                self._inline(source.this, visible)

    def _scope(self, select: exp.Select) -> Scope:
        scope = Scope(select)
        for source in _from_items(select):
            alias = source.alias_or_name
            if not alias:
                raise self._error(source, "what stands in parentheses in FROM has no alias", _JOINED)
            if alias.lower() in (other.lower() for other in scope.sources):
                raise self._error(
                    source, f"two tables in FROM are called {alias}", "Give one another alias: table AS x"
                )
            if isinstance(source, exp.Table):
                leaf = Leaf(len(self.leaves), self._relation(source))
                self.leaves.append(leaf)
                scope.sources[alias] = leaf
                source.set("this", exp.to_identifier(leaf.name, quoted=True))
                source.set("alias", _alias(alias))
            elif isinstance(source, exp.Subquery) and isinstance(source.this, exp.Select):
                scope.sources[alias] = self._scope(source.this)
                source.set("alias", _alias(alias))
            else:
                raise self._error(
                    source, f"{source.sql('duckdb')} in FROM is not a table or a plain SELECT", _JOINED
                )
        return scope

    def _relation(self, table: exp.Table) -> Relation:
        relation = self._relations.find(table.name)
        if relation is None:
            known = sorted(self._relations.present)
            near = difflib.get_close_matches(table.name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}"
            reason = self._relations.why_absent(table.name)
            if reason:
                raise self._error(table, f"the table {table.name} was not captured: {reason}", None)
            raise self._error(table, f"the source has no table {table.name}", hint)
        for leaf in self.leaves:
            other = leaf.relation.name
            if other != relation.name and other.lower() == relation.name.lower():
                raise self._error(
                    table,
                    f"{other} and {relation.name} differ in case only, which DuckDB does not distinguish",
                    "Read a view instead of one of them, which gives it another name",
                )
        names = [column.name.lower() for column in relation.columns]
        own = next((name for name in names if name.startswith("~") or name.endswith(raw_name(""))), None)
        if own:
            raise self._error(
                table,
                f"{relation.name} has a column {own}, a name of the kind that the engine uses itself",
                "Read a view instead, which gives it another name",
            )
        double = next((name for name in names if names.count(name) > 1), None)
        if double:
            raise self._error(
                table,
                f"{relation.name} has columns that differ in case only ({double})",
                "Read a view instead, which gives them other names",
            )
        return relation

    def _resolve(self, scope: Scope, *, outermost: bool) -> None:
        for source in scope.sources.values():
            if isinstance(source, Scope):
                self._resolve(source, outermost=False)
        for join in scope.select.args.get("joins") or []:
            for identifier in join.args.get("using") or []:
                self._resolve_using(scope, identifier)
        passed_on = {id(projection.unalias()) for projection in scope.select.expressions}
        for column in list(_own_columns(scope.select)):
            self._resolve_column(scope, column, computed=id(column) not in passed_on)
        for written in scope.select.find_all(Written):
            if written.find(exp.Paren):
                self._check_expanded(written)
        if outermost:
            for source in self.leaves:
                source.computed &= {column.name for column in source.relation.columns}

    def _resolve_using(self, scope: Scope, identifier: exp.Expr) -> None:
        holders = [alias for alias in scope.sources if scope.has(alias, identifier.name)]
        if len(holders) < 2:
            raise self._error(
                identifier, f"USING names {identifier.name}, which the joined tables do not both have"
            )
        for alias in holders:
            self._note_use(scope.sources[alias], identifier.name)

    def _resolve_column(self, scope: Scope, column: exp.Column, *, computed: bool) -> None:
        if column.table:
            alias = next((alias for alias in scope.sources if alias.lower() == column.table.lower()), None)
            if alias is None:
                raise self._error(
                    column,
                    f"{column.table} in {shown(column)} is not a table in FROM",
                    f"There are {', '.join(scope.sources)}",
                )
            if not scope.has(alias, column.name):
                raise self._no_column(scope, column, [alias])
        else:
            holders = [alias for alias in scope.sources if scope.has(alias, column.name)]
            if not holders and self._expand_alias(scope, column):
                return
            if not holders:
                raise self._no_column(scope, column, list(scope.sources))
            if len(holders) > 1 and not _is_using(scope.select, column.name):
                raise self._error(
                    column, f"{column.name} could be of {' or '.join(holders)}", "Write table.column"
                )
            alias = holders[0]
        source = scope.sources[alias]
        if isinstance(source, Leaf):
            found = source.relation.column(column.name)
            assert found is not None
            actual = found.name
            source.named.add(actual)
        else:
            actual = next(name for name in source.outputs() if name.lower() == column.name.lower())
        named = exp.to_identifier(actual, quoted=True)
        named.meta.update(column.this.meta)  # the line that it stands in
        column.set("this", named)
        column.set("table", exp.to_identifier(alias, quoted=True))
        if computed:
            self._note_use(source, actual)

    def _expand_alias(self, scope: Scope, column: exp.Column) -> bool:
        """Replaces the alias of an earlier output column by that column's expression."""
        for projection in scope.select.expressions:
            if isinstance(projection, exp.Alias) and output_name(projection).lower() == column.name.lower():
                inside = any(node is column for node in projection.walk())
                if inside:
                    return False
                body = projection.this.copy()
                replacement = column.replace(exp.Paren(this=body))
                for nested in list(replacement.find_all(exp.Column)):
                    self._resolve_column(scope, nested, computed=True)
                return True
        return False

    def _check_expanded(self, written: Written) -> None:
        """Makes sure that an expression in the place of its alias changes nothing around it."""
        before, after = (syntax.parse(f"SELECT ({text})") for text in (written.args["text"], sql(written)))
        if not syntax.fits(before, after):
            raise self._error(
                written,
                f"a name in {written.args['text']} stands for an expression, where only a column can stand",
                "Write the expression itself",
            )

    def _note_use(self, source: Leaf | Scope, column: str) -> None:
        if isinstance(source, Leaf):
            found = source.relation.column(column)
            source.named.add(found.name if found else column)
            source.computed.add(found.name if found else column)
            return
        expression = source.outputs().get(column)
        if isinstance(expression, exp.Column):
            self._note_use(source.sources[expression.table], expression.name)

    def _no_column(self, scope: Scope, column: exp.Column, aliases: list[str]) -> ModelError:
        names: dict[str, str] = {}
        for alias in aliases:
            source = scope.sources[alias]
            columns = (
                [c.name for c in source.relation.columns]
                if isinstance(source, Leaf)
                else list(source.outputs())
            )
            names.update((name, alias) for name in columns)
        near = difflib.get_close_matches(column.name, names, n=1, cutoff=0.5)
        owner = scope.sources[aliases[0]]
        of = f" of {owner.relation.name}" if len(aliases) == 1 and isinstance(owner, Leaf) else ""
        hint = f"Did you mean {names[near[0]]}.{near[0]}?" if near else f"There are {', '.join(names)}"
        return self._error(column, f"there is no column {column.name}{of}", hint)

    def _error(self, node: exp.Expr, what: str, hint: str | None = None) -> ModelError:
        return ModelError(self._model.path, line_of(node), what, hint=hint)


def carry_hidden(scope: Scope) -> tuple[str, ...]:
    """Adds the hidden columns of all leaves to the SELECTs on their way out, and gives their names."""
    carried: list[str] = []
    for alias, source in scope.sources.items():
        for hidden in source.hidden if isinstance(source, Leaf) else carry_hidden(source):
            scope.select.append("expressions", exp.alias_(_column(alias, hidden), hidden, quoted=True))
            carried.append(hidden)
    for problems in guard(scope.select):
        hidden = f"{BAD}{scope.first_leaf().index}.{len(carried)}"
        scope.select.append("expressions", exp.alias_(problems, hidden, quoted=True))
        carried.append(hidden)
    return tuple(carried)


def note_typed(scope: Scope) -> None:
    """Notes for each leaf which columns the bound query reads as values, rather than in their raw form."""
    named = [(column.table, column.name) for column in _own_columns(scope.select)]
    for join in scope.select.args.get("joins") or []:
        shared = [identifier.name for identifier in join.args.get("using") or []]
        named += [(alias, name) for alias in scope.sources for name in shared]
    for alias, source in scope.sources.items():
        if isinstance(source, Scope):
            note_typed(source)
        else:
            columns = (source.relation.column(name) for table, name in named if table == alias)
            source.typed = {column.name for column in columns if column} | source.computed


def relaxed(select: exp.Select) -> exp.Select:
    """The SELECT without its WHEREs, and with its inner joins as outer ones, at whatever depth."""
    loose = select.copy()
    for inner in loose.find_all(exp.Select):
        inner.set("where", None)
        for join in inner.args.get("joins") or []:
            if (
                not join.side
                and join.kind.upper() in ("", "INNER")
                and (join.args.get("on") or join.args.get("using"))
            ):
                join.set("side", "LEFT")
                join.set("kind", None)
    return loose


def origin(scope: Scope, column: exp.Expr) -> tuple[Leaf, RelationColumn] | None:
    """The leaf and column that an expression only passes on, or None where it computes."""
    if not isinstance(column, exp.Column):
        return None
    source = scope.sources[column.table]
    if isinstance(source, Leaf):
        found = source.relation.column(column.name)
        return (source, found) if found else None
    return origin(source, source.outputs()[column.name])


def raw_reference(scope: Scope, column: exp.Column) -> exp.Column:
    """An expression for the raw form of a column that is passed on, carried out through the SELECTs on its way."""
    source = scope.sources[column.table]
    if isinstance(source, Leaf):
        return _column(column.table, raw_name(column.name))
    inner = source.outputs()[column.name]
    assert isinstance(inner, exp.Column)
    hidden = f"~raw.{column.name}"
    if hidden not in source.outputs():
        source.select.append("expressions", exp.alias_(raw_reference(source, inner), hidden, quoted=True))
    return _column(column.table, hidden)


def _from_items(select: exp.Select) -> list[exp.Expr]:
    return [select.args["from_"].this, *(join.this for join in select.args.get("joins") or [])]


def _own_columns(select: exp.Select) -> Iterator[exp.Column]:
    sources = {id(item) for item in _from_items(select)}
    for node in select.walk(prune=lambda node: id(node) in sources):
        if isinstance(node, exp.Column):
            yield node


def _is_using(select: exp.Select, column: str) -> bool:
    return any(
        identifier.name.lower() == column.lower()
        for join in select.args.get("joins") or []
        for identifier in join.args.get("using") or []
    )


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def _column(table: str, column: str) -> exp.Column:
    return exp.column(exp.to_identifier(column, quoted=True), table=exp.to_identifier(table, quoted=True))
