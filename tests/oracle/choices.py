"""What the people of the shop may write: few keys, so that they meet, and values of which some are wrong."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.oracle.shop import Values

NAMES = st.sampled_from(["x", "y", "z", 'O\'Neil "é"\t\\', None])
TIMES = st.sampled_from([
    "2026-01-03 00:00:00", "2026-01-03 00:00:00", "2026-01-03 00:00:00", "2026-01-03 00:00:00.000001", "2026-01-04 12:30:00.5",
    "2020-01-01 00:00:00", "2999-01-01 00:00:00", "infinity", None,
])  # fmt: skip
GOOD_AMOUNTS = ["1.50", "1.5", "2", "-3.25", "4.000", "0", None]
AMOUNTS = st.sampled_from([*GOOD_AMOUNTS, *GOOD_AMOUNTS, "4.001", "many", "123456789"])
REGIONS = st.tuples(st.sampled_from("abc"), NAMES)
CUSTOMERS = st.tuples(
    st.integers(1, 4), NAMES, st.sampled_from(["a", "b", "a", "b", "c", "z", None]), st.sampled_from([None, 1, 2, 9]), TIMES
)  # fmt: skip
LINES = st.tuples(
    st.sampled_from("PQ"), st.integers(1, 2), st.sampled_from([1, 2, 3, 1, 2, 3, 1, 2, 4, 9]), AMOUNTS,
    st.sampled_from(["sent", "paid", "sent", "paid", "sent", "draft", None]), TIMES,
)  # fmt: skip
NOTES = st.tuples(st.integers(1, 4), NAMES, st.sampled_from(["open", "open", "shut", "private", None]))
ROWS = {"region": REGIONS, "customer": CUSTOMERS, "line": LINES, "note": NOTES}
WRITES = st.one_of(*(st.tuples(st.just(table), ROWS[table]) for table in (*ROWS, "line", "line")))
# A write of nothing but a key deletes; one of a line's key and amount leaves the rest, last_updated too, as it is.
ENDS = st.sampled_from(
    [("region", ("a",)), ("region", ("b",)), *(("customer", (number,)) for number in (1, 2, 3, 4))]
)
AGAIN = st.tuples(st.just("line"), st.tuples(st.sampled_from("PQ"), st.integers(1, 2), AMOUNTS))
CHANGES = st.one_of(WRITES, WRITES, WRITES, ENDS, AGAIN)
MANY_WRITES = st.lists(CHANGES, min_size=1, max_size=6)
OPENING: list[tuple[str, Values]] = [
    ("region", ("a", "Aa")), ("region", ("b", "Bb")), ("customer", (1, "one", "a", None, None)),
    ("customer", (2, "two", "b", 1, "2026-01-02 00:00:00")), ("customer", (3, "three", None, 2, None)),
    ("line", ("P", 1, 1, "1.50", "sent", "2026-01-02 00:00:00")), ("line", ("P", 2, 2, "2", "sent", None)),
    ("line", ("Q", 1, 1, "many", "paid", "2026-01-02 00:00:00")), ("note", (1, "n", "open")), ("note", (2, "m", "private")),
]  # fmt: skip
SOME_WRITES = st.lists(CHANGES, max_size=4)
WHICH = st.integers(0, 11)
STAGES = st.sampled_from([None, None, "ingest", "process", "load"])
