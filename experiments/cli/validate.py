"""Predict measured runs of real engines: ``headroom validate RUNS.csv --out DIR``."""

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import Parser, between, called, fail, processes, run_command
from experiments.running.folder import Wanted, chosen_folder, results_folder
from experiments.running.publish import claimed, publish
from experiments.study.calibrations import check_calibration
from experiments.study.errors import RunError, StudyError, nearest
from experiments.validation.ablation import ablation_table
from experiments.validation.predict import SEEDS, Plan, Prediction, plan, predict
from experiments.validation.rows import COLUMNS, Skipped, read_table
from experiments.validation.terminal import Bar, ablation_text, headline, summary_text
from experiments.validation.writing import FILES, facts_of, identity_of, write_results
from model.counts import count_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 for what is wrong with input or machine."""
    return run_command(_command, _parser(), arguments, "nothing was written")


def _command(options: argparse.Namespace) -> int:
    try:
        return _run(options)
    except (RunError, ValueError) as error:
        return fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=called("validate"), description=__doc__)
    parser.add_argument(
        "runs", type=Path, metavar="RUNS",
        help="table of measured runs (CSV, also gzipped, or Parquet), the JSON result of a "
        "benchmark client (vllm bench serve, guidellm, AIPerf, ...), or a folder of such results",
    )  # fmt: skip
    parser.add_argument("--out", required=True, metavar="DIR", help="results folder")
    parser.add_argument(
        "--set", action="append", default=[], dest="given", metavar="COLUMN=VALUE",
        help="a cell of every row, such as gpu=h100 or tp=2; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace results of ours that are of other settings; files of yours never are",
    )  # fmt: skip
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="rows whose run_id contains this"
    )
    parser.add_argument("--jobs", type=processes, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--seeds",
        type=between(1, 10_000),
        default=SEEDS,
        help="simulations of a run whose requests are drawn",
    )
    parser.add_argument(
        "--calibration", metavar="NAME|FILE", help="prices of all runs; default: by GPU and version"
    )
    parser.add_argument(
        "--calibration-draws", type=between(0, 10_000), default=0, metavar="K",
        help="calibrations drawn from each one's covariance, for the intervals",
    )  # fmt: skip
    parser.add_argument(
        "--ablation", action="store_true", help="also predict with parts switched off"
    )
    return parser


def _given(words: Sequence[str]) -> dict[str, str]:
    """Cells of ``--set``. Raises StudyError for what is no column."""
    cells = {}
    for word in words:
        column, equals, value = word.partition("=")
        if not equals or column not in COLUMNS:
            hint = nearest(column, COLUMNS)
            raise StudyError.of(f"--set {word}: expected COLUMN=VALUE, a column of a table{hint}")
        cells[column] = value
    return cells


def _run(options: argparse.Namespace) -> int:
    try:
        re.compile(options.only)
    except re.error as error:
        raise StudyError.of(f"--only {options.only}: not a regular expression: {error}") from None
    if options.calibration is not None:
        check_calibration(options.calibration)
    place = results_folder(chosen_folder(options.out, ""))
    table = read_table(options.runs, _given(options.given))
    for column in table.unread:
        print(f"not read: column {column}{nearest(column, COLUMNS)}", file=sys.stderr)
    planned = plan(table, options.only, options.seeds, options.calibration)
    if not planned.tasks and not planned.skipped:
        raise StudyError.of(f"--only {options.only}: no run_id of {options.runs} contains it")
    identity = identity_of(table, planned, options)
    wanted = Wanted(FILES, f"a comparison with {options.runs.name}", identity, options.overwrite)
    with claimed(place, wanted) as work:
        predictions, skipped = _predicted(planned, options)
        ablation = None
        if options.ablation:
            ablation = ablation_table(planned.tasks, options.jobs)
        summary = write_results(work.new, predictions, skipped, ablation)
        publish(work, facts_of(predictions, skipped, options))
    print(headline(predictions, skipped))
    print(summary_text(summary))
    if ablation is not None:
        print(ablation_text(ablation))
    for reason, count in Counter(_short(one) for one in skipped).most_common():
        print(f"not predicted: {count_of(count, 'row')}: {reason}", file=sys.stderr)
    print(f"results are in {options.out}", file=sys.stderr)
    return 0


def _predicted(
    planned: Plan, options: argparse.Namespace
) -> tuple[list[Prediction], list[Skipped]]:
    with Bar(len(planned.tasks)) as bar:
        predictions, failed = predict(
            planned.tasks,
            draws=options.calibration_draws,
            jobs=options.jobs,
            done=bar.advance,
        )
    return predictions, [*planned.skipped, *failed]


def _short(one: Skipped) -> str:
    text = " ".join(one.reason.split())
    return text if len(text) <= 160 else f"{text[:157]}..."
