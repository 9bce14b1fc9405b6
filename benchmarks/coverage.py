"""How much of a list of published models can be read: ``python -m benchmarks.coverage LIST.csv``.

The list has a column ``model`` of published names, perhaps a column ``gpus`` of names of GPUs, and
columns of whole numbers: how many recipes, deployments or measured rows there are of each. Every
sum is printed beside the sum of those whose model is read, then what is refused, and why.
"""

import argparse
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.cli.command import Parser, fail, run_command, start
from hardware.gpu import UnknownGpuError, load_gpu
from model.spec import ConfigError, UnknownArchitectureError, UnknownModelError, load_spec

REFUSALS = (UnknownModelError, UnknownArchitectureError, ConfigError)
MOST_CHARACTERS = 120
"""Of a reason."""


@dataclass(frozen=True, slots=True)
class Row:
    """One published model."""

    model: str
    counts: dict[str, int]
    gpus: tuple[str, ...]


def read_list(path: Path) -> list[Row]:
    """Return the rows of a list.

    Raises:
        ValueError: no such file, no column ``model``, or no column of whole numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            found = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    names = tuple(found[0]) if found else ()
    if "model" not in names:
        raise ValueError(f"{path}: expected a column model, found {', '.join(names) or 'none'}")
    counted = [
        name for name in names
        if name not in ("model", "gpus") and all(re.fullmatch(r"\d+", row[name]) for row in found)
    ]  # fmt: skip
    if not counted:
        raise ValueError(f"{path}: expected a column of whole numbers beside model")
    return [
        Row(
            row["model"],
            {name: int(row[name]) for name in counted},
            tuple(re.split(r"[\s,;]+", (row.get("gpus") or "").strip())),
        )
        for row in found
    ]


def refusal(name_or_path: str) -> str:
    """Return why a model is refused, in one line; an empty text for one that is read."""
    try:
        load_spec(name_or_path)
    except REFUSALS as error:
        return str(error).splitlines()[0][:MOST_CHARACTERS]
    return ""


def lines_of_list(rows: Sequence[Row]) -> list[str]:
    """Return what a list holds, what of it is read, and what is refused."""
    refused = {row.model: refusal(row.model) for row in rows}
    lines = [f"{sum(not refused[row.model] for row in rows)} of {len(rows)} models are read"]
    for name in rows[0].counts:
        read = sum(row.counts[name] for row in rows if not refused[row.model])
        lines.append(f"{read:,} of {sum(row.counts[name] for row in rows):,} {name}")
    lines += [f"refused: {model}: {why}" for model, why in refused.items() if why]
    gpus = dict.fromkeys(gpu for row in rows for gpu in row.gpus if gpu)
    return lines + [f"refused: gpu {gpu}" for gpu in gpus if not _is_gpu(gpu)]


def lines_of_folder(folder: Path) -> list[str]:
    """Return how many of the models below a folder are read, and what is refused."""
    found = sorted(path.parent for path in folder.glob("*/config.json"))
    refused = {path.name: refusal(str(path)) for path in found}
    count = sum(not why for why in refused.values())
    lines = [f"{count} of {len(found)} folders with a config.json are read"]
    return lines + [f"refused: {name}: {why}" for name, why in refused.items() if why]


def _is_gpu(name: str) -> bool:
    try:
        load_gpu(name)
    except UnknownGpuError:
        return False
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a list, and a folder of models, hold of what is read."""
    parser = Parser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("list", type=Path, help="a CSV of published models")
    parser.add_argument("--configs", type=Path, help="a folder of folders with a config.json")
    return run_command(_command, parser, argv, "the rest was not read")


def _command(arguments: argparse.Namespace) -> int:
    folder = arguments.configs
    if folder is not None and not folder.is_dir():
        return fail(f"--configs {folder}: no such folder")
    try:
        rows = read_list(arguments.list)
    except ValueError as error:
        return fail(str(error))
    lines = lines_of_list(rows) + (lines_of_folder(folder) if folder else [])
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    start(main)
