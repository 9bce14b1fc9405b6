"""``headroom fit RUNS.csv``: constants of an engine from measured runs.

Prints the block that belongs into ``hardware/engines.yaml``, and how well constants that were
fitted without a run (or without a model) predict it.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, between, called, fail, processes, run_command
from model.counts import count_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from experiments.validation.fitting import Fitted
    from experiments.validation.predict import Task

DEFAULT = (
    "attention_decode_bytes", "attention_decode_start", "elementwise_bytes", "layer_overhead_s",
    "sequence_overhead_s", "collective_overhead_s", "chunk_overhead_s", "idle_start_s",
    "api_request_s", "api_loop_output_s",
)  # fmt: skip
"""What is fitted unless the command line says otherwise."""


SHOWN = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_mean_ms", "e2e_mean_ms", "e2e_p99_ms")
"""Metrics that cross-validation reports."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=called("fit"), description=__doc__)
    parser.add_argument("runs", type=Path, metavar="RUNS.csv", help="table of measured runs")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows to fit, by run_id")
    parser.add_argument("--constants", default=",".join(DEFAULT), metavar="A,B,...")
    parser.add_argument(
        "--folds", type=between(0, 10_000), default=0, help="cross-validation over runs"
    )
    parser.add_argument(
        "--leave-out-models", action="store_true", help="cross-validation over models, too"
    )
    parser.add_argument("--jobs", type=processes, default=2)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Fit, print, cross-validate; 2 when the input is wrong or a worker was killed."""
    return run_command(_command, _parser(), argv, "nothing was fitted")


def _command(arguments: argparse.Namespace) -> int:
    from experiments.study.errors import RunError

    try:
        _run(arguments)
    except (ValueError, RunError) as error:
        return fail(str(error))
    return 0


def _run(arguments: argparse.Namespace) -> None:
    from experiments.validation.fitting import BOUNDS, fit_constants
    from experiments.validation.predict import plan
    from experiments.validation.rows import read_table

    names = [name.strip() for name in arguments.constants.split(",")]
    unknown = [name for name in names if name not in BOUNDS]
    if unknown:
        raise ValueError(f"--constants {','.join(unknown)}: expected some of {', '.join(BOUNDS)}")
    tasks = list(plan(read_table(arguments.runs), arguments.only, seeds=1).tasks)
    if not tasks:
        raise ValueError(f"--only {arguments.only!r}: no run matches")
    tell = partial(print, file=sys.stderr)
    found = fit_constants(tasks, names, jobs=arguments.jobs, tell=tell)
    print(_block(found))
    groups = {}
    if arguments.folds > 1:
        folds = min(arguments.folds, len(tasks))
        groups["folds"] = [tasks[fold::folds] for fold in range(folds)]
    if arguments.leave_out_models:
        models = dict.fromkeys(task.setup.spec.name for task in tasks)
        groups["models"] = [[t for t in tasks if t.setup.spec.name == model] for model in models]
    for kind, parts in groups.items():
        table = cross_validate(parts, found, arguments.jobs)
        print(f"\nmedian absolute error % of rows that were not fitted, leaving out {kind}:")
        print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}"))


def cross_validate(parts: "list[list[Task]]", found: "Fitted", jobs: int) -> "DataFrame":
    """Predict each part with constants that have not seen it; one row per metric and dataset.

    Rows of saturated runs are left out.
    """
    import pandas as pd

    from experiments.validation.fitting import priced
    from experiments.validation.predict import predict

    errors: dict[tuple[str, str], list[float]] = {}
    for part in parts:
        values = found.without({row.run_id for task in part for row in task.rows})
        for one in predict(part, partial(priced, constants=values), jobs=jobs)[0]:
            if one.saturated:
                continue
            for metric in SHOWN:
                if one.row.measured.get(metric):
                    error = 100 * abs(one.values[metric][0] / one.row.measured[metric] - 1.0)
                    errors.setdefault((one.row.dataset, metric), []).append(error)
    return pd.DataFrame(
        {
            "dataset": [dataset for dataset, _ in errors],
            "metric": [metric for _, metric in errors],
            "rows": [len(each) for each in errors.values()],
            "median": [pd.Series(each).median() for each in errors.values()],
            "mean": [pd.Series(each).mean() for each in errors.values()],
        }
    ).sort_values(["dataset", "metric"])


def _block(found: "Fitted") -> str:
    """What to write into engines.yaml."""
    values = ", ".join(f"{name}: {value:.3g}" for name, value in found.values.items())
    std = ", ".join(f"{name}: {value:.2g}" for name, value in found.std.items())
    return (
        f"# {count_of(found.runs, 'run')}, residuals {found.rms:.2f} of their scales (rms)\n"
        f"values: {{{values}}}\nstd: {{{std}}}"
    )
