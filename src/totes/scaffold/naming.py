"""What the rows of a table are called, and so its model: `clinic_pets` holds pets, and becomes `dim_pet`. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from totes.scaffold.catalog import Reference, Table
from totes.scaffold.draft import unused
from totes.scaffold.kind import Judgement, Kind
from totes.scaffold.words import singular, snake, words
from totes.star.declaration import NAME_BYTES_MAX

CALENDAR_MODEL = "dim_date"
_NAME_BYTES_MAX = NAME_BYTES_MAX - len("_current")
_KEY_ENDINGS = re.compile(r"_(id|ids|code|key|no|number|uuid|guid|fk|ref|ptr|ptr_id)$")
_KINDS = ("dim_", "fact_", "bridge_", "tbl_")


def role(reference: Reference, thing: str) -> str:
    """What a row is to the one that refers to it: `ship_address_id` leads to a `ship_address`.

    Args:
        reference: the reference.
        thing: what a row of the other table is called.
    """
    if len(reference.columns) != 1:
        return thing
    own = _KEY_ENDINGS.sub("", snake(reference.columns[0]))
    return own if own and own != "id" else thing


def things(tables: dict[str, Table], others: Iterable[str] = ()) -> dict[str, str]:
    """What a row of each table is called, in one word or several that underscores join.

    Args:
        tables: the tables.
        others: names of tables beside them.
    """
    full = {name: singular(_bare(name)) or "unnamed" for name in tables}
    prefixes = _prefixes(tables, full, Counter(words(name)[0] for name in (*tables, *others)))
    short = {name: _without(full[name], prefixes) for name in tables}
    often = Counter(short.values())
    return {name: short[name] if often[short[name]] == 1 else full[name] for name in tables}


def model_names(tables: list[str], called: dict[str, str], kinds: dict[str, Judgement]) -> dict[str, str]:
    """A name for the model of each of these tables, after what it is in the star and what its rows are called."""
    wanted: dict[str, list[str]] = {}
    for table in tables:
        kind = kinds[table].kind
        one = "_".join(map(singular, called[table].split("_"))) if kind is Kind.BRIDGE else called[table]
        wanted.setdefault(f"{kind.value}_{one}", []).append(table)
    names: dict[str, str] = {}
    existing = {CALENDAR_MODEL, f"{CALENDAR_MODEL}_current"}
    for name, claimants in wanted.items():
        for table in claimants:
            plain = f"{kinds[table].kind.value}_{_bare(table) or 'unnamed'}"
            chosen = unused(name if len(claimants) == 1 else plain, existing, _NAME_BYTES_MAX)
            existing |= {chosen, f"{chosen}_current", chosen.removesuffix("_current")}
            names[table] = chosen
    return names


def _bare(table: str) -> str:
    name = snake(table)
    for prefix in _KINDS:
        name = name.removeprefix(prefix)
    return name


def _prefixes(tables: dict[str, Table], full: dict[str, str], often: Counter[str]) -> set[str]:
    """The first words of names that are an application's, as those say that refer to `clinic_pet` by a `pet_id`."""
    spoken = set()
    for table in tables.values():
        for reference in table.references:
            first, _, rest = full.get(reference.table, "").partition("_")
            if rest and role(reference, "") == rest:
                spoken.add(first)
    return {word for word in spoken if often[word] > 1 and word not in full.values()}


def _without(name: str, prefixes: set[str]) -> str:
    first, _, rest = name.partition("_")
    return rest if rest and first in prefixes else name
