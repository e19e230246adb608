"""What a column is for, as far as its name and type say: a moment, a measure, a name for people, bookkeeping, a secret."""

from __future__ import annotations

import re

from totes.scaffold.catalog import Column, Table
from totes.scaffold.words import singular, snake, words

_CREATED = {
    "created", "created_at", "created_on", "created_date", "created_time", "create_date", "create_time", "creation_date",
    "date_created", "inserted_at", "insert_date", "date_added", "added_at", "record_created",
}  # fmt: skip
_CHANGED = {
    "updated", "updated_at", "updated_on", "updated_date", "updated_time", "update_date", "update_time", "date_updated",
    "last_update", "last_updated", "last_updated_at", "modified", "modified_at", "modified_on", "modified_date",
    "modification_date", "date_modified", "last_modified", "last_modified_at", "last_modified_date", "changed_at",
}  # fmt: skip
_WRITERS = {
    "created_by", "created_by_id", "updated_by", "updated_by_id", "modified_by", "modified_by_id", "last_modified_by",
    "lock_version", "row_version", "rowguid",
}  # fmt: skip
_NAMES = (
    ("first_name", "last_name"), ("given_name", "family_name"), ("name",), ("title",), ("full_name",), ("display_name",),
    ("company_name",), ("label",), ("username",), ("user_name",), ("login",), ("email",), ("email_address",), ("code",),
    ("slug",),
)  # fmt: skip
_PEOPLE = {
    "birth_date", "date_of_birth", "family_name", "first_name", "full_name", "given_name", "last_name", "username",
    "encrypted_password", "password", "password_digest", "password_hash",
}  # fmt: skip
_MEASURES = {
    "amount", "balance", "cost", "count", "discount", "duration", "fee", "freight", "hours", "minutes", "points", "price",
    "quantity", "qty", "rating", "score", "seconds", "subtotal", "tax", "total", "units", "value", "volume", "weight", "cents",
}  # fmt: skip
# Words of dates that say how long a row holds, not when something happened.
_LIVES = {
    "archived", "available", "confirmed", "deactivated", "deleted", "disabled", "discarded", "discontinued", "effective",
    "expired", "expires", "expiry", "last", "locked", "removed", "retired", "valid", "verified",
}  # fmt: skip
_SECRET_WORDS = {
    "cvc", "cvv", "hotp", "otp", "passcode", "passphrase", "passwd", "password", "passwords", "pwd", "salt", "secret",
    "secrets", "token", "tokens", "totp",
}  # fmt: skip
_SECRET_PHRASES = re.compile(
    r"(^|_)(api_?key|access_key|private_key|secret_key|session_key|session_data|signing_key|encryption_key"
    r"|(backup|recovery)_codes?|password(hash|digest|salt)?|pass_?hash|pin_hash|credit_card_number|card_number)(_|$)"
)
# The last word of a name that speaks of a secret and is none itself.
_ABOUT_SECRETS = {
    "algorithm", "at", "count", "date", "expiry", "expires", "id", "kind", "length", "name", "on", "status", "strategy", "type",
}  # fmt: skip
_CARRIERS = {"digest", "hash", "key", "value", "data", "code"}
_MOMENTS = ("date", "timestamp without time zone", "timestamp with time zone")


def shown_type(column: Column) -> str:
    """PostgreSQL's name of a column's type, without the schema that it may be in."""
    return re.sub(r'^("(?:[^"]|"")+"|\w+)\.', "", column.type)


def base_type(column: Column) -> str:
    """PostgreSQL's name of a column's type, without the schema that it may be in, and without modifiers."""
    return re.sub(r"\(.*?\)", "", shown_type(column)).strip()


def is_moment(column: Column) -> bool:
    """Whether a column is a date or a timestamp."""
    return base_type(column) in _MOMENTS


def is_created(column: Column) -> bool:
    """Whether it says when the row was made."""
    return snake(column.name) in _CREATED and is_moment(column)


def is_changed(column: Column) -> bool:
    """Whether it says when the row was last changed."""
    return snake(column.name) in _CHANGED and is_moment(column)


def is_bookkeeping(column: Column) -> bool:
    """Whether it says when, by whom or how often the row was written, and nothing of what it stands for."""
    return is_created(column) or is_changed(column) or snake(column.name) in _WRITERS


def is_event_date(column: Column) -> bool:
    """Whether it says when something happened or is to happen, other than the writing of the row."""
    return is_moment(column) and not is_bookkeeping(column)


def is_happening(column: Column) -> bool:
    """Whether it says when something happened, and not from when to when the row itself holds."""
    return is_event_date(column) and not set(words(column.name)) & _LIVES


def is_measure(column: Column) -> bool:
    """Whether it holds an amount of something."""
    if base_type(column) in ("numeric", "real", "double precision", "money", "interval"):
        return True
    return base_type(column) in ("smallint", "integer", "bigint") and bool(
        _MEASURES & set(words(column.name))
    )


def is_secret(table: Table, column: Column) -> bool:
    """Whether a column looks like one that holds passwords, tokens or keys, or what they are checked with."""
    if re.match(r"boolean|smallint|integer|bigint|numeric|real|double|date|time|interval", column.type):
        return False
    name = snake(column.name)
    own = name.split("_")
    if own[-1] in _ABOUT_SECRETS:
        return False
    if own[-1] in _CARRIERS and set(own) <= _CARRIERS and set(words(table.name)[-1:]) & _SECRET_WORDS:
        return True
    return bool(set(own) & _SECRET_WORDS or _SECRET_PHRASES.search(name))


def is_generated_text(column: Column) -> bool:
    """Whether it is made for searching, from other columns."""
    return column.type == "tsvector"


def name_columns(table: Table) -> tuple[Column, ...]:
    """The columns that people know a row by; none where it has no name."""
    own = singular(snake(table.name))
    last = own.rpartition("_")[2]
    by_name = {
        snake(column.name): column for column in reversed(table.columns) if not is_secret(table, column)
    }
    wanted = (
        *_NAMES[:2], (f"{own}_name",), (f"{last}_name",), (f"{own}_title",), (f"{last}_title",), *_NAMES[2:], (own,), (last,),
    )  # fmt: skip
    for names in wanted:
        found = [by_name[name] for name in names if name in by_name]
        if len(found) == len(names) and all(_is_text(column) for column in found):
            return tuple(found)
    return ()


def is_named(table: Table) -> bool:
    """Whether its rows have names of their own, as things do and events do not."""
    own = singular(snake(table.name))
    names = {"name", "title", "sku", f"{own}_name", f"{own}_title", own, own.rpartition("_")[2]}
    return is_of_people(table) or any(snake(one.name) in names and _is_text(one) for one in table.columns)


def is_of_people(table: Table) -> bool:
    """Whether its rows are people."""
    return bool(_PEOPLE & {snake(column.name) for column in table.columns})


def _is_text(column: Column) -> bool:
    return base_type(column) in ("text", "character varying", "character", "bpchar", "citext") or bool(
        column.entry.labels
    )
