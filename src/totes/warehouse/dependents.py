"""What others have made in a PostgreSQL warehouse that depends on a table of the star."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from totes import engine

Rows = Callable[[str], list[tuple[Any, ...]]]
_NAME = "pg_catalog.quote_ident({n}.nspname) || '.' || pg_catalog.quote_ident({c}.relname)"
# Views and materialized views over a relation: by depth, those first that stand on nothing but it.
_VIEWS = """
WITH RECURSIVE found (oid, depth) AS (
    SELECT ev_class, 1 FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = objid
    WHERE classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND ({start}) AND ev_class <> refobjid
    UNION
    SELECT ev_class, depth + 1 FROM found JOIN pg_catalog.pg_depend AS d ON refobjid = found.oid
    JOIN pg_catalog.pg_rewrite AS r ON r.oid = objid
    WHERE classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND ev_class <> refobjid AND depth < 100
)
SELECT {name}, n.nspname::text, c.relname::text, c.relkind::text, c.oid::int8, max(depth)::int8
FROM found JOIN pg_catalog.pg_class AS c ON c.oid = found.oid JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace
GROUP BY 1, 2, 3, 4, 5 ORDER BY 6, 1
"""
_DEFINITION = """
SELECT pg_catalog.pg_get_viewdef(c.oid), coalesce(pg_catalog.array_to_string(reloptions, ', '), ''),
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(relowner)), relowner = (SELECT oid FROM pg_catalog.pg_roles
    WHERE rolname = current_user), pg_catalog.quote_literal(pg_catalog.obj_description(c.oid, 'pg_class'))
FROM pg_catalog.pg_class AS c WHERE c.oid = {oid}
"""
_GRANTS = """
SELECT NULL::text, pg_catalog.format('GRANT %s ON %s TO %s%s', privilege_type, {target},
    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END,
    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_catalog.pg_class, pg_catalog.aclexplode(relacl) WHERE oid = {oid}
UNION ALL
SELECT attname::text, pg_catalog.format('GRANT %s (%I) ON %s TO %s', privilege_type, attname, {target},
    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) END)
FROM pg_catalog.pg_attribute, pg_catalog.aclexplode(attacl) WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
"""
_COMMENTS = """
SELECT attname::text, pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', {target}, attname, description)
FROM pg_catalog.pg_attribute JOIN pg_catalog.pg_description ON objoid = attrelid AND objsubid = attnum
WHERE attrelid = {oid} AND classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND attnum > 0
"""
# What a table would take with it, or would not go for, beside views.
_OF_A_TABLE = """
SELECT 'policy', pg_catalog.quote_ident(polname), pg_catalog.format('DROP POLICY %I ON {table}', polname)
FROM pg_catalog.pg_policy WHERE polrelid = {oid}
UNION ALL
SELECT 'trigger', pg_catalog.quote_ident(tgname), pg_catalog.format('DROP TRIGGER %I ON {table}', tgname)
FROM pg_catalog.pg_trigger WHERE tgrelid = {oid} AND NOT tgisinternal
UNION ALL
SELECT 'publication', pg_catalog.quote_ident(pubname), pg_catalog.format('ALTER PUBLICATION %I DROP TABLE {table}', pubname)
FROM pg_catalog.pg_publication_rel JOIN pg_catalog.pg_publication AS p ON p.oid = prpubid WHERE prrelid = {oid}
UNION ALL
SELECT 'rule', pg_catalog.quote_ident(rulename), pg_catalog.format('DROP RULE %I ON {table}', rulename)
FROM pg_catalog.pg_rewrite WHERE ev_class = {oid}
ORDER BY 1, 2
"""
_OF_COLUMNS = """
SELECT DISTINCT 'policy', pg_catalog.quote_ident(polname),
    pg_catalog.format('DROP POLICY %I ON %s', polname, polrelid::pg_catalog.regclass)
FROM pg_catalog.pg_depend JOIN pg_catalog.pg_policy AS p ON p.oid = objid
WHERE classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND {start}
UNION ALL
SELECT DISTINCT 'trigger', pg_catalog.quote_ident(tgname),
    pg_catalog.format('DROP TRIGGER %I ON %s', tgname, tgrelid::pg_catalog.regclass)
FROM pg_catalog.pg_depend JOIN pg_catalog.pg_trigger AS t ON t.oid = objid
WHERE classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND NOT tgisinternal AND {start}
UNION ALL
SELECT 'grant', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(grantee)) || ' (' || privilege_type || ' on ' || attname || ')',
    ''
FROM pg_catalog.pg_attribute, pg_catalog.aclexplode(attacl) WHERE attrelid = {table} AND attname IN ({names})
ORDER BY 1, 2
"""
_KINDS = {"v": "view", "m": "materialized view", "r": "rule of table", "p": "rule of table"}


class Dependent(NamedTuple):
    """Something of others: its kind, its name, and the statement that drops it, which is empty where none is needed."""

    kind: str
    name: str
    drop: str

    @property
    def stays(self) -> bool:
        """Whether a table or column cannot go while it is there."""
        return self.kind != "grant"


class View(NamedTuple):
    """A view over a relation: its quoted name, its kind in the catalog, its number there."""

    name: str
    schema: str
    relation: str
    kind: str
    oid: int


@dataclass(frozen=True)
class Definition:
    """What makes a view again: a statement, and what is then said of it or of one of its columns."""

    view: View
    create: str
    following: tuple[tuple[str | None, str], ...]


def dependents(
    rows: Rows, schema: str, table: str, columns: Iterable[str], star: frozenset[str], *, whole: bool = False
) -> list[Dependent]:
    """What of others could not go on if columns of a table went, or with `whole` the table itself.

    Views that stand on the table's own view are among it, where they use such a column of that.

    Args:
        rows: gives the rows of a query.
        schema: the schema of the star.
        table: the table.
        columns: the names of its columns that go; their present names.
        star: the names of the star's tables, whose own views and foreign keys do not count.
        whole: whether the table itself goes. Its views are made again, if not for these columns.
    """
    names = tuple(columns)
    current = f"{table}_current"
    own = star | {f"{name}_current" for name in star} | {current}
    found = []
    if names:
        starts = " OR ".join(_uses(schema, one, names) for one in (table, current))
        # What stands on the table's own view may do without these columns.
        starts = f"({starts}) AND ev_class IS DISTINCT FROM {_known(schema, current)}"
        for view in _views(rows, starts):
            if view.schema != schema or view.relation not in own:
                kind = _KINDS.get(view.kind, "rule")
                drop = f"DROP {kind.upper()} {view.name}" if view.kind in "vm" else ""
                found.append(Dependent(kind, view.name, drop))
        listed = ", ".join(map(engine.text, names))
        of_columns = _OF_COLUMNS.format(
            start=_uses(schema, table, names), table=regclass(schema, table), names=listed
        )
        found += [Dependent(*row) for row in rows(of_columns)]
    if whole:
        start = f"refobjid IN ({regclass(schema, table)}, {_known(schema, current)})"
        found += [
            Dependent("materialized view", view.name, f"DROP MATERIALIZED VIEW {view.name}")
            for view in _views(rows, start)
            if view.kind == "m"
        ]
        at = {
            "oid": regclass(schema, table),
            "table": engine.name(schema, table).replace("%", "%%").replace("'", "''"),
        }
        found += [Dependent(*row) for row in rows(_OF_A_TABLE.format(**at))]
    keys = foreign_keys(rows, schema, table, star)
    going = [key for key in keys if whole or set(key.columns) & set(names)]
    found += [Dependent("foreign key", f"{key.name} of {key.relation}", key.drop) for key in going]
    return list(dict.fromkeys(found))


def views_over(rows: Rows, schema: str, table: str, columns: Iterable[str] | None) -> list[View]:
    """The views that stand on columns of a table, by default on any, and on these views; lowest first.

    The table's own view stands on all of its columns.
    """
    if columns is None:
        return _views(rows, f"refobjid = {regclass(schema, table)}")
    names = tuple(columns)
    return _views(rows, _uses(schema, table, names)) if names else []


def definition(rows: Rows, view: View) -> Definition:
    """What makes a view again."""
    target = {"target": engine.text(view.name), "oid": view.oid}
    [(text, options, owner, is_ours, comment)] = rows(_DEFINITION.format(oid=view.oid))
    following: list[tuple[str | None, str]] = []
    if not is_ours:
        following.append((None, f"ALTER VIEW {view.name} OWNER TO {owner}"))
    if comment:
        following.append((None, f"COMMENT ON VIEW {view.name} IS {comment}"))
    following += [(column, statement) for column, statement in rows(_COMMENTS.format(**target))]
    with_options = f" WITH ({options})" if options else ""
    create = f"CREATE VIEW {view.name}{with_options} AS {text.rstrip().rstrip(';')}"
    return Definition(view, create, (*following, *grants(rows, view.oid, view.name)))


def grants(rows: Rows, oid: int | str, target: str) -> list[tuple[str | None, str]]:
    """The statements that grant what is granted on a relation or a column of it, on one that takes its place."""
    found = rows(_GRANTS.format(oid=oid, target=engine.text(target)))
    return [(column, statement) for column, statement in found]


class ForeignKey(NamedTuple):
    """A foreign key that refers to a table: the quoted name of the table that has it, its own, and the columns it refers to."""

    relation: str
    name: str
    columns: tuple[str, ...]
    table: str

    @property
    def drop(self) -> str:
        """The statement that drops it."""
        return f"ALTER TABLE {self.relation} DROP CONSTRAINT {self.name}"


def foreign_keys(
    rows: Rows, schema: str, table: str, star: frozenset[str], *, own: bool = False
) -> list[ForeignKey]:
    """The foreign keys of others that refer to a table, or with `own` those of the star's tables, itself among them.

    Args:
        rows: gives the rows of a query.
        schema: the schema of the star.
        table: the table that they refer to.
        star: the names of the star's tables.
        own: which of the two.
    """
    found = rows(
        f"SELECT {_NAME.format(c='c', n='n')}, pg_catalog.quote_ident(conname), n.nspname::text, c.relname::text,"
        " (SELECT pg_catalog.string_agg(attname, chr(10)) FROM pg_catalog.pg_attribute"
        "  WHERE attrelid = confrelid AND attnum = ANY (confkey))"
        " FROM pg_catalog.pg_constraint JOIN pg_catalog.pg_class AS c ON c.oid = conrelid"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = relnamespace"
        f" WHERE contype = 'f' AND conparentid = 0 AND confrelid = {regclass(schema, table)} ORDER BY 1, 2"
    )
    return [
        ForeignKey(relation, name, tuple(columns.split("\n")), table_of)
        for relation, name, schema_of, table_of, columns in found
        if (schema_of == schema and table_of in star) == own
    ]


def owns(rows: Rows, schema: str, relation: str) -> bool:
    """Whether the role owns a relation, or is a member of the role that does."""
    query = "SELECT pg_catalog.pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid = "
    return bool(rows(query + regclass(schema, relation))[0][0])


def regclass(schema: str, relation: str) -> str:
    """The SQL of a relation's number in the catalog."""
    return f"{engine.text(engine.name(schema, relation))}::pg_catalog.regclass"


def _known(schema: str, relation: str) -> str:
    """The SQL of a relation's number; NULL where there is none."""
    return f"pg_catalog.to_regclass({engine.text(engine.name(schema, relation))})"


def _uses(schema: str, relation: str, columns: tuple[str, ...]) -> str:
    listed = ", ".join(map(engine.text, columns))
    return (
        f"(refobjid = {_known(schema, relation)} AND refobjsubid IN (SELECT attnum FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = {_known(schema, relation)} AND attname IN ({listed})))"
    )


def _views(rows: Rows, start: str) -> list[View]:
    found = rows(_VIEWS.format(start=start, name=_NAME.format(c="c", n="n")))
    return [View(*row[:5]) for row in found]
