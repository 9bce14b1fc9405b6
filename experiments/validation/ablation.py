"""What each part of the model is worth: errors with parts switched off."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.validation.levels import LEVELS
from experiments.validation.predict import Task, predict
from experiments.validation.tables import errors_table

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = (
    "ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_mean_ms", "e2e_mean_ms", "e2e_p99_ms",
    "out_tok_s",
)  # fmt: skip
"""Metrics of the table."""


def ablation_table(tasks: Sequence[Task], jobs: int) -> "DataFrame":
    """Return the median absolute error of each metric at each level, below and above saturation.

    Columns: level, load, rows, and ``<metric>_median_abs_error_pct`` of ``SHOWN``. Which rows are
    saturated is decided at the last level, for all alike.
    """
    import pandas as pd

    found = [predict(tasks, level=level, jobs=jobs)[0] for level in LEVELS]
    saturated = {one.row.run_id for one in found[-1] if one.saturated}
    rows = []
    for level, predictions in zip(LEVELS, found, strict=True):
        errors = errors_table(predictions)
        above = errors.run_id.isin(saturated)
        for load, part in (
            ("below saturation", errors[~above]),
            ("above saturation", errors[above]),
        ):
            row: dict[str, object] = {
                "level": level.name, "load": load, "rows": part.run_id.nunique()
            }  # fmt: skip
            for metric in SHOWN:
                of_metric = part[part.metric == metric].abs_error_pct
                row[f"{metric}_median_abs_error_pct"] = of_metric.median()
            rows.append(row)
    return pd.DataFrame(rows)
