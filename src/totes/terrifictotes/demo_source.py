"""Fills a PostgreSQL database with TerrificTotes' commercial data, and lets the company trade for another day.

The rows are realistic and reproducible: they depend only on the arguments.
"""

import datetime
import importlib.resources
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from totes.errors import ConfigurationError

ORDERS_MIN = 20


@dataclass(frozen=True)
class TradingDay:
    """What happened in the source on one day. Each new order also has a new transaction and payment."""

    day: datetime.date
    new_order_ids: list[int]
    changed_order_ids: list[int]
    deleted_order_id: int
    new_purchase_order_ids: list[int]
    paid_payment_ids: list[int]
    department_id: int
    department_moved_from: str
    department_moved_to: str
    counterparty_id: int
    counterparty_moved_from_address_id: int
    counterparty_moved_to_address_id: int
    new_currency_code: str


def create(url: str, orders: int, seed: int = 1) -> None:
    """Creates the eleven tables of `totesys` in the schema `public` of an empty database, and fills them.

    Args:
        url: the database, as a user who may create tables.
        orders: how many sales orders; every fourth comes with a purchase order, and each of both with a
            transaction and a payment.
        seed: another number gives different rows of the same kind.
    """
    if orders < ORDERS_MIN:
        raise ConfigurationError(
            f"{orders} orders are too few for a day of trade", hint=f"Ask for {ORDERS_MIN} or more"
        )
    designs = min(max(10, orders // 100), 300)
    with _transaction(url) as connection:
        connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
        for script in ("schema", "company", "orders", "keys"):
            connection.execute(_script(script, orders=orders, seed=seed, designs=designs))


def trade(url: str) -> TradingDay:
    """Lets the company trade for one more day, in one transaction, and returns what happened.

    The day is 2026-11-02, or the day after the newest order if that is later.
    """
    with _transaction(url) as connection, connection.cursor(row_factory=class_row(TradingDay)) as cursor:
        cursor.execute(_script("trading_day"))
        cursor.set_result(-1)
        day = cursor.fetchone()
        if day is None:  # the transaction is then rolled back
            raise ConfigurationError(
                "the company has used every currency it knows and cannot trade for another day",
                hint="Create a new source",
            )
    return day


def create_reader(admin_url: str, database: str, role: str, password: str) -> None:
    """Creates a role that can connect to `database` and select from its schema `public`, and no more.

    Args:
        admin_url: any database of the server, as a superuser.
        database: the database to be read. PostgreSQL's default grants to PUBLIC are revoked there.
        role: the role's name.
        password: its password; only the hash is sent to the server.
    """
    with _transaction(admin_url, database) as connection:
        hashed = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        names = {"role": sql.Identifier(role), "database": sql.Identifier(database)}
        for statement in (
            sql.SQL("CREATE ROLE {role} LOGIN PASSWORD {hash}").format(**names, hash=hashed.decode()),
            sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names),
            sql.SQL("GRANT CONNECT ON DATABASE {database} TO {role}").format(**names),
            sql.SQL("GRANT USAGE ON SCHEMA public TO {role}").format(**names),
            sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}").format(**names),
            sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}").format(
                **names
            ),
        ):
            connection.execute(statement)


@contextmanager
def _transaction(url: str, database: str | None = None) -> Iterator[psycopg.Connection]:
    """One transaction, committed at the end; if interrupted, the connection is closed, which rolls it back.

    psycopg's own context would send a rollback, which fails within a statement and prints a warning.
    """
    with closing(psycopg.connect(url, dbname=database)) as connection:
        yield connection
        connection.commit()


def _script(name: str, **values: int) -> sql.Composed:
    """A file of `source/`, with each `{name}` in it replaced by the value's literal."""
    text = (
        importlib.resources.files("totes.terrifictotes").joinpath("source", f"{name}.sql").read_text("utf-8")
    )
    return sql.SQL(text).format(**values)
