"""A model means what DuckDB says its text means: what reaches the engine is what its author wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from totes import engine
from totes.errors import ModelError, ModelFailed
from totes.processing.bound.binding import bind_models
from totes.processing.bound.relation import Relation, RelationColumn, Relations
from totes.star.functions import catalog
from totes.star.project import Project, load_project

SOURCE = {
    "id": ("BIGINT", "INTEGER", "1"),
    "i": ("BIGINT", "INTEGER", "7"),
    "k": ("BIGINT", "INTEGER", "2"),
    "n": ("VARCHAR", "DECIMAL(10, 2)", "12.50"),
    "f": ("DOUBLE", "DOUBLE", "0.1"),
    "b": ("BOOLEAN", "BOOLEAN", "true"),
    "v": ("VARCHAR", "VARCHAR", "Hällo, World"),
    "born": ("VARCHAR", "DATE", "2000-03-05"),
    "ts": ("VARCHAR", "TIMESTAMP", "2001-02-03 04:05:06.789"),
    "tz": ("VARCHAR", "TIMESTAMPTZ", "2001-02-03 04:05:06+00"),
    "t": ("VARCHAR", "TIME", "04:05:06"),
    "j": ("VARCHAR", "JSON", '{"a": {"b": "c"}, "n": [1, 2], "s": "x"}'),
}
COLUMNS = tuple(RelationColumn(name, raw, typed) for name, (raw, typed, _) in SOURCE.items())
PEOPLE = Relation("people", COLUMNS, ("id",), is_source=True)
TYPED = ", ".join(
    f"{engine.text(value)}::{typed} AS {engine.name(name)}" for name, (_, typed, value) in SOURCE.items()
)
RAW = ", ".join(
    f"{engine.text(value)}::{raw} AS {engine.name(name)}" for name, (raw, _, value) in SOURCE.items()
)


def project_of(folder: Path, query: str, columns: str = "id INTEGER PRIMARY KEY, r VARCHAR") -> Project:
    (folder / "models").mkdir(exist_ok=True)
    (folder / "models" / "x.sql").write_bytes(f"CREATE TABLE x ({columns}) AS\n{query}".encode())
    return load_project("test", folder)


EXPRESSIONS = [
    "i / k", "i // k", "i % k", "i ^ k", "i ** k", "-i", "@i", "~i", "i & k", "i << k", "n / k", "n * n",
    "7/2", "1e3", "1_000", "1.10", "99999999999999999999", "e'a\\nb'", "$$it's$$", "''''", "'a--b'", "NULL",
    "v || 'x'", "v || NULL", "v[1]", "v[2:3]", "v[-3:]", "substring(v, 2, 3)", "substring(v from 2 for 3)",
    "substr(v, -3)", "left(v, 2)", "position('l' in v)", "strpos(v, 'l')", "trim(both 'H' from v)", "v LIKE 'H%'",
    "v ILIKE 'h%'", "v SIMILAR TO 'H.*'", "v ~ 'H'", "v ~ 'H.*'", "v !~ 'H'", "v GLOB 'H*'", "v NOT LIKE 'x'",
    "regexp_matches(v, 'l+')", "regexp_replace(v, 'l', 'L')", "regexp_replace(v, 'l', 'L', 'g')",
    "regexp_extract(v, '(l+)(o)', 2)", "regexp_split_to_array(v, ',')", "split_part(v, ',', 1)",
    "string_split(v, ',')", "str_split(v, 'l')", "format('{} {}', v, i)", "printf('%d', i)", "concat(v, NULL, i)",
    "concat_ws('-', v, NULL, i)", "lpad(v, 20, '*')", "upper(v)", "ascii(v)", "chr(65)", "md5(v)", "sha256(v)",
    "levenshtein(v, 'x')", "reverse(v)", "length(v)", "strlen(v)", "bit_length(v)", "unicode(v)", "v COLLATE nocase",
    "encode(v)", "decode(encode(v))", "base64(encode(v))", "hex(i)", "to_hex(i)", "bin(i)",
    "born + 1", "born - 1", "born - DATE '1999-01-01'", "born + INTERVAL 3 DAY", "born + INTERVAL '3 days'",
    "born + INTERVAL (i) MONTH", "ts + to_days(i)", "date_trunc('month', born)", "date_trunc('hour', ts)",
    "datetrunc('year', tz)", "year(born)", "month(born)", "week(born)", "dayofweek(born)", "isodow(born)",
    "weekday(born)", "yearweek(born)", "quarter(born)", "dayname(born)", "monthname(born)", "last_day(born)",
    "extract(year FROM born)", "extract(epoch FROM ts)", "date_part('doy', born)", "date_part(['year', 'day'], born)",
    "date_diff('day', born, ts)", "datediff('month', born, ts)", "date_sub('month', born, ts)", "age(ts, born)",
    "strftime(born, '%Y-%m')", "strftime(ts, '%d/%m/%y %H')", "strptime('05/03/2000', '%d/%m/%Y')",
    "try_strptime('x', '%d')", "make_date(2000, 1, 2)", "make_timestamp(2000, 1, 2, 3, 4, 5.5)", "make_time(1, 2, 3)",
    "epoch(ts)", "epoch_ms(ts)", "epoch_ms(1000)", "to_timestamp(1000)", "time_bucket(INTERVAL 1 WEEK, born)",
    "tz AT TIME ZONE 'Europe/London'", "ts AT TIME ZONE 'Europe/London'", "tz::DATE", "tz::VARCHAR", "ts::TIME", "t::VARCHAR",
    "date_add(born, INTERVAL 1 MONTH)", "century(born)", "era(born)", "julian(born)", "born BETWEEN '2000-01-01' AND ts",
    "j->'a'", "j->>'a'", "j->'a'->>'b'", "j->>'$.a.b'", "json_extract(j, '$.a')", "json_extract_string(j, '$.a.b')",
    "json_extract_path_text(j, 'a')", "j->'n'->0", "json_array_length(j, '$.n')", "json_type(j, 'a')", "json_keys(j)",
    "j->>['a', 's']", "json_valid(v)", "json_object('a', i)", "json_array(i, v)", "to_json(v)", "coalesce(j->>'q', 'none')",
    "coalesce(j->'q', j->'a')", "upper(j->>'s')", "CAST(j->>'$.n[0]' AS INTEGER) + 1",
    "i::NUMERIC", "CAST(f AS NUMERIC)", "n::NUMERIC(6, 1)", "f::DECIMAL(4, 2)", "n::INTEGER", "i::FLOAT", "TRY_CAST(v AS INTEGER)",
    "i::VARCHAR(3)", "'12'::INT2", "'1'::BOOL", "round(n)", "round(n, 1)", "round(f::DOUBLE, 1)", "trunc(f)", "ceil(n)",
    "floor(n)", "sqrt(i)", "ln(i)", "log(i)", "log10(i)", "log2(i)", "power(i, 2)", "mod(i, 2)", "fdiv(i, 2)", "sign(i)",
    "gcd(i, 14)", "xor(i, 2)", "bit_count(i)", "even(f)", "greatest(i, k)", "least(i, NULL, k)",
    "CASE i WHEN 7 THEN 'a' ELSE 'b' END", "CASE WHEN b THEN v END", "if(b, 1, 2)", "ifnull(NULL, i)", "nullif(i, 7)",
    "coalesce(NULL, v)", "i IS DISTINCT FROM k", "i IS NOT DISTINCT FROM NULL", "b IS TRUE", "NOT b", "b AND NOT i = k OR NULL",
    "i IN (1, 7)", "i NOT IN (1, 2)", "i IN [1, 7]", "i = 7 IS NULL", "v > 'a' COLLATE nocase", "i BETWEEN 1 AND 8 AND b",
    "[i, k]", "[i, k][1]", "list_transform([i, k], lambda x: x + id)", "list_filter([i, k], lambda x: x > 2)",
    "[x * i for x in [1, 2] if x > 1]", "list_sort([i, k])", "list_contains([i], 7)", "array_to_string([v, 'b'], '-')",
    "{'a': i}", "{'a': i}.a", "struct_pack(a := i)", "MAP {'a': i}['a']", "row(i, k)", "len([i])", "list_sum([i, k])",
    "list_aggregate([i, k], 'max')", "list_value(i, k)", "range(k)", "generate_series(1, k)", "hash(v)", "typeof(n)", "pi()",
    "(((i)))", "i /* why */ + -- so\n  k", "people.\"i\"", "PEOPLE.I", "\"people\" . i + 1",
]  # fmt: skip


def test_expressions_give_what_duckdb_gives_for_their_text(tmp_path: Path) -> None:
    columns = "".join(f",\n    r{number} VARCHAR" for number in range(len(EXPRESSIONS)))
    listed = "".join(f",\n    {one} AS r{number}" for number, one in enumerate(EXPRESSIONS))
    query = f"SELECT id{listed}\nFROM people"
    [model] = project_of(tmp_path, query, f"id INTEGER PRIMARY KEY{columns}").models
    [bound] = bind_models((model,), Relations({"people": PEOPLE}, {}))
    with engine.connect(None, memory="500MB") as connection:
        connection.execute(f"CREATE TABLE raw AS SELECT {RAW}, NULL::TIMESTAMP AS _at")
        connection.execute(f"CREATE TABLE people AS SELECT {TYPED}")
        [given] = connection.execute(bound.sql(lambda leaf: "raw")).fetchall()
        [right] = connection.execute(f"SELECT COLUMNS(*)::VARCHAR FROM ({query})").fetchall()
    problem = given[len(EXPRESSIONS) + 1]
    assert problem is None
    for number, expression in enumerate(EXPRESSIONS, start=1):
        assert (expression, given[number]) == (expression, right[number])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("to_char(born, 'YYYY-MM')", "x.sql, line 4: DuckDB has no function to_char"),
        ("make_interval(days => i)", "line 4: DuckDB has no function make_interval"),
        ("date_format(born, '%Y')", "DuckDB has no function date_format"),
        ("age(born)", "line 4: AGE cannot be maintained incrementally: its value would change"),
        ("v || AGE(ts)::VARCHAR", "AGE cannot be maintained"),
        ("ago(INTERVAL 1 HOUR)", "AGO cannot be maintained"),
        ("localtime", "LOCALTIME cannot be maintained"),
        ("Current_Timestamp", "CURRENT_TIMESTAMP cannot be maintained"),
        ("today()", "TODAY cannot be maintained"),
        ("current_setting('TimeZone')", "CURRENT_SETTING cannot be maintained"),
        ("getvariable('x')", "GETVARIABLE cannot be maintained"),
        ("current_database()", "CURRENT_DATABASE cannot be maintained"),
        ("list_transform([1], lambda x: x + random())", "RANDOM cannot be maintained"),
        ("CASE WHEN b THEN uuid() END", "UUID cannot be maintained"),
        ("nextval('s')", "NEXTVAL cannot be maintained"),
        ("txid_current()", "TXID_CURRENT cannot be maintained"),
        ("pg_postmaster_start_time()", "PG_POSTMASTER_START_TIME cannot be maintained"),
        ("geometric_mean(i)", r"the aggregate GEOMETRIC_MEAN\(\) cannot be maintained"),
        ("v.lower()", "lower is called as a method"),
        ("#2", "not supported|not valid SQL"),
        ("i = ANY([1,\n2])", "line 4: a subquery is not supported"),
        ("COLUMNS('i')", "not supported|cannot be maintained"),
    ],
)
def test_what_duckdb_refuses_or_what_changes_by_itself_is_refused(
    expression: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        project_of(tmp_path, f"SELECT\n    id,\n    {expression} AS r\nFROM people")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("json_extract_path_text(j, 'a', 'b')", "line 3: DuckDB refuses it"),
        ("strftime(i, '%Y')", "line 3: DuckDB refuses it"),
        ("i || born + 'x'", "line 3: DuckDB refuses it"),
        ("upper(v, v)", "line 3: DuckDB refuses it: .*upper"),
        ("nothing", "there is no column nothing of people"),
    ],
)
def test_what_duckdb_refuses_for_its_types_is_refused_with_the_line(
    expression: str, message: str, tmp_path: Path
) -> None:
    project = project_of(tmp_path, f"SELECT\n    id, {expression} AS r\nFROM people")
    with pytest.raises(ModelFailed, match=message):
        bind_models(project.models, Relations({"people": PEOPLE}, {}))


def test_what_subqueries_pass_on_arrives_in_the_sources_own_text(tmp_path: Path) -> None:
    inner = "SELECT p.id, p.born FROM (SELECT id, born FROM people) AS p"
    query = f"SELECT q.id, q.born AS r, q.born AS s FROM ({inner}) AS q"
    [model] = project_of(tmp_path, query, "id INTEGER PRIMARY KEY, r VARCHAR, s VARCHAR").models
    [bound] = bind_models((model,), Relations({"people": PEOPLE}, {}))
    with engine.connect(None, memory="500MB") as connection:
        connection.execute(f"CREATE TABLE raw AS SELECT {RAW}, NULL::TIMESTAMP AS _at")
        connection.execute("UPDATE raw SET born = '0044-03-15 BC'")
        [given] = connection.execute(bound.sql(lambda leaf: "raw")).fetchall()
    assert given[:3] == (1, "0044-03-15 BC", "0044-03-15 BC")


def test_tables_whose_names_differ_in_case_only_are_not_mixed_up(tmp_path: Path) -> None:
    upper = Relation("PEOPLE", COLUMNS, ("id",), is_source=True)
    both = 'SELECT one.id, other.v AS r FROM people AS one JOIN "PEOPLE" AS other USING (id)'
    models = project_of(tmp_path, both).models
    with pytest.raises(ModelFailed, match="people and PEOPLE differ in case only"):
        bind_models(models, Relations({"people": PEOPLE, "PEOPLE": upper}, {}))
    [alone] = bind_models(models, Relations({"people": PEOPLE}, {}))
    assert [leaf.relation.name for leaf in alone.leaves] == ["people", "people"]


def test_no_other_function_changes_with_the_clock(tmp_path: Path) -> None:
    """Calls all functions of the catalog at two times, more than a year apart."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build another clock with")
    clock, script = tmp_path / "clock.so", Path(__file__).parent / "every_function.py"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", clock, Path(__file__).parent / "clock.c", "-ldl"], check=True
    )
    values = [
        json.loads(
            subprocess.run(
                [sys.executable, script],
                check=True,
                capture_output=True,
                env={**os.environ, "LD_PRELOAD": str(clock), "CLOCK_AHEAD": ahead},
            ).stdout
        )
        for ahead in ("0", "40000000")
    ]
    assert values[0]["now"] != values[1]["now"]
    calls = values[0].keys() - {"now"}
    assert sum(not str(values[0][call]).startswith("failed") for call in calls) > 1000
    changed = [json.loads(call) for call in calls if values[0][call] != values[1][call]]
    assert [(name, number) for name, number, _ in changed if not catalog()[name].varies(number)] == []
    assert ("age", 1) in {(name, number) for name, number, _ in changed}
