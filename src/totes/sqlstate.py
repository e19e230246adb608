"""Next steps for errors of PostgreSQL, in one place for everything that talks to a server.

An error of a statement has an SQLSTATE. An error of connecting has none, since libpq does not report it: its English text is
matched, and in another language the hint is a general one.
"""

from __future__ import annotations

import re

from totes.urls import ENCODE

# Texts of failed connections, and what to do; `{url}` is the name of the setting.
_CONNECTING = (
    (
        r"percent-encod|invalid URI|invalid port number|invalid integer value|missing \"=\" after|unterminated quoted string"
        r"|missing key/value separator|extra key/value separator|end of string reached when looking for|forbidden value %00",
        "Write {url} as postgresql://user:password@host:port/database, in user and password " + ENCODE,
    ),
    (
        r"could not translate host name|failed to resolve|Name or service not known|nodename nor servname",
        "No such host is known: check the host in {url}, and this machine's DNS",
    ),
    (
        r"does not support SSL, but SSL was required|server refused SSL",
        "Turn on TLS at the server (ssl = on). To send password and rows in the clear on purpose, add sslmode=disable to {url}",
    ),
    (
        r"certificate verify failed|does not match host name|root certificate|sslrootcert|private key file|SSL error|certificate",
        "Check sslmode, sslrootcert, sslcert and sslkey in {url}, and the server's certificate: docs/how-to/tls.md",
    ),
    (r'database "[^"]*" does not exist', "Check the database's name in {url}"),
    (
        r"password authentication failed|SASL authentication failed|no password supplied|authentication failed"
        r'|role "[^"]*" does not exist|no such user',
        "Check user and password in {url}",
    ),
    (r"not permitted to log in", "As a superuser: ALTER ROLE … LOGIN, for the role of {url}"),
    (
        r"permission denied for database",
        "As the database's owner: GRANT CONNECT ON DATABASE … TO the role of {url}",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "The server's pg_hba.conf has to let this machine, role and database in, with or without TLS as in {url}",
    ),
    (
        r"too many clients|too many connections|connection slots are reserved|no more connections allowed",
        "All of the server's connections are in use: wait until some are free, or raise max_connections"
        " or the role's CONNECTION LIMIT",
    ),
    (
        r"query_wait_timeout|client_login_timeout",
        "The pool has no connection left: a batch needs up to five at once; raise the pooler's pool_size",
    ),
    (
        r"unsupported startup parameter",
        "The connection pooler does not take this parameter: remove it from {url}, set it for the role"
        " (ALTER ROLE … SET), or add it to the pooler's ignore_startup_parameters",
    ),
    (
        r"starting up|shutting down|in recovery mode|not yet accepting connections|hot standby mode is disabled",
        "The server is starting or stopping; the next run finds it again once it is up",
    ),
    (
        r"Connection refused|No such file or directory",
        "Nothing listens there: check host and port in {url}, and that the server is up",
    ),
    (
        r"timeout expired|timed out|No route to host|Network is unreachable",
        "Nothing answers there: check host and port in {url}, that the server is up, and the firewalls on the way",
    ),
    (
        r"transaction blocks not allowed in statement pooling mode",
        "A batch is one transaction: give the pooler's database pool_mode = transaction or session, or name the server itself",
    ),
)
# A server's message about a snapshot that another server exported, or a session that has ended; 17 and later word it differently.
_ELSEWHERE = re.compile(
    r"invalid snapshot identifier|snapshot \"[^\"]*\" does not exist|source transaction is not running"
)
# The next step by SQLSTATE.
_STATEMENTS = {
    "08P01": "The connection pooler or the server does not speak the protocol as expected: name the server itself in {url}",
    "22021": "Text of the table is not valid in the database's encoding: find the rows, and correct them",
    "22P05": "Text of the table cannot be written as UTF-8: find the rows, and correct them",
    "25006": "Reading it writes something, and a batch only reads: leave it out with source.exclude",
    "25P03": "The run was stopped for so long that the server ended its transaction: run it again",
    "25P04": "transaction_timeout ended the batch: ALTER ROLE … SET transaction_timeout = 0, for the role of {url}",
    "3D000": "Check the database's name in {url}",
    "40P01": "Sessions waited for one another, and the server ended this one's transaction: run it again",
    "40001": "A standby had to replay a change of what was being read: run it again. Where that is frequent, set"
    " hot_standby_feedback = on there, or raise max_standby_streaming_delay",
    "42501": "GRANT what the message names to the role of {url}",
    "42883": "A function that its query calls without a schema is not found: name it with its schema there",
    "42P01": "What its query reads no longer exists: create it again, or leave it out with source.exclude",
    "53100": "The server's disk is full, or temp_file_limit too low: make room there",
    "53200": "The server has no memory or no locks left: raise max_locks_per_transaction there, or name fewer tables in"
    " source.tables",
    "53300": "All of the server's connections are in use: wait until some are free, or raise max_connections or the role's"
    " CONNECTION LIMIT",
    "53400": "A limit of the server was reached: raise the one that the message names",
    "55000": "REFRESH it if it is a materialized view without data, or leave it out with source.exclude",
    "55P03": "A schema change or another session holds it; the next run captures it once that is over. To wait longer,"
    " raise source.lock_timeout",
    "57014": "Somebody or a timeout cancelled the statement: run it again",
    "57P01": "The server was stopped, or an administrator ended the session: run it again once it is up",
    "57P02": "The server crashed: run it again once it is up",
    "57P03": "The server is starting or stopping: run it again once it is up",
    "57P05": "idle_session_timeout ended the session: ALTER ROLE … SET idle_session_timeout = 0, for the role of {url}",
    "58030": "The server could not read its disk: look into its log",
    "72000": "old_snapshot_threshold ended the batch: set it to -1 at the server",
    "XX001": "The server found damaged data: look into its log, check with pg_amcheck, and restore the table",
    "XX002": "The server found a damaged index: REINDEX it",
}
# The next step by class of SQLSTATE, if the code itself is not known.
_CLASSES = {
    "22": "Its query fails for some of its rows: correct the query or the rows",
    "28": "Check user and password in {url}",
    "57": "The server is not available: run it again once it is",
    "HV": "The foreign server behind it does not answer as it should: look at that one",
}
_EVERYTHING = (
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "25P03",
    "25P04",
    "53200",
    "53300",
    "40P01",
    "40001",
    "25P02",
)


def next_step(
    error: Exception, setting: str = "source.url", *, otherwise: str = "Check {url} and that the server is up"
) -> str:
    """What to do about an error of psycopg or ADBC, for a person.

    Args:
        error: the error.
        setting: the setting that names the server.
        otherwise: the step if the error is not known; `{url}` stands for the setting.
    """
    state, text = sqlstate(error), str(error)
    for pattern, step in _CONNECTING if state in (None, "08P01", "22023", "0A000") else ():
        if re.search(pattern, text):
            return step.replace("{url}", setting)
    if _ELSEWHERE.search(text):
        otherwise = (
            "The batch's connections reached different servers, or the first one was lost: name one server in {url},"
            " not an address with several behind it"
        )
    if state:
        otherwise = _STATEMENTS.get(state) or _CLASSES.get(state[:2]) or otherwise
    return otherwise.replace("{url}", setting)


def sqlstate(error: Exception) -> str | None:
    """The SQLSTATE of an error of psycopg or ADBC, if it has one."""
    state = getattr(error, "sqlstate", None)
    return str(state) if state else None


def concerns_all(error: Exception) -> bool:
    """Whether an error is about the server or the session, rather than the table that a statement reads.

    A class 08 error from a server is about its own connection to a foreign server.
    """
    state = sqlstate(error)
    return state is None or state in _EVERYTHING
