-- One row a partitioned table without a primary key whose partitions, all right below it, have one on the same columns. Rows of
-- one partition differ in that key, rows of two in what the table is partitioned by: together they identify a row.
SELECT
    relation.relname::text AS table_name,
    by.names || (
        SELECT coalesce(array_agg(part ORDER BY place), '{}')
        FROM unnest(min(keys.names)) WITH ORDINALITY AS own (part, place)
        WHERE part <> ALL (by.names)
    ) AS columns
FROM pg_catalog.pg_partitioned_table AS partitioned
JOIN pg_catalog.pg_class AS relation ON relation.oid = partitioned.partrelid
JOIN pg_catalog.pg_namespace AS place ON place.oid = relation.relnamespace
JOIN pg_catalog.pg_inherits AS below ON below.inhparent = relation.oid
JOIN pg_catalog.pg_class AS part ON part.oid = below.inhrelid
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(attribute.attname::text ORDER BY key.place), '{}') AS names, bool_and(attribute.attnotnull) AS sure
    FROM unnest(partitioned.partattrs::int2[]) WITH ORDINALITY AS key (number, place)
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = relation.oid AND attribute.attnum = key.number
) AS by
LEFT JOIN LATERAL (
    SELECT array_agg(attribute.attname::text ORDER BY key.place) AS names
    FROM pg_catalog.pg_index AS index
    CROSS JOIN LATERAL unnest(index.indkey::int2[]) WITH ORDINALITY AS key (number, place)
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = part.oid AND attribute.attnum = key.number
    WHERE index.indrelid = part.oid AND index.indisprimary AND key.place <= index.indnkeyatts
) AS keys ON true
WHERE place.nspname = %(schema)s
    AND NOT relation.relispartition
    AND partitioned.partexprs IS NULL
    AND by.sure
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS own WHERE own.indrelid = relation.oid AND own.indisprimary)
GROUP BY relation.oid, relation.relname, by.names
HAVING bool_and(part.relkind = 'r' AND keys.names IS NOT NULL) AND min(keys.names) = max(keys.names)
