"""English words in names: how a name is written in a model, and the singular and plural of the noun that it ends with."""

from __future__ import annotations

import re
import unicodedata

_ALIKE = {
    "aircraft", "analytics", "cash", "data", "equipment", "feedback", "gps", "history", "information", "inventory", "media",
    "metadata", "news", "series", "sms", "software", "species", "staff", "status", "stock", "traffic",
}  # fmt: skip
_IRREGULAR = {
    "child": "children",
    "half": "halves",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "shelf": "shelves",
    "criterion": "criteria",
    "datum": "data",
    "man": "men",
    "medium": "media",
    "person": "people",
    "woman": "women",
}
_SINGULARS = {plural: singular for singular, plural in _IRREGULAR.items()}
_PLAIN = re.compile(r"[a-z_]*[a-z][a-z0-9_]*")
_ENDS_IN_US = re.compile(r"(stat|bon|b|vir|camp|cens|chor|corp|foc|rad|syllab)uses$")


def snake(name: str) -> str:
    """A name in lower case, its words joined by underscores: `InvoiceLine` and `Invoice line` are `invoice_line`."""
    if _PLAIN.fullmatch(name):
        return name
    name = unicodedata.normalize("NFC", name)
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case."""
    return tuple(word for word in snake(name).split("_") if word) or (name,)


def singular(name: str) -> str:
    """A name whose last word names one thing instead of several: `order_details` is `order_detail`."""
    before, _, word = name.rpartition("_")
    return f"{before}_{_singular(word)}" if before else _singular(word)


def plural(name: str) -> str:
    """A name whose last word names several things: `order_detail` is `order_details`."""
    before, _, word = name.rpartition("_")
    return f"{before}_{_plural(word)}" if before else _plural(word)


def phrase(name: str) -> str:
    """A name as it is written in a sentence."""
    return name.replace("_", " ")


def listed(items: list[str], most: int = 6) -> str:
    """Some things in a sentence: `a`, `a and b`, `a, b and c`; of many, the first ones and how many more."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def clipped(name: str, bytes_max: int) -> str:
    """The beginning of a name that has so many bytes at most, and whole characters."""
    return name.encode()[:bytes_max].decode(errors="ignore").rstrip("_")


def _singular(word: str) -> str:
    if word in _ALIKE:
        return word
    if word in _SINGULARS:
        return _SINGULARS[word]
    if re.search(r"(ss|us|is|[^aeiou]as)$", word) or len(word) < 3:
        return word
    if re.search(r"(ss|x|ch|sh|zz|[^h]\wo)es$", word) or _ENDS_IN_US.search(word):
        return word[:-2]
    if re.search(r"[^aeiou]ies$", word) and word not in ("cookies", "movies", "ties", "calories", "zombies"):
        return f"{word[:-3]}y"
    return word.removesuffix("s")


def _plural(word: str) -> str:
    if word in _ALIKE or word in _SINGULARS:
        return word
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("s") and _singular(word) != word:
        return word
    if re.search(r"(s|x|z|ch|sh)$", word):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", word) else f"{word}s"
