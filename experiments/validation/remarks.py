"""What cells say of something else: a precision of the KV cache, a GPU's name of its power."""

import re

_WIDTH = r"(?:nv|mx)?fp4|fp8(?:_e\dm\d\w*)?|(?:bf|fp)16|int[48]|auto"
_CACHE = r"\bkv(?:[\s_-]*cache)?(?![a-z])"
_OF_CACHE = re.compile(
    rf"\W*(?:(?:with|and|plus)\W+)?(?:an? )?(?:(?P<before>{_WIDTH})[\s_-]*)?{_CACHE}"
    rf"(?:[\s_-]*d?type)?\W*(?:in\W+)?(?P<after>{_WIDTH})?"
)
_OF_BOTH = re.compile(
    rf"\bweights?\s*(?:\+|&|and)\s*(?:the\s+)?{_CACHE}(?!\W*(?:in\W+)?(?:{_WIDTH}))"
)
_LIMIT = re.compile(
    r"\b(?:power|clocks?|tdp|\d{3,4} ?w)[ -]+(?:is |are )?(?:cap|limit|lock|throttl)\w*"
    r"|\b(?:cap|limit|lock|throttl)\w*[ -]+(?:at |to |the )?(?:power|clocks?|\d{3,4} ?(?:w|mhz)\b)"
    r"|\bunderclock\w*"
)


def cache_in(precision: str) -> tuple[str | None, str]:
    """Return the numbers of the KV cache that a precision tells, too, and the rest of its words.

    ``bf16, fp8 KV`` is (fp8, ``bf16``), ``FP8 (weights + KV)`` (``FP8``, ``FP8``). Where the words
    name the cache and no numbers of it, they stay, for the row to be refused.
    """
    words = precision.lower()
    if _OF_BOTH.search(words):
        both = re.split(r"\W*\bweights?\b", precision, flags=re.IGNORECASE)[0].strip(" (")
        return (both or None), both or precision
    found = _OF_CACHE.search(words)
    said = (found["before"] or found["after"]) if found else None
    if found is None or said is None:
        return None, precision
    return said, (precision[: found.start()] + precision[found.end() :]).strip(" ,;()+/")


def names_cache(precision: str) -> bool:
    """Tell whether the words of a precision name the KV cache."""
    return re.search(_CACHE, precision.lower()) is not None


def limit_in(text: str) -> str | None:
    """Return the words that say that a GPU's power or clocks were held down; None for none."""
    found = _LIMIT.search(text.lower())
    return found[0] if found else None
