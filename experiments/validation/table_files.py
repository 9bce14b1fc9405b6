"""Where rows of measured runs come from: CSV, also gzipped, Parquet, results of clients.

All become lines of cells, text by column, which ``experiments.validation.rows`` reads.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.study.errors import StudyError
from experiments.validation.client_results import (
    cells_of_result,
    cells_of_sweep,
    is_sweep_table,
)
from experiments.validation.columns import OF_ACTIVATIONS, named
from experiments.validation.result_values import BrokenResultError, NotAResultError
from model.dataclass import dataclass
from model.text_file import TextFileError, check_regular, read_text

MOST_BYTES = 2**26
"""Of a table of runs, unpacked."""

Cells = dict[str, str]

DELIMITERS = ",;\t|"
"""Between the cells of a line: whichever the header has most of."""
OTHER_FILES = (".yaml", ".yml", ".xlsx", ".xls", ".html", ".md", ".log")
"""Ends of names of what is no table and no JSON."""
PARQUET = b"PAR1"
"""What such a file begins with, whatever its name."""
TABLES = (".csv", ".tsv", ".parquet", ".csv.gz")
"""Ends of names of tables: of a folder's results clients write one as well."""
SIXTEEN_BITS = re.compile(r"(?:torch\.)?(?:auto|half|(?:b|bf|fp|float|bfloat)16)")
"""Numbers of activations, which weights of fewer bits have as well."""
EXTRA = "cells beyond the header's"
"""Under which a line keeps what stands right of the last column."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What a file says, in our columns."""

    columns: list[str]
    cells: list[Cells]
    unread: tuple[str, ...] = ()
    """Columns that mean nothing here."""


def read_lines(path: Path, known: Sequence[str]) -> Lines:
    """Return the lines of a table of runs, or of results of benchmark clients.

    Args:
        path: a CSV file (also gzipped), a Parquet file, the JSON result of a client, or a folder of
            such results.
        known: our columns.

    Raises:
        StudyError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _columns(_of_folder(path), known)
        end = path.suffix.lower()
        packed = end == ".gz" and path.with_suffix("").suffix.lower() in (".json", ".jsonl")
        if packed:
            raise TextFileError("gzipped JSON, expected it unpacked")
        if end in OTHER_FILES:
            raise TextFileError(f"a {end} file, expected CSV, Parquet, or the JSON of a client")
        if end in (".json", ".jsonl"):
            return _columns(cells_of_result(path), known)
        header, lines = _of_parquet(path) if _is_parquet(path) else _of_csv(path)
        if is_sweep_table(header):
            return _columns(cells_of_sweep(lines, path.stem), known)
    except (TextFileError, NotAResultError, csv.Error) as error:
        raise StudyError.of(f"cannot read the runs: {error}", str(path)) from None
    try:
        return _in_our_columns(header, lines, known)
    except StudyError as error:
        raise StudyError.of(error.problems[0].text, str(path)) from None


def _columns(lines: list[Cells], known: Sequence[str]) -> Lines:
    """Lines of clients' results: what stands beside them under other names is not read."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    unread = tuple(name for name in names if name not in known)
    return Lines([name for name in names if name in known], lines, unread)


def _in_our_columns(header: Sequence[str], lines: Iterable[Cells], known: Sequence[str]) -> Lines:
    meant = named(header, known)
    cells = [
        {
            meant[name][0]: _with_unit(text, meant[name][1])
            for name, text in line.items()
            if name in meant and text is not None
        }
        | ({EXTRA: line[EXTRA]} if EXTRA in line else {})
        for line in lines
    ]
    unread = tuple(name for name in header if name and name not in meant)
    return Lines([ours for ours, _ in meant.values()], cells, unread)


def _with_unit(text: str, unit: str) -> str:
    """A cell with the unit of its header, where it is a bare number."""
    bare = text.strip()
    if unit == OF_ACTIVATIONS:
        return "" if SIXTEEN_BITS.fullmatch(bare.lower()) else text
    return f"{bare} {unit}" if unit and bare and not any(map(str.isalpha, bare)) else text


def _of_csv(path: Path) -> tuple[list[str], list[Cells]]:
    """A table as text, with the separator that its header has most of.

    Lines above the header that begin with # are remarks.
    """
    text = _text(path).lstrip()
    while text.startswith("#"):
        text = text.partition("\n")[2].lstrip()
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in next(reader, [])]
    lines: list[Cells] = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        line = dict(zip(names, row, strict=False))
        more = [cell for cell in row[len(names) :] if cell.strip()]
        lines.append(line | ({EXTRA: ", ".join(more)} if more else {}))
    return names, lines


def _of_folder(folder: Path) -> list[Cells]:
    """Every result in a folder, in the order of names; other JSON files are left out.

    A file that was cut off is not left out in silence, nor one that is packed.
    """
    lines: list[Cells] = []
    packed = next((path for path in sorted(folder.rglob("*.json*.gz"))), None)
    if packed is not None:
        raise NotAResultError(f"{packed.relative_to(folder)}: gzipped JSON, expected it unpacked")
    files = sorted(path for path in folder.rglob("*.json*") if path.suffix in (".json", ".jsonl"))
    files = [path for path in files if not _repeats(path)]
    for path in files:
        name = str(path.relative_to(folder).with_suffix(""))
        try:
            lines += cells_of_result(path, name)
        except BrokenResultError as error:
            raise BrokenResultError(f"{path.relative_to(folder).parent}/{error}") from None
        except NotAResultError:
            continue
    if not lines:
        tables = [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(TABLES)]
        hint = f"; tables such as {tables[0].name} are read one by one" if tables else ""
        raise NotAResultError(
            f"{len(files)} JSON files and none a result of a benchmark client{hint}"
        )
    return lines


def _repeats(path: Path) -> bool:
    """Tell whether a file holds again what stands beside it: ``summary.json`` of a sweep's runs."""
    return path.name == "summary.json" and any(path.parent.glob("run=*.json"))


def _is_parquet(path: Path) -> bool:
    """Tell whether a file is Parquet, by its name or how it begins."""
    if path.suffix.lower() == ".parquet":
        return True
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError as error:
        raise TextFileError(error.strerror or str(error)) from None


def _of_parquet(path: Path) -> tuple[list[str], list[Cells]]:
    """A table in Parquet; an index with a name is a column."""
    import pandas as pd

    check_regular(path, MOST_BYTES)
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TextFileError(f"no Parquet file: {error}") from None
    if any(name is not None for name in table.index.names):
        table = table.reset_index()
    known, names = table.notna(), [str(name) for name in table.columns]
    return names, [
        {
            name: str(value)
            for name, value, said in zip(names, row, known.iloc[place], strict=True)
            if said
        }
        for place, row in enumerate(table.itertuples(index=False))
    ]


def _text(path: Path) -> str:
    if path.suffix.lower() != ".gz":
        return read_text(path, MOST_BYTES)
    check_regular(path, MOST_BYTES)
    try:
        with gzip.open(path) as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TextFileError(f"not gzip: {error}") from None
    if len(data) > MOST_BYTES:
        raise TextFileError(f"more than {MOST_BYTES:,} bytes when unpacked")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TextFileError("not UTF-8 text") from None
