"""Units of a trace's times."""

from typing import Literal

Unit = Literal["s", "ms", "us", "ns"]
UNITS_PER_S: dict[str, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9, "date": 1e9}
UNIT_WORDS = {"s": "seconds", "ms": "ms", "us": "us", "ns": "ns", "date": "dates"}
