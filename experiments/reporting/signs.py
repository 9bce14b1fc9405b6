"""Signs that a terminal would obey, or that ASCII lacks, written otherwise."""

import re

SPELT = {"±": "+-", "–": "-", "∞": "inf", "µ": "u", "×": "x", "…": "...", "≤": "<=", "≥": ">="}
"""Signs of our tables as ASCII has them."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, and what turns the direction of writing."""


def printable(text: str) -> str:
    """Return ``text`` with what a terminal would obey written out, as in ``\\x1b[31m``."""
    return _UNPRINTABLE.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
