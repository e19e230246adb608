"""A PostgreSQL warehouse behind a connection pool: it is loaded, and nothing stays in the pool's sessions."""

from __future__ import annotations

from typing import Any

from tests.conftest import Database, rows_of, run_cleanly
from tests.pooler import pooler
from totes.terrifictotes.server import LocalServer

MODEL = {
    "fact_t": "CREATE TABLE fact_t (t_record BIGINT PRIMARY KEY, id INTEGER NOT NULL, v VARCHAR) AS SELECT id, v FROM t"
}


def test_loads_leave_the_sessions_of_a_pool_as_they_were(
    server: LocalServer, database: Database, new_database: Any, make_pipeline: Any, write_project: Any
) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    warehouse = new_database()
    with pooler(server, "transaction") as pool:
        before = pool.sessions(warehouse.name)
        pipeline = make_pipeline(database.url, pool.url(warehouse.name), project=write_project(MODEL))
        for number in range(3):
            run_cleanly(pipeline)
            database.execute(f"UPDATE t SET v = '{number}' WHERE id = 1")
        held = {tuple(each) for each in pool.sessions(warehouse.name).values()}
        assert held == {tuple(each) for each in before.values()}
        assert rows_of(pipeline, "SELECT count(*) FROM fact_t") == [(4,)]
