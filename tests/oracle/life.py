"""A long life of the shop: many batches, and what takes many to come about.

Rows that were deleted come back as they were, also when the caches were lost in between; bad values come and go; rows that
others join change while these do not; and no secret of the settings is ever in the lake, in a cache or beside them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from hypothesis.stateful import invariant

from tests.oracle.machine import ShopMachine, tally
from tests.oracle.shop import TABLES, Key, Values

# A secret within another: of the longer one nothing may remain either.
SECRETS = ("sesame-4711", "open-sesame-4711-z")
_AMOUNT, _REGION = 3, 2  # where they stand in a line and in a customer
LIFE_STEPS = 3


class LongLife(ShopMachine):
    """A shop that is open for long."""

    cycle_steps: ClassVar[int] = LIFE_STEPS
    source_parameters: ClassVar[str] = (
        f"?sslpassword={SECRETS[0]}&application_name=totes&sslkey=none&passfile=none"
    )

    def __init__(self) -> None:
        super().__init__()
        self.lived: dict[str, dict[Key, Values]] = {table: {} for table in TABLES}

    @invariant()
    def life(self) -> None:
        """Between the steps something of a long life happens, in turn: Hypothesis leaves out some of its rules in each machine."""
        if not self.moves:
            return
        for table in TABLES:  # what rows were, the last time that they were there
            self.lived[table] |= {key: row.values for key, row in self.source.committed[table].items()}
        turn, is_due = divmod(self.steps, LIFE_STEPS)
        if is_due == 0:
            number = turn // len(EVENTS)
            EVENTS[turn % len(EVENTS)](self, number)

    def spoil(self, number: int) -> None:
        """An amount becomes bad, and nothing else of its line."""
        tally["spoilt"] += self.change("line", number, _AMOUNT, ("many", "4.001")[number % 2])

    def put_right(self, number: int) -> None:
        """The same amount becomes good again."""
        tally["put right"] += self.change("line", number, _AMOUNT, ("1.50", "2")[number % 2])

    def move_a_customer(self, number: int) -> None:
        """The lines of a customer have another region, two joins away."""
        tally["joined rows changed"] += self.change("customer", number, _REGION, ("a", "b", None)[number % 3])

    def rename_a_region(self, number: int) -> None:
        """All lines of all customers of a region show another name."""
        tally["joined rows changed"] += self.change("region", number, 1, f"the {number}th")

    def take_away(self, number: int) -> None:
        """A line and what it joins, or a note, are deleted."""
        session = self.source.open()
        for table in ("line", "region") if number % 2 else ("customer", "note"):
            rows = self.rows_in_reach(session, table)
            if rows:
                session.delete(table, rows[number % len(rows)])
        self.source.close(session, commit=True)

    def bring_back(self, number: int) -> None:
        """Rows that are gone return as they were; every other time to caches that are made again from the lake."""
        session = self.source.open()
        back = [
            (table, key)
            for table in TABLES
            for key in sorted(self.lived[table].keys() - self.source.committed[table].keys())
            if self.source.is_free(table, key, session)
        ]
        for table, key in back:
            session.write(table, self.lived[table][key])
        self.source.close(session, commit=True)
        tally["came back unchanged"] += bool(back)
        if number % 2 == 0:
            self.lose_a_cache("")
            tally["came back unchanged to a rebuilt cache"] += bool(back)

    def look_for_secrets(self, _: int) -> None:
        """None of the settings' secrets is in the lake, in a cache or beside them."""
        for file in self.folder.rglob("*"):
            if file.is_file() and file.name != "totes.toml":
                content = file.read_bytes()
                assert not any(secret.encode() in content for secret in SECRETS), file
        tally["looked for secrets"] += 1

    def change(self, table: str, number: int, position: int, value: Any) -> bool:
        """Gives one of the rows that can be changed another value; whether there was one."""
        session = self.source.open()
        rows = self.rows_in_reach(session, table)
        if rows:
            row = session.row(table, rows[number % len(rows)])
            assert row is not None
            values = (*row.values[:position], value, *row.values[position + 1 :])
            session.write(table, values)
        self.source.close(session, commit=True)
        return bool(rows)


# A cycle comes every three steps (`cycle_steps`), so each of these is in a batch of its own.
EVENTS = (
    LongLife.spoil, LongLife.take_away, LongLife.move_a_customer, LongLife.put_right, LongLife.bring_back,
    LongLife.rename_a_region, LongLife.look_for_secrets,
)  # fmt: skip
