"""Published tables of measurements, read from a file that whoever repeats a comparison has."""

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

Table = TypeVar("Table")


def options_and_table(
    parser: argparse.ArgumentParser, known: Table, read: Callable[[Path], Table]
) -> tuple[argparse.Namespace, Table]:
    """Return the options of a command, and the table that it names; ``known`` where it names none.

    A file that ``read`` does not take ends the command.
    """
    parser.add_argument("data", type=Path, nargs="?", help="the measured table (as published)")
    given = parser.parse_args()
    try:
        return given, known if given.data is None else read(given.data)
    except ValueError as error:
        parser.error(str(error))


def read_published(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """Give the rows of a CSV file.

    Args:
        path: of the file, in UTF-8, with a header.
        columns: that are looked at.

    Raises:
        ValueError: it cannot be read, or lacks one of the columns, which is named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]}, expected {', '.join(columns)}")
    yield from reader


def number_of(row: Mapping[str, str], column: str, path: Path) -> float:
    """Return a cell as a number.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise ValueError(f"{path}: {column} = {row[column]!r}, expected a number") from None
