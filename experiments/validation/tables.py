"""Predictions beside measurements: errors of every row, and their means and medians by group."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from experiments.validation.figures import ABOVE, BELOW, ONLY_SIMULATED
from experiments.validation.predict import Prediction
from experiments.validation.rows import Skipped

if TYPE_CHECKING:
    from pandas import DataFrame

ERRORS = (
    "run_id", "metric", "measured", "predicted", "predicted_lo", "predicted_hi",
    "error_pct", "abs_error_pct",
)  # fmt: skip
"""Columns of errors.csv."""

GROUPS = ("all", "gpu", "model", "dataset", "engine_version", "tier")
"""What summary.csv groups by."""

LOADS = ("all", BELOW, ABOVE, ONLY_SIMULATED)


def errors_table(predictions: Iterable[Prediction]) -> "DataFrame":
    """Return one row per measured metric of each predicted row, with the columns ``ERRORS``.

    ``error_pct`` is ``100 (predicted / measured - 1)``. A metric that a run has no value for, e.g.
    because nobody was answered, has no prediction and no error.
    """
    import pandas as pd

    rows = []
    for one in predictions:
        for metric, measured in one.row.measured.items():
            value, low, high = one.values[metric]
            error = 100 * (value / measured - 1) if measured > 0 else float("nan")
            rows.append((one.row.run_id, metric, measured, value, low, high, error, abs(error)))
    return pd.DataFrame(rows, columns=list(ERRORS))


def summary_table(predictions: Sequence[Prediction], errors: "DataFrame") -> "DataFrame":
    """Return the mean and median absolute error of each metric, by group and by load.

    Columns: group, value, load, metric, rows (those that have an error), mean_abs_error_pct,
    median_abs_error_pct, median_error_pct (its sign tells too slow from too fast), calibration.
    """
    import pandas as pd

    about = pd.DataFrame(
        {
            "run_id": [one.row.run_id for one in predictions],
            "all": "all",
            "gpu": [one.gpu for one in predictions],
            "model": [one.model for one in predictions],
            "dataset": [one.row.dataset or "unnamed" for one in predictions],
            "engine_version": [one.row.engine_version or "unknown" for one in predictions],
            "tier": [one.row.tier or "unnamed" for one in predictions],
            "load": [one.load for one in predictions],
            "calibration": [one.calibration for one in predictions],
        }
    )
    # Of no rows pandas takes names for numbers.
    merged = errors.merge(about.astype({"run_id": object}), on="run_id")
    rows = []
    for group in GROUPS:
        for value, part in merged.groupby(group, sort=True):
            for load in LOADS:
                some = part if load == "all" else part[part.load == load]
                for metric, of_metric in some.groupby("metric", sort=False):
                    known = of_metric[of_metric.abs_error_pct.notna()]
                    rows.append(
                        {
                            "group": group,
                            "value": value,
                            "load": load,
                            "metric": metric,
                            "rows": len(known),
                            "mean_abs_error_pct": known.abs_error_pct.mean(),
                            "median_abs_error_pct": known.abs_error_pct.median(),
                            "median_error_pct": known.error_pct.median(),
                            "calibration": "; ".join(sorted(set(of_metric.calibration))),
                        }
                    )
    return pd.DataFrame(rows)


def skipped_table(skipped: Iterable[Skipped]) -> "DataFrame":
    """Return the rows that were not predicted, and why."""
    import pandas as pd

    rows = [(one.run_id, " ".join(one.reason.split())) for one in skipped]
    return pd.DataFrame(rows, columns=["run_id", "reason"])


def assumptions_table(predictions: Iterable[Prediction]) -> "DataFrame":
    """Return what was assumed of each row, and what its prices rest on, one row per remark."""
    import pandas as pd

    rows = [
        (one.row.run_id, one.saturated, one.load, note) for one in predictions for note in one.notes
    ]
    return pd.DataFrame(rows, columns=["run_id", "saturated", "load", "assumption"])
