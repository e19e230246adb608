-- One row a column of every table, partitioned table, view and foreign table of a schema that the role may see.
-- A domain is described by its base type, with the domain's modifiers, since values are those of the base type.
WITH RECURSIVE types AS (
    SELECT oid AS type, oid AS base, typtypmod AS modifier FROM pg_catalog.pg_type
    UNION ALL
    SELECT types.type, domain.typbasetype, domain.typtypmod
    FROM types JOIN pg_catalog.pg_type AS domain ON domain.oid = types.base
    WHERE domain.typtype = 'd'
),
base_types AS (
    SELECT types.type, types.base, types.modifier
    FROM types JOIN pg_catalog.pg_type AS base ON base.oid = types.base
    WHERE base.typtype <> 'd'
),
-- Partitions, and tables that inherit, at any depth and in any schema: their rows are rows of the table.
members AS (
    SELECT top.inhparent AS relation, top.inhrelid AS member
    FROM pg_catalog.pg_inherits AS top
    JOIN pg_catalog.pg_class AS parent ON parent.oid = top.inhparent
    JOIN pg_catalog.pg_namespace AS place ON place.oid = parent.relnamespace
    WHERE place.nspname = %(schema)s AND parent.relkind IN ('r', 'p') AND NOT parent.relispartition
    UNION
    SELECT members.relation, below.inhrelid
    FROM members JOIN pg_catalog.pg_inherits AS below ON below.inhparent = members.member
),
parts AS (
    SELECT members.relation, array_agg(part.oid::int8 ORDER BY part.oid) AS numbers, bool_or(part.relkind = 'f') AS partly_foreign
    FROM members JOIN pg_catalog.pg_class AS part ON part.oid = members.member
    WHERE part.relkind IN ('r', 'f')
    GROUP BY members.relation
),
keys AS (
    SELECT index.indrelid AS relation, array_agg(attribute.attname::text ORDER BY part.place) AS names
    FROM pg_catalog.pg_index AS index
    CROSS JOIN LATERAL unnest(index.indkey::int2[]) WITH ORDINALITY AS part (number, place)
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = index.indrelid AND attribute.attnum = part.number
    WHERE index.indisprimary AND part.place <= index.indnkeyatts
    GROUP BY index.indrelid
)
SELECT
    relation.relname::text,
    relation.relkind::text,
    pg_catalog.has_table_privilege(relation.oid, 'SELECT'),
    pg_catalog.row_security_active(relation.oid),
    keys.names,
    attribute.attname::text,
    pg_catalog.format_type(
        base_types.base, CASE WHEN base_types.base = attribute.atttypid THEN attribute.atttypmod ELSE base_types.modifier END
    ),
    pg_catalog.format_type(base_types.base, NULL),
    NOT attribute.attnotnull,
    attribute.attnum::int,
    ARRAY(
        SELECT label.enumlabel::text
        FROM pg_catalog.pg_enum AS label
        JOIN pg_catalog.pg_type AS listed ON listed.oid = base_types.base
        WHERE label.enumtypid IN (listed.oid, listed.typelem)
        ORDER BY label.enumsortorder
    ),
    relation.oid::int8,
    CASE WHEN relation.relkind IN ('r', 'p') THEN coalesce(parts.numbers, '{}') ELSE '{}' END,
    relation.relkind IN ('r', 'p') AND coalesce(parts.partly_foreign, false)
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
JOIN base_types ON base_types.type = attribute.atttypid
LEFT JOIN parts ON parts.relation = relation.oid
LEFT JOIN keys ON keys.relation = relation.oid
WHERE namespace.nspname = %(schema)s
    AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT relation.relispartition
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
ORDER BY relation.relname, attribute.attnum
