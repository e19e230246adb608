-- One row a foreign key between tables of a schema. What refers to or from a partition does so for the whole table; where it is
-- declared for partitions only, all of them have to have it.
WITH keys AS (
    SELECT
        constraints.conrelid AS member,
        coalesce(pg_catalog.pg_partition_root(constraints.conrelid), constraints.conrelid)::oid AS relation,
        coalesce(pg_catalog.pg_partition_root(constraints.confrelid), constraints.confrelid)::oid AS target,
        constraints.convalidated AS validated,
        (
            SELECT array_agg(attribute.attname::text ORDER BY part.place)
            FROM unnest(constraints.conkey) WITH ORDINALITY AS part (number, place)
            JOIN pg_catalog.pg_attribute AS attribute
                ON attribute.attrelid = constraints.conrelid AND attribute.attnum = part.number
        ) AS columns,
        (
            SELECT array_agg(attribute.attname::text ORDER BY part.place)
            FROM unnest(constraints.confkey) WITH ORDINALITY AS part (number, place)
            JOIN pg_catalog.pg_attribute AS attribute
                ON attribute.attrelid = constraints.confrelid AND attribute.attnum = part.number
        ) AS target_columns
    FROM pg_catalog.pg_constraint AS constraints
    WHERE constraints.contype = 'f'
)
SELECT
    relation.relname::text AS table_name,
    keys.columns,
    target.relname::text AS target,
    keys.target_columns,
    bool_and(keys.validated) AND (
        bool_or(keys.member = keys.relation) OR count(DISTINCT keys.member) >= (
            SELECT count(*) FROM pg_catalog.pg_partition_tree(keys.relation) AS tree WHERE tree.isleaf
        )
    ) AS enforced
FROM keys
JOIN pg_catalog.pg_class AS relation ON relation.oid = keys.relation
JOIN pg_catalog.pg_class AS target ON target.oid = keys.target
JOIN pg_catalog.pg_namespace AS place ON place.oid = relation.relnamespace
JOIN pg_catalog.pg_namespace AS target_place ON target_place.oid = target.relnamespace
WHERE place.nspname = %(schema)s AND target_place.nspname = %(schema)s
GROUP BY relation.relname, keys.relation, keys.columns, target.relname, keys.target_columns
ORDER BY relation.relname, keys.columns, target.relname
