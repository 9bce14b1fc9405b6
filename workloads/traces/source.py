"""What a file of rows is to its reader, whatever its shape: names, whole columns, single rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from workloads.traces.fields import Array, Date, Field

Row = Mapping[str, object]


class Source(ABC):
    """A file of rows that was looked into. Reading it again begins at the first row."""

    def __init__(self, path: Path, shape: str, packing: str, names: list[str]) -> None:
        self.path = path
        self.shape = shape + (f" in {packing}" if packing else "")
        self.names = names
        self.names_at = str(path)
        """Where the names stand, for messages."""

    def columns(self, fields: Sequence[Field]) -> Iterator[list[Array]]:
        """Yield the values of ``fields``, some rows at a time; the fast way, where there is one.

        Raises:
            UnsoundError: rows that only a look at each of them can judge.
        """
        raise UnsoundError

    @abstractmethod
    def rows(self, names: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """Yield the place of every row and what it holds under ``names``; the thorough way.

        Raises:
            TraceError: rows that cannot be told apart.
        """

    def where(self, place: int) -> str:
        """Return FILE:LINE of a place."""
        return f"{self.path}:{place}"

    def _with_zones(self, fields: Sequence[Field]) -> list[Field]:
        """Return the fields as the first row needs them: its dates have zones, or do not."""
        dates = [field.name for field in fields if isinstance(field, Date)]
        if not dates:
            return list(fields)
        first = next(self.rows(dates), None)
        if first is None:
            raise UnsoundError
        known = [Date(field.name) if isinstance(field, Date) else field for field in fields]
        for field in known:
            if isinstance(field, Date):
                try:
                    field.parse(first[1].get(field.name))
                except ValueError:
                    raise UnsoundError from None
        return known


class UnsoundError(Exception):
    """Whole columns cannot be read: a row may be malformed, or written in an uncommon way."""
