"""What a field of a trace must be: whole numbers, seconds, dates; read one by one, or by column.

Arrow reads whole columns, about 0.1 s for a million rows; ``parse`` reads a single value, whatever
a file calls a number (``300``, ``300.0``, ``"300"``), and is exact about what it refuses. Both give
the same values.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Array = npt.NDArray[np.float64] | npt.NDArray[np.int64]
LARGEST = 2**63 - 1
LARGE = 1e300
"""Real numbers from here on are none: whole ones in JSON have no bound."""
MOST_TOKENS = 2**53
"""Longer lengths, stand-ins for "no limit", are read as this one: no engine serves either."""

_WHOLE = re.compile(r"\+?[0-9]+(\.(0{0,2}|0{4,}))?")  # 1.000 may be a thousand
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<time>[0-9]{2}:[0-9]{2}(:[0-9]{2})?)"
    r"(\.(?P<fraction>[0-9]{1,9})[0-9]*)? ?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of at least ``smallest``."""

    name: str
    smallest: int = 1
    largest: int = LARGEST

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a whole column."""
        return pa.int64()

    @property
    def code(self) -> Literal["q", "d"]:
        """The code of an ``array.array`` of its values."""
        return "q"

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.smallest == self.largest:
            return f"{self.smallest}"
        return f"a whole number of at least {self.smallest}"

    def parse(self, value: object) -> int:
        """Return one value. Raises ValueError."""
        number = -1
        if isinstance(value, str):
            text = value.strip()
            if _WHOLE.fullmatch(text) and len(text) < 40:
                number = int(text.split(".")[0])
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if number > self.largest == LARGEST:
            raise ValueError(f"{self.expected} and at most 2^63-1")
        if not self.smallest <= number <= self.largest:
            raise ValueError(self.expected)
        return number


@dataclass(frozen=True, slots=True)
class Real:
    """A finite number of at least 0: a time in some unit."""

    name: str

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a whole column."""
        return pa.float64()

    @property
    def code(self) -> Literal["q", "d"]:
        """The code of an ``array.array`` of its values."""
        return "d"

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return "a finite number >= 0"

    def parse(self, value: object) -> float:
        """Return one value. Raises ValueError."""
        number = -1.0
        if isinstance(value, str):
            text = value.strip()
            if _NUMBER.fullmatch(text):
                number = float(text)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < LARGE else -1.0
        if not 0 <= number < np.inf:
            raise ValueError(self.expected)
        return number


@dataclass(slots=True)
class Date:
    """A date with a time of day, as nanoseconds since 1970; all with a zone, or none."""

    name: str
    zoned: bool | None = None
    """As the first value has it; None before."""

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of a whole column; ``zoned`` must be known."""
        return pa.timestamp("ns", "UTC" if self.zoned else None)

    @property
    def code(self) -> Literal["q", "d"]:
        """The code of an ``array.array`` of its values."""
        return "q"

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        zone = "+00:00" if self.zoned else ""
        like = ", like the first row's" if self.zoned is not None else ""
        return f"a time such as 2024-05-10 00:00:00.0099300{zone}{like}"

    def parse(self, value: object) -> int:
        """Return one value. Raises ValueError."""
        if isinstance(value, datetime):
            value = value.isoformat()
        found = _DATE.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None or self.zoned not in (None, found["zone"] is not None):
            raise ValueError(self.expected)
        zone = (found["zone"] or "Z").replace("UTC", "Z").replace("GMT", "Z")
        try:
            whole = datetime.fromisoformat(f"{found['day']}T{found['time']}{zone}") - _EPOCH
        except ValueError:
            raise ValueError(self.expected) from None
        nanoseconds = (whole.days * 86400 + whole.seconds) * 10**9
        nanoseconds += int((found["fraction"] or "0").ljust(9, "0"))
        if abs(nanoseconds) > LARGEST:
            raise ValueError(f"{self.expected}, between the years 1678 and 2261")
        self.zoned = found["zone"] is not None
        return nanoseconds


Field = Whole | Real | Date


def time_field(name: str, unit: str) -> Field:
    """Return the field of a time: nanoseconds since 1970 do not fit a float."""
    if unit == "date":
        return Date(name)
    return Whole(name, smallest=0) if unit == "ns" else Real(name)


def is_number(value: object) -> bool:
    """Tell whether a value is a number, perhaps as a text."""
    return isinstance(value, int | float) or (
        isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is not None
    )


def has_zone(text: str) -> bool:
    """Tell whether a date ends in a zone."""
    found = _DATE.fullmatch(text.strip())
    return found is not None and found["zone"] is not None
