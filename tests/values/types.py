"""The matrix: every type that the server has, user-defined ones beside them, each with its extremes as SQL.

A type that no row has a value for, because PostgreSQL makes none that SQL can get at, has an empty row.
"""

from __future__ import annotations

import psycopg

from tests.conftest import Database

SETUP = (
    r'''CREATE TYPE mood AS ENUM ('so so', '', 'it''s "odd", \ {x}', 'ünï', 'NULL', E'a\nb');
    CREATE TYPE "Odd name.with ""quotes""" AS ENUM ('A', 'a');
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE nested AS (p pair, ps pair[], m mood, n numeric);
    CREATE TYPE floatrange AS RANGE (subtype = float8);
    CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
    CREATE DOMAIN positive AS numeric(10, 2) CHECK (value > 0);
    CREATE DOMAIN more_positive AS positive CHECK (value > 1);
    CREATE DOMAIN moods AS mood[];
    CREATE DOMAIN document AS jsonb;
    CREATE DOMAIN one_pair AS pair;
    CREATE DOMAIN small AS smallint;
    CREATE DOMAIN flag AS boolean DEFAULT true''',
    "CREATE TABLE statistic_source AS SELECT i % 3 AS a, i % 3 AS b FROM generate_series(1, 100) AS i",
    "CREATE STATISTICS statistic_made ON a, b FROM statistic_source",
    "ANALYZE statistic_source",
)

_LONG_NUMBER = f"'{'9' * 131072}.{'9' * 16383}'"

MATRIX: dict[str, list[str]] = {
    # Numbers
    "smallint": ["-32768", "32767", "0"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": [
        "'NaN'", "'Infinity'", "'-Infinity'", "1.50", "-0.0", "1e100", "1e-100", "0.1000000000000000000000000000000000001",
        _LONG_NUMBER, f"-{_LONG_NUMBER}::numeric", "'0.00'", "'0.0000000001'", "'9999999999999999999999999999.9999999999'",
        "12345678901234567890.123",
    ],
    "numeric(12,4)": ["1.5", "-99999999.9999", "'NaN'", "0"],
    "numeric(38,0)": ["'99999999999999999999999999999999999999'"],
    "numeric(3,-2)": ["12345"],
    "numeric(3,5)": ["0.00999"],
    "real": ["1.1", "'NaN'", "'Infinity'", "'-Infinity'", "'1e-45'", "'3.4028235e38'", "16777216", "'-0'", "'1.17549435e-38'", "0.1"],
    "double precision": [
        "0.1", "'NaN'", "'Infinity'", "'-Infinity'", "'5e-324'", "'1.7976931348623157e308'", "'-0'", "'2.2250738585072014e-308'",
        "123456789012345680", "0.1::float8 + 0.2::float8", "1e22", "1e23",
    ],
    "money": ["'-92233720368547758.08'", "'92233720368547758.07'", "0", "'0.01'"],
    "oid": ["0", "4294967295"],
    "xid": ["'4294967295'"],
    "xid8": ["'18446744073709551615'"],
    "cid": ["'4294967295'"],
    # Text
    "text": [
        "''", "' '", "'NULL'", "'null'", r"E'\\ \" \' \n \r \t \b \f \x01 \x1f \x7f \u0085 \u2028 \u2029 \ufeff \U0001F600'",
        r"E'\\N'", r"E'\\.'", r"E'{\"_op\":\"delete\"}'", r"E'\t,\"j\":\t'", "'infinity'", "'NaN'", r"'\x00'", r"E'\U0010FFFF\uFFFF\uFFFE'",
        "repeat('x', 1000000)", r"repeat(E'\U0001F600\\\"', 50000)", r"E'e\u0301 \u00e9'", "'5'", "'2024-11-26'", "'true'",
    ],
    "character varying": ["'a b '", "''"],
    "character varying(5)": ["'a b  '", "'äöüß€'"],
    "character": ["' '", "'x'"],
    "character(5)": ["'ab'", "''", "'äöüß€'"],
    '"char"': ["'a'", "''", r"'\377'", "' '"],
    "name": ["'a name'", "repeat('n', 63)", "''"],
    "citext": ["'Straße'", "'STRASSE'"],
    "xml": [],  # the wheel's server is built without it
    "refcursor": ["'a cursor'"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'00000000-0000-0000-0000-000000000000'"],
    "boolean": ["true", "false"],
    "bytea": [
        "''", r"'\x00ff5c22270a'", r"(SELECT string_agg(set_byte('\x00'::bytea, 0, i), ''::bytea ORDER BY i) FROM generate_series(0, 255) AS i)", r"decode(repeat('00ff', 200000), 'hex')",
    ],
    "bit(1)": ["B'1'", "B'0'"],
    "bit(70)": ["repeat('10', 35)::bit(70)"],
    "bit varying": ["B''", "B'10'", "repeat('1', 1000)::varbit"],
    "bit varying(8)": ["B'00000001'"],
    # Time
    "date": [
        "'2024-02-29'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'5874897-12-31'", "'4714-11-24 BC'", "'0001-12-31 BC'",
        "'0001-01-01'", "'10000-01-01'",
    ],
    "timestamp without time zone": [
        "'2024-02-29 12:34:56.789012'", "'infinity'", "'-infinity'", "'0001-01-01 BC'", "'294276-12-31 23:59:59.999999'",
        "'4714-11-24 00:00:00 BC'", "'294247-01-10 04:00:54.775806'", "'1969-12-31 23:59:59.5'", "'12345-06-07 08:09:10'",
    ],
    "timestamp(0) without time zone": ["'2024-02-29 12:34:56.789012'"],
    "timestamp with time zone": [
        "'2024-03-31 02:30:00+02'", "'infinity'", "'-infinity'", "'0044-03-15 12:00:00+05:30 BC'", "'294276-12-31 23:59:59.999999+00'",
        "'4714-11-24 00:00:00+00 BC'", "'2024-10-27 01:30:00.000001-15:59'", "'1883-11-18 12:03:58-07:52:58'",
    ],
    "time without time zone": ["'24:00:00'", "'00:00:00.000001'", "'23:59:59.999999'", "'00:00:00'"],
    "time with time zone": [
        "'12:00:00+14'", "'23:59:59.999999-15:59:59'", "'24:00:00+15:59:59'", "'00:00:00+00:00:01'", "'12:00:00-00:30'",
    ],
    "interval": [
        "'-1 mon 2 days -03:00'", "'1 year 2 mons -3 days 04:05:06.000007'", "'-00:00:00.000001'", "'infinity'", "'-infinity'",
        "'178956970 years 7 mons 2147483646 days 2562047788:00:54.775807'", "'00:00:00'", "'30 days'", "'1 mon'", "'720:00'",
        "'-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807'", "'-1 years 3 days'",
    ],
    "interval day to second(3)": ["'1 day 02:03:04.5678'"],
    "interval year to month": ["'-13 mons'"],
    # Documents
    "json": [
        "'null'", "' null '", "'  null'", "' null'", "'{}'", "'\"\"'", r"""'{"k":1.0,"k":[null,"\u00e9"]}'""", r"E'{\n\t\"a\" :\r1e400 }'", "'1e-400'", "'-0'",
        "'123456789012345678901234567890.10'", r"""'"\ud83d\ude00 \u0000 \ud800"'""", r"""'"\\ud800 \/ \b"'""", "'true'", "'[]'",
        "(repeat('[', 300) || repeat(']', 300))::json", r"""'{"": "", "\t": 1}'""", r"""'",\"_op\":\t"'""", "to_json(repeat('ü', 200000))",
        "'\"2024-11-26\"'", "'\"null\"'",
    ],
    "jsonb": [
        "'null'", "'{}'", "'\"\"'", r"""'{"k":1.0,"k":[null,"\u00e9"]}'""", "'1e400'", "'1e-400'", "'-0'", "'1.00'", "'\"null\"'",
        "'[0.10000000000000000000000000000001, 12345678901234567890]'", r"""'"\ud83d\ude00 \\u0000 \t"'""", "'[[], {}]'",
    ],
    "jsonpath": ["'$.a[*] ? (@ > 1)'", "'lax $.\"a b\"'"],
    # Networks, geometry, search
    "inet": ["'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'::ffff:1.2.3.4/128'", "'0.0.0.0/0'"],
    "cidr": ["'10.0.0.0/8'", "'::/0'", "'10.1.2.3/32'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "macaddr8": ["'08:00:2b:01:02:03:04:05'"],
    "point": ["'(1.5,-2)'", "'(NaN,Infinity)'", "'(1e-300,-0)'"],
    "line": ["'{1,-1,0.1}'"],
    "lseg": ["'[(0,0),(1e300,1)]'"],
    "box": ["'(1,1),(0,0)'"],
    "path": ["'[(0,0),(1,1)]'", "'((0,0),(1,1),(2,0))'"],
    "polygon": ["'((0,0),(1,1),(2,0))'"],
    "circle": ["'<(0,0),1.5>'"],
    "tsvector": [r"""$$'a':1A,2B 'b c' 'it''s' '\\'$$""", "''"],
    "tsquery": ["$$'a' & ( 'b':*A | !'c d' ) <2> 'e'$$", "''"],
    # What the server counts and names itself by
    "pg_lsn": ["'16/B374D848'", "'FFFFFFFF/FFFFFFFF'"],
    "pg_snapshot": ["'10:20:10,14,15'"],
    "txid_snapshot": ["'10:20:10,14,15'"],
    "tid": ["'(4294967295,65535)'"],
    "int2vector": ["'1 2 -3'", "''"],
    "oidvector": ["'1 2 4294967295'"],
    "aclitem": ["'postgres=arwdDxt/postgres'", "'=r/postgres'"],
    "regclass": ["'pg_class'", "'public.statistic_source'", "0", "4294967295"],
    "regcollation": ["'\"C\"'"],
    "regconfig": ["'simple'"],
    "regdictionary": ["'simple'"],
    "regnamespace": ["'public'"],
    "regoper": ["'||/'"],
    "regoperator": ["'+(integer,integer)'"],
    "regproc": ["'now'"],
    "regprocedure": ["'abs(bigint)'"],
    "regrole": ["'postgres'"],
    "regtype": ["'integer'", "'public.pair'", "'public.\"Odd name.with \"\"quotes\"\"\"'", "'timestamp with time zone[]'"],
    "pg_node_tree": ["(SELECT ev_action FROM pg_rewrite ORDER BY oid LIMIT 1)"],
    "pg_ndistinct": ["(SELECT stxdndistinct FROM pg_statistic_ext_data LIMIT 1)"],
    "pg_dependencies": ["(SELECT stxddependencies FROM pg_statistic_ext_data LIMIT 1)"],
    "pg_mcv_list": ["(SELECT stxdmcv FROM pg_statistic_ext_data LIMIT 1)"],
    "gtsvector": [], "pg_brin_bloom_summary": [], "pg_brin_minmax_multi_summary": [],
    # Ranges
    "int4range": ["'[1,5)'", "'empty'", "'(,3]'", "'(,)'"],
    "int8range": ["'[-9223372036854775808,9223372036854775807)'"],
    "numrange": ["'[1.50,NaN]'", "'(-Infinity,1e100)'"],
    "daterange": ["'[0044-03-15 BC,infinity)'", "'empty'"],
    "tsrange": ["'[2024-01-01 00:00,infinity]'"],
    "tstzrange": ["'[2024-01-01 00:00+01, infinity)'", "'(,\"2024-06-01 12:00:00+02\"]'"],
    "int4multirange": ["'{}'", "'{[1,3),[7,9)}'", "'{(,)}'"],
    "int8multirange": ["'{[1,3),[7,9)}'"],
    "nummultirange": ["'{[1.50,2),(3,]}'"],
    "datemultirange": ["'{[2024-01-01,2024-02-01),[2024-03-01,infinity)}'"],
    "tsmultirange": ["'{[2024-01-01 00:00,2024-02-01 00:00)}'"],
    "tstzmultirange": ["'{[2024-01-01 00:00+01,2024-02-01 00:00+01)}'"],
    "floatrange": ["'[-0,Infinity]'", "'[0.1,1e300)'"],
    "floatmultirange": ["'{[0.1,0.2)}'"],
    "textrange": ["textrange('a,b', E'c\"\\\\d', '[]')", "textrange('', NULL)"],
    "textmultirange": ["textmultirange(textrange('a', 'b'))"],
    # Of a database's own
    "mood": ["'so so'", "''", r"""'it''s "odd", \ {x}'""", "'ünï'", "'NULL'", r"E'a\nb'"],
    '"Odd name.with ""quotes"""': ["'A'", "'a'"],
    "pair": ["ROW(1, 'a\"b, (c)')::pair", "ROW(NULL, NULL)::pair", "ROW(1, '')::pair", r"ROW(-1, E'\n\\')::pair"],
    "nested": [
        "ROW(ROW(NULL, NULL)::pair, ARRAY[ROW(1, 'x')::pair, NULL], 'so so', 'NaN')::nested", "ROW(NULL, NULL, NULL, NULL)::nested",
    ],
    "statistic_source": ["ROW(1, NULL)::statistic_source"],
    "positive": ["12.50"], "more_positive": ["12.50"], "moods": ["'{so so,NULL,\"\"}'"], "document": ["'{\"a\": 1.10}'", "'null'"],
    "one_pair": ["ROW(1, NULL)::pair"], "small": ["-32768"], "flag": ["false"],
    "information_schema.cardinal_number": ["0"], "information_schema.character_data": ["'x'"],
    "information_schema.sql_identifier": ["'x'"], "information_schema.time_stamp": ["'2024-01-01 00:00:00+00'"],
    "information_schema.yes_or_no": ["'YES'"],
    # Of the extensions that come with the server
    "hstore": [r"""'"a"=>"1", "b c"=>NULL, "q\"\\"=>""'""", "''"], "ltree": ["'Top.Science'", "''"], "lquery": ["'*.a*@{2,}.!b|c'"],
    "ltxtquery": ["'a & b*@'"], "cube": ["'(1,-2.5),(3,4)'", "'(0)'"], "earth": ["'(6378168,0,0)'"], "seg": ["'1.50 .. ~2.0'", "'<5'"],
    "ean13": ["'4012345678901'"], "isbn13": ["'978-0-393-04002-9'"], "isbn": ["'0-393-04002-X'"], "ismn13": ["'979-0-2600-0043-8'"],
    "ismn": ["'M-2600-0043-8'"], "issn13": ["'977-1436-452-00-8'"], "issn": ["'1436-4522'"], "upc": ["'220356483481'"],
    "query_int": ["'1&(2|!3)'"], "lo": ["4294967295"], "vector": ["'[1,0.1,-1e-30]'"], "halfvec": ["'[1,0.1]'"], "sparsevec": ["'{1:0.5}/5'"],
    "gbtreekey2": [], "gbtreekey4": [], "gbtreekey8": [], "gbtreekey16": [], "gbtreekey32": [], "gbtreekey_var": [], "ghstore": [],
    "gtrgm": [], "intbig_gkey": [], "ltree_gist": [],
}  # fmt: skip

# Types that no column can have, or that are the row types of views and functions of the server and its extensions.
_COVERED_SQL = """
    SELECT pg_catalog.format_type(type.oid, NULL) FROM pg_type AS type LEFT JOIN pg_class AS relation ON relation.oid = type.typrelid
    WHERE type.typtype <> 'p' AND NOT (type.typlen = -1 AND type.typelem <> 0 AND EXISTS (
            SELECT 1 FROM pg_type AS element WHERE element.typarray = type.oid))
        AND (relation.relkind IS NULL OR relation.relnamespace = 'public'::regnamespace AND relation.relkind IN ('c', 'r')
            AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid IN (relation.oid, type.oid) AND deptype = 'e'))
"""
_ARRAYS_SQL = """
    SELECT pg_catalog.format_type(type.typarray, NULL) FROM pg_type AS type WHERE type.oid = %s::regtype AND type.typarray <> 0
"""


def set_up(database: Database) -> None:
    """Installs every extension of the server, and makes the types of the matrix that are a database's own."""
    database.execute(
        """DO $$ DECLARE extension record; BEGIN
            FOR extension IN SELECT name FROM pg_available_extensions LOOP
                EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I CASCADE', extension.name);
            END LOOP; END $$""",
        *SETUP,
    )


def types_of(database: Database) -> set[str]:
    """The types that a column of this server can have, but for arrays."""
    return {name for (name,) in database.execute(_COVERED_SQL)}


def with_arrays(database: Database) -> dict[str, list[str]]:
    """The matrix with an array type for each type that has one, in each shape that arrays come in."""
    whole = dict(MATRIX)
    with psycopg.connect(database.url) as session:
        for kind, values in MATRIX.items():
            row = session.execute(_ARRAYS_SQL, [kind]).fetchone()
            if (
                row is None or row[0] in whole or kind == "moods"
            ):  # a domain over arrays has no arrays of its own
                continue
            few = [value for value in values if "repeat" not in value and "99999999" not in value][:4]
            listed = ", ".join(f"({value})::{kind}" for value in few)
            one = f"({few[0]})::{kind}" if few else f"NULL::{kind}"
            whole[row[0]] = [
                "'{}'", "'{NULL}'",
                *([f"ARRAY[{listed}, NULL]"] if few else []),
                f"ARRAY[ARRAY[{one}, NULL], ARRAY[NULL, {one}]]",
                f"array_fill({one}, ARRAY[2], ARRAY[-3])",
            ]  # fmt: skip
    return whole
