"""Numbers that people write with a unit, where a study wants them without."""

import re

TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
UNITS = {"%": 0.01, "k": 1e3, "m": 1e6}
"""What people write behind numbers, and what it makes of them; times where a key is in seconds."""


def without_unit(value: object, key: str) -> str:
    """Say which number was meant by one with a unit."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%|[a-z]+)\s*", str(value).lower())
    units = TIMES if key.endswith("_s") and not key.endswith("_per_s") else UNITS
    if found is None or found[2] not in units:
        return ""
    return f"; did you mean {float(found[1]) * units[found[2]]:.12g}?"
