"""A small table: columns of one kind each, as pandas has them, without loading pandas for them.

Importing pandas takes as long as a study of a thousand requests. What is computed, printed and
written of few rows is plain lists; whoever wants a ``DataFrame`` gets one, with the same values.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from pydantic_core import to_json

if TYPE_CHECKING:
    from pandas import DataFrame

Row = Mapping[str, Any]

PLAIN = (1e-4, 1e16)
"""Numbers that are written without an exponent."""

_PLAIN = {bool, int, float, str}


class Records:
    """Columns by name, each as long as the others."""

    __slots__ = ("columns",)

    def __init__(self, columns: Mapping[str, Iterable[Any]]) -> None:
        self.columns = {name: _of_one_kind(list(values)) for name, values in columns.items()}

    @classmethod
    def of(cls, rows: Iterable[Row], names: Iterable[str] = ()) -> Self:
        """Return the table of some rows; NaN stands where a row lacks a column of another.

        ``names`` are columns that it has in any case, and first.
        """
        rows = list(rows)
        found = dict.fromkeys([*names, *(rows[0] if rows else ())])
        if all(row.keys() == found.keys() for row in rows):  # as most are
            whole = map(itemgetter(*found), rows) if len(found) > 1 else ()
            if columns := list(zip(*whole, strict=True)):
                return cls(dict(zip(found, columns, strict=True)))
        for row in rows:
            found.update(dict.fromkeys(row))
        return cls({name: [row.get(name, math.nan) for row in rows] for name in found})

    @classmethod
    def of_frame(cls, frame: "DataFrame") -> Self:
        """Return the same table."""
        return cls(
            {
                str(name): frame[name].tolist()
                if frame[name].dtype != "Int64" or frame[name].notna().all()
                else frame[name].astype("float64").tolist()  # NaN stands for what pandas calls NA
                for name in frame
            }
        )

    def frame(self) -> "DataFrame":
        """Return the same table for those who have pandas anyway."""
        import pandas as pd

        return pd.DataFrame(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        """Go through the names of the columns."""
        return iter(self.columns)

    def __getitem__(self, name: str) -> list[Any]:
        """Return a column. Raises KeyError."""
        return self.columns[name]

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping per row."""
        return [
            dict(zip(self.columns, values, strict=True))
            for values in zip(*self.columns.values(), strict=True)
        ]

    def at(self, places: Sequence[int]) -> "Records":
        """Return some of the rows, in this order."""
        found = Records({})
        found.columns = {
            name: [values[place] for place in places] for name, values in self.columns.items()
        }
        return found

    def where(self, name: str, value: object) -> "Records":
        """Return the rows that have a value in a column."""
        return self.at([place for place, found in enumerate(self[name]) if found == value])

    def having(self, **columns: Iterable[Any]) -> "Records":
        """Return the table with these columns instead of its own, or behind them."""
        return Records({**self.columns, **columns})

    def is_numeric(self, name: str) -> bool:
        """Tell whether a column holds numbers alone, or truths alone."""
        kinds = {type(value) for value in self[name]}
        return bool(kinds) and (kinds <= {int, float} or kinds == {bool})

    def csv(self) -> str:
        """Return the table with full precision, what is unknown as nothing."""
        columns = [_texts(values) for values in self.columns.values()]
        if len(columns) == 1:  # a line of nothing would be no row
            columns = [[text or '""' for text in columns[0]]]
        rows = map(",".join, zip(*columns, strict=True))
        return "\n".join([",".join(map(_text, self.columns)), *rows, ""])


def _texts(values: list[Any]) -> Iterable[str]:
    """A column as a file has it: whole columns of numbers in half the time of ``csv``."""
    kinds = set(map(type, values))
    if kinds <= {int, bool}:
        return map(str, values)
    if kinds == {float}:
        return _texts_of_floats(values)
    if kinds == {str}:
        return map({value: _text(value) for value in set(values)}.__getitem__, values)
    return map(_text, values)


def _texts_of_floats(values: list[float]) -> list[str]:
    """``repr`` of each, nothing for NaN; two thirds of such a file's time go to them.

    pydantic writes numbers in half the time of ``repr``, with the same digits: the fewest that tell
    a number from all others. Only beyond the range in which both write no exponent they differ.
    """
    texts = to_json(values).decode()[1:-1].split(",")
    return [
        text if PLAIN[0] <= value < PLAIN[1] else repr(value) if value == value else ""
        for text, value in zip(texts, values, strict=True)
    ]


def _text(value: object) -> str:
    """A cell as a file has it: nothing where its value is unknown, quoted where it must be."""
    if value is None or value != value:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow((value, ""))
    return line.getvalue().removesuffix(",\n")


def _of_one_kind(values: list[Any]) -> list[Any]:
    """A column as pandas holds it: numbers of one kind, and NaN for what numbers or texts lack."""
    found = set(map(type, values))
    if len(found) == 1 and found <= _PLAIN:
        return values
    if any(hasattr(kind, "dtype") for kind in found):
        values = [value.item() if hasattr(value, "dtype") else value for value in values]
    known = [value for value in values if value is not None]
    kinds = {type(value) for value in known}
    if kinds and kinds <= {int, float} and (float in kinds or len(known) < len(values)):
        return [math.nan if value is None else float(value) for value in values]
    if str in kinds and all(type(value) is str or value != value for value in known):
        return [value if type(value) is str else math.nan for value in values]
    return values
