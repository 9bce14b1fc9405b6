"""What the terminal shows of a validation: progress, and the errors that matter."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from experiments.reporting.terminal import console
from experiments.validation.predict import Prediction, Task
from experiments.validation.rows import Skipped
from experiments.validation.tables import LOADS
from model.counts import count_of

if TYPE_CHECKING:
    from pandas import DataFrame

HEADLINE = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_mean_ms", "e2e_mean_ms",
            "e2e_p99_ms", "out_tok_s", "req_s")  # fmt: skip
"""Metrics of the table; summary.csv has all."""


class Bar:
    """A progress bar on stderr, or a line per tenth where stderr is no terminal."""

    def __init__(self, total: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._total, self._finished = total, 0
        self._plain = not sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console(sys.stderr), transient=True, disable=self._plain,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, _: Task) -> None:
        """One run more has been simulated."""
        before, self._finished = self._finished, self._finished + 1
        self._bar.update(self._task, advance=1)
        if self._plain and 10 * before // self._total != 10 * self._finished // self._total:
            whole = count_of(self._total, "run")
            print(f"simulated {self._finished} of {whole}", file=sys.stderr)


def headline(predictions: Sequence[Prediction], skipped: Sequence[Skipped]) -> str:
    """Return how many rows were predicted, and loudly which of them at bare peaks."""
    bare = sum(one.calibration == "none" for one in predictions)
    rows = count_of(len(predictions), "row")
    lines = [f"{rows} predicted, {len(skipped)} not (skipped.csv says why)"]
    if bare:
        gpus = ", ".join(sorted({one.gpu for one in predictions if one.calibration == "none"}))
        lines.append(
            f"NOT CALIBRATED: {count_of(bare, 'row')} priced at the datasheet's peaks ({gpus}); "
            "such prices are a bound and no forecast"
        )
    return "\n".join(lines)


def summary_text(summary: "DataFrame") -> str:
    """Return the median absolute errors by dataset and load as a table."""
    if not len(summary):
        return "no row could be predicted"
    lines = []
    for load in LOADS[1:]:
        part = summary[(summary.load == load) & summary.group.isin(("all", "dataset"))]
        if len(part):
            lines += [f"median absolute error %, {load} (rows)", *_table(part), ""]
    return "\n".join(lines).rstrip()


def ablation_text(table: "DataFrame") -> str:
    """Return the ablation table."""
    lines = []
    for load, part in table.groupby("load", sort=False):
        if not part.rows.max():
            continue
        names = [str(name) for name in part.columns]
        names = [name for name in names if name.endswith("_pct") and part[name].notna().any()]
        heads = [name.removesuffix("_median_abs_error_pct") for name in names]
        lines.append(
            f"ablation: median absolute error %, {load} ({count_of(part.rows.max(), 'row')})"
        )
        lines.append("  ".join([f"{'':22}", *(f"{head:>14}" for head in heads)]))
        for _, row in part.iterrows():
            cells = (f"{row[name]:14.1f}" for name in names)
            lines.append("  ".join([f"{row.level:22}", *cells]))
        lines.append("")
    return "\n".join(lines).rstrip()


def _table(part: "DataFrame") -> list[str]:
    metrics = [metric for metric in HEADLINE if (part.metric == metric).any()]
    lines = ["  ".join([f"{'':22}", *(f"{metric:>14}" for metric in metrics)])]
    for value, rows in part.groupby("value", sort=True):
        cells = []
        for metric in metrics:
            found = rows[rows.metric == metric]
            text = (
                f"{found.median_abs_error_pct.iloc[0]:.1f} ({found.rows.iloc[0]})"
                if len(found) and found.rows.iloc[0]
                else "-"
            )
            cells.append(f"{text:>14}")
        lines.append("  ".join([f"{value:22}", *cells]))
    return lines
