"""Secrets that are parts of one another: of the longer one nothing remains."""

from __future__ import annotations

import itertools

import pytest

from totes.redaction import MASK, redact, register_secret

# Each is a part of another: at its beginning, at its end, within, and across what is left of it.
SECRETS = ("open", "open-sesame", "sesame", "open-sesame-4711", "7-open-sesame-4711-z")


@pytest.mark.parametrize("order", [*itertools.permutations(SECRETS)][::17])
def test_the_longest_secret_is_masked_first(order: tuple[str, ...]) -> None:
    for secret in order:
        register_secret(secret)
    for secret in SECRETS:
        assert redact(f"it was {secret}!") == f"it was {MASK}!"


def test_a_password_that_begins_like_another_is_masked_wholly() -> None:
    register_secret("postgresql://reader:tote@host/db")
    register_secret("postgresql://loader:tote-and-more@host/db")
    assert redact("tote-and-more, tote") == f"{MASK}, {MASK}"


def test_a_secret_of_two_letters_would_mask_every_text_and_one_of_three_is_masked() -> None:
    register_secret("ab")
    register_secret("xyz")
    assert redact("abc xyz") == f"abc {MASK}"
