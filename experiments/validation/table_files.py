"""Where rows of measured runs come from: CSV, also gzipped, Parquet, results of clients.

All become lines of cells, text by column, which ``experiments.validation.rows`` reads.
"""

import csv
import gzip
import io
import zlib
from pathlib import Path

from experiments.study.errors import StudyError
from experiments.validation.client_results import NotAResultError, NotJsonError, cells_of_result
from model.text_file import TextFileError, check_regular, read_text

MOST_BYTES = 2**26
"""Of a table of runs, unpacked."""

Cells = dict[str, str]


def read_lines(path: Path) -> tuple[list[str], list[Cells]]:
    """Return the columns and the lines of a table of runs, or of results of benchmark clients.

    Args:
        path: a CSV file (also gzipped), a Parquet file, the JSON result of a client, or a folder of
            such results.

    Raises:
        StudyError: it cannot be read.
    """
    try:
        if path.is_dir():
            return _columns(_of_folder(path))
        if path.suffix.lower() in (".json", ".jsonl"):
            return _columns(cells_of_result(path))
        if path.suffix.lower() == ".parquet":
            return _columns(_of_parquet(path))
        reader = csv.DictReader(io.StringIO(_text(path), newline=""))
        return list(reader.fieldnames or ()), list(reader)
    except (TextFileError, NotAResultError, csv.Error) as error:
        raise StudyError.of(f"cannot read the runs: {error}", str(path)) from None


def _columns(lines: list[Cells]) -> tuple[list[str], list[Cells]]:
    return list(dict.fromkeys(name for line in lines for name in line)), lines


def _of_folder(folder: Path) -> list[Cells]:
    """Every result in a folder, in the order of names; other JSON files are left out.

    A file that was cut off is not left out in silence.
    """
    lines: list[Cells] = []
    files = sorted(path for path in folder.rglob("*.json*") if path.suffix in (".json", ".jsonl"))
    for path in files:
        name = str(path.relative_to(folder).with_suffix(""))
        try:
            lines += cells_of_result(path, name)
        except NotJsonError as error:
            raise NotJsonError(f"{name}: {error}") from None
        except NotAResultError:
            continue
    if not lines:
        raise NotAResultError(
            f"{len(files)} JSON files and none a result of vllm bench serve, guidellm or AIPerf"
        )
    return lines


def _of_parquet(path: Path) -> list[Cells]:
    import pandas as pd

    check_regular(path, MOST_BYTES)
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise TextFileError(f"no Parquet file: {error}") from None
    known = table.notna()
    return [
        {
            str(name): str(value)
            for name, value, said in zip(table.columns, row, known.iloc[place], strict=True)
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
