-- One row a table, partitioned table, view or foreign table of a schema, with what may prevent its capture.
-- It has more than the catalog query of ingestion, which decides what is captured: this one finds the fix.
SELECT
    relation.relname::text AS name,
    relation.relkind::text AS kind,
    pg_catalog.has_table_privilege(relation.oid, 'SELECT') AS readable,
    pg_catalog.row_security_active(relation.oid) AS filtered,
    relation.relispopulated AS populated,
    relation.relpersistence = 'u' AS unlogged,
    pg_catalog.pg_has_role(relation.relowner, 'USAGE') AS owned,
    EXISTS (SELECT FROM pg_catalog.pg_index AS keys WHERE keys.indrelid = relation.oid AND keys.indisprimary) AS keyed,
    columns.names,
    columns.times,
    columns.numbered,
    ARRAY(
        SELECT attribute.attname::text
        FROM pg_catalog.pg_attribute AS attribute JOIN pg_catalog.pg_collation AS rule ON rule.oid = attribute.attcollation
        WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT rule.collisdeterministic
        ORDER BY attribute.attnum
    ) AS blind,
    ARRAY(
        SELECT attribute.attname::text
        FROM pg_catalog.pg_attribute AS attribute
        WHERE attribute.attrelid = relation.oid AND attribute.attnum = ANY (best.indkey::int2[])
        ORDER BY array_position(best.indkey::int2[], attribute.attnum)
    ) AS unique_columns,
    ARRAY(
        SELECT child.relname::text
        FROM pg_catalog.pg_inherits AS inherited JOIN pg_catalog.pg_class AS child ON child.oid = inherited.inhrelid
        WHERE inherited.inhparent = relation.oid AND relation.relkind = 'r'
        ORDER BY 1
    ) AS children,
    ARRAY(
        SELECT partition.relname::text
        FROM pg_catalog.pg_partition_tree(CASE WHEN relation.relkind = 'p' THEN relation.oid END) AS tree
        JOIN pg_catalog.pg_class AS partition ON partition.oid = tree.relid
        WHERE partition.relkind = 'f'
        ORDER BY 1
    ) AS foreign_partitions,
    CASE WHEN relation.relkind = 'p' THEN (
        SELECT sum(greatest(leaf.relpages, 0))::int8
        FROM pg_catalog.pg_partition_tree(relation.oid) AS tree JOIN pg_catalog.pg_class AS leaf ON leaf.oid = tree.relid
    ) ELSE greatest(relation.relpages, 0)::int8 END * current_setting('block_size')::int8 AS bytes
FROM pg_catalog.pg_class AS relation
JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = relation.relnamespace
CROSS JOIN LATERAL (
    SELECT
        coalesce(array_agg(attribute.attname::text ORDER BY attribute.attnum), '{}') AS names,
        coalesce(array_agg(attribute.attname::text ORDER BY attribute.attnum) FILTER (
            WHERE attribute.atttypid IN ('timestamp'::regtype, 'timestamp[]'::regtype)
        ), '{}') AS times,
        coalesce(array_agg(attribute.attname::text ORDER BY attribute.attnum) FILTER (
            WHERE attribute.attidentity <> '' OR pg_catalog.pg_get_expr(value.adbin, value.adrelid) LIKE 'nextval(%%'
        ), '{}') AS numbered
    FROM pg_catalog.pg_attribute AS attribute
    LEFT JOIN pg_catalog.pg_attrdef AS value ON value.adrelid = attribute.attrelid AND value.adnum = attribute.attnum
    WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
) AS columns
LEFT JOIN LATERAL (
    SELECT keys.indkey
    FROM pg_catalog.pg_index AS keys
    WHERE keys.indrelid = relation.oid AND keys.indisunique AND keys.indimmediate AND keys.indisvalid
        AND keys.indpred IS NULL AND keys.indexprs IS NULL AND keys.indnatts = keys.indnkeyatts
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute AS attribute
            WHERE attribute.attrelid = keys.indrelid AND attribute.attnum = ANY (keys.indkey::int2[])
                AND NOT attribute.attnotnull
        )
    ORDER BY keys.indisprimary DESC, keys.indnatts
    LIMIT 1
) AS best ON true
WHERE namespace.nspname = %(schema)s
    AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT relation.relispartition
ORDER BY relation.relname
