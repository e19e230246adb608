-- One row a column of every table of a schema: what people have said of it, and what PostgreSQL makes sure of.
SELECT
    relation.relname::text AS table_name,
    attribute.attname::text AS column_name,
    pg_catalog.obj_description(relation.oid, 'pg_class') AS table_comment,
    pg_catalog.col_description(relation.oid, attribute.attnum) AS column_comment,
    coalesce(NOT rule.collisdeterministic, false) OR kind.typname = 'citext' AS blind,
    pg_catalog.pg_get_userbyid(relation.relowner)::text AS owner,
    relation.relrowsecurity AS secured,
    relation.relkind::text AS kind,
    ARRAY(
        SELECT parent.relname::text
        FROM pg_catalog.pg_inherits AS inherited JOIN pg_catalog.pg_class AS parent ON parent.oid = inherited.inhparent
        WHERE inherited.inhrelid = relation.oid
    ) AS parents
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid
JOIN pg_catalog.pg_type AS kind ON kind.oid = attribute.atttypid
LEFT JOIN pg_catalog.pg_collation AS rule ON rule.oid = attribute.attcollation
WHERE namespace.nspname = %(schema)s
    AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT relation.relispartition
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
ORDER BY relation.relname, attribute.attnum
