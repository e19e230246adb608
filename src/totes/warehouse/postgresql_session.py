"""What a session of a PostgreSQL warehouse is set to, whatever the role's or the database's own settings are."""

from __future__ import annotations

# A role's or database's own timeouts are meant for people's queries. What a load must not do is keep its locks when its
# runner was stopped half-way: after a while without a statement the server ends the transaction. Not all versions have all.
SET_TIMEOUTS = """SELECT pg_catalog.set_config(timeouts.name, timeouts.value, true) FROM (VALUES
    ('lock_timeout', '60s'), ('idle_in_transaction_session_timeout', '5min'), ('statement_timeout', '0'),
    ('transaction_timeout', '0')) AS timeouts (name, value) JOIN pg_catalog.pg_settings USING (name)"""
# What decides the text forms of values; a role or a database may have other settings of its own.
TEXT_FORMS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
