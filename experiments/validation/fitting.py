"""Fits an engine's constants to measured runs: a handful per version, by least squares.

Residuals are logarithms of predicted over measured, of a few metrics, each over what repetitions of
a run differ by plus what the model's form may miss. Every evaluation simulates the runs with
``predict``, so what is fitted is what predicts. Runs weigh alike, however many rows they have.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from experiments.validation.figures import ABOVE
from experiments.validation.predict import Prediction, Task, predict
from hardware.calibration import Calibration
from hardware.engines.constants import constants_of, engine_calibration
from model.counts import count_of
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]

SCALES = {"ttft_mean_ms": 0.05, "ttft_p99_ms": 0.15, "tpot_mean_ms": 0.02, "e2e_mean_ms": 0.02}
"""Log errors of one standard deviation; itl_mean stands in where no tpot_mean was published."""

SATURATED_SCALES = {"tpot_mean_ms": 0.03, "out_tok_s": 0.03}
"""The same where queues grew: latencies then tell how long the run was."""
SOFT = 2.0
"""From so many standard deviations on a residual grows with its root."""

BOUNDS: dict[str, tuple[float, float, float]] = {
    "gemm_share": (0.5, 0.95, 1.0),
    "gemm_arithmetic": (0.6, 0.9, 1.05),
    "attention_decode_bytes": (0.4, 0.85, 1.0),
    "attention_decode_small_cache": (0.4, 0.8, 1.0),
    "attention_decode_start": (0.2, 0.5, 1.0),
    "elementwise_bytes": (0.15, 0.4, 1.0),
    "layer_overhead_s": (1e-6, 1.5e-5, 1e-4),
    "step_overhead_s": (1e-6, 2e-4, 2e-2),
    "sequence_overhead_s": (1e-8, 8e-7, 2e-4),
    "collective_overhead_s": (1e-8, 6e-7, 1e-4),
    "chunk_overhead_s": (1e-7, 2e-5, 1e-2),
    "idle_start_s": (1e-5, 5e-3, 2e-2),
    "api_request_s": (1e-5, 3e-3, 5e-2),
    "api_token_s": (1e-8, 6e-6, 2e-5),
    "api_loop_output_s": (1e-6, 7e-5, 4e-4),
}
"""Lowest, first and highest value of every constant that can be fitted."""

PRIOR = 2.0
"""Standard deviation of a constant's logarithm around its first value: it keeps what the runs do
not determine from wandering."""
STEP = 0.05
"""Of the finite differences, in the logarithm."""
ROUNDS = 5
ENOUGH = 0.005
"""Share of the squares below which a round is the last."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants, how uncertain they are, and what they were fitted to."""

    values: dict[str, float]
    std: dict[str, float]
    """Standard errors; a constant that the runs do not determine has about its own size."""
    rms: float
    """Root mean square of the residuals, in standard deviations."""
    runs: int
    rows: tuple[str, ...]
    """``run_id metric`` of every residual."""
    residuals: Floats
    """Those of the rows, then those of the prior."""
    jacobian: Floats
    """Their derivatives by the constants' logarithms, at the values."""

    def without(self, run_ids: Collection[str]) -> dict[str, float]:
        """Return the constants as fitted without some rows: one Gauss-Newton step from here.

        Exact as far as predictions are linear in the logarithms between the two fits.
        """
        kept = np.array([row.split(" ")[0] not in run_ids for row in self.rows])
        kept = np.concatenate((kept, np.ones(len(self.values), dtype=bool)))
        step = np.linalg.lstsq(self.jacobian[kept], -self.residuals[kept], rcond=None)[0]
        low, high = (np.array([BOUNDS[name][end] for name in self.values]) for end in (0, 2))
        moved = np.array(list(self.values.values())) * np.exp(np.clip(step, -1.5, 1.5))
        return dict(zip(self.values, np.clip(moved, low, high).tolist(), strict=True))


def fit_constants(
    tasks: Sequence[Task],
    names: Sequence[str],
    *,
    rounds: int = ROUNDS,
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> Fitted:
    """Fit the constants ``names`` to the runs of ``tasks``; all others keep the engine's values.

    Gauss-Newton in the logarithms, with a prior and with steps that are halved until they help.

    Args:
        tasks: runs of one version.
        names: of ``BOUNDS``.
        rounds: most steps.
        jobs: processes.
        tell: told the progress.

    Raises:
        ValueError: fewer measured figures than constants.
    """
    low, first, high = (np.log([BOUNDS[name][place] for name in names]) for place in range(3))
    rows: list[str] = []

    def residuals(logs: Floats) -> Floats:
        """Return errors of the measured figures, and behind them the distance from the prior."""
        found = _residuals(tasks, dict(zip(names, np.exp(logs).tolist(), strict=True)), jobs)
        if not rows:
            rows.extend(found)
            if len(rows) < len(names):
                told = f"{count_of(len(rows), 'measured figure')} cannot determine "
                told += count_of(len(names), "constant")
                raise ValueError(told)
        # A row that saturates with a trial's constants says nothing about them but that.
        kept = [found.get(row, 3.0) for row in rows]
        return np.concatenate((kept, (logs - first) / PRIOR))

    at, current, jacobian = _descended(
        residuals, first, low, high, rounds, lambda turn, now: tell(f"round {turn}: rms {now:.3f}")
    )
    values = np.exp(at)
    variance = max(1.0, _rms(current, len(rows)) ** 2)
    told = jacobian[: len(rows)]  # the other rows are the prior, which is exact
    covariance = np.linalg.inv(told.T @ told / variance + np.eye(len(names)) / PRIOR**2)
    std = np.sqrt(np.diag(covariance)) * values
    return Fitted(
        values=dict(zip(names, values.tolist(), strict=True)),
        std=dict(zip(names, std.tolist(), strict=True)),
        rms=_rms(current, len(rows)),
        runs=len({task.run.name for task in tasks}),
        rows=tuple(rows),
        residuals=current,
        jacobian=jacobian,
    )


def _descended(
    residuals: Callable[[Floats], Floats],
    first: Floats,
    low: Floats,
    high: Floats,
    rounds: int,
    tell: Callable[[int, float], None],
) -> tuple[Floats, Floats, Floats]:
    """Return where the squares are least, the residuals there, and their derivatives.

    Args:
        residuals: of a place; the last ``len(first)`` are those of the prior.
        first: where to begin.
        low: bounds of a place.
        high: the other bounds.
        rounds: most steps.
        tell: told each round and the root mean square of what is not the prior.
    """

    def derivatives(at: Floats, current: Floats) -> Floats:
        """Return the Jacobian by one-sided differences, shape (residuals, constants)."""
        columns = []
        for place in range(len(at)):
            moved = at.copy()
            moved[place] += STEP if moved[place] + STEP <= high[place] else -STEP
            columns.append((residuals(moved) - current) / (moved[place] - at[place]))
        return np.column_stack(columns)

    at = first.copy()
    current = residuals(at)
    jacobian = derivatives(at, current)
    for turn in range(rounds):
        step = np.clip(np.linalg.lstsq(jacobian, -current, rcond=None)[0], -1.5, 1.5)
        for halving in (1.0, 0.5, 0.25, 0.125):
            trial = np.clip(at + halving * step, low, high)
            following = residuals(trial)
            gain = 1.0 - (following**2).sum() / (current**2).sum()
            if gain > 0:
                break
        else:
            break
        at, current = trial, following
        jacobian = derivatives(at, current)
        tell(turn + 1, _rms(current, len(current) - len(at)))
        if gain < ENOUGH:
            break
    return at, current, jacobian


def _rms(residuals: Floats, rows: int) -> float:
    return float(np.sqrt((residuals[:rows] ** 2).mean()))


def priced(task: Task, constants: dict[str, float]) -> Calibration:
    """Return a task's own engine calibration with some constants replaced."""
    name = constants_of(".".join(map(str, task.setup.version or ())))
    calibration = engine_calibration(name, task.setup.gpu)
    return calibration.model_copy(update=dict(constants))


def _residuals(tasks: Sequence[Task], constants: dict[str, float], jobs: int) -> dict[str, float]:
    """Residuals by ``run_id metric``, drawn in where they are large: outliers weigh less."""
    predictions, _ = predict(tasks, lambda task: priced(task, constants), jobs=jobs)
    found: dict[str, float] = {}
    for one in predictions:
        if _is_whole_of_stages(one, predictions):
            continue
        measured = one.row.measured
        for metric, scale in (SATURATED_SCALES if one.load == ABOVE else SCALES).items():
            known = metric
            if metric not in measured and metric == "tpot_mean_ms" and "itl_mean_ms" in measured:
                known = "itl_mean_ms"
            if known in measured and np.isfinite(one.values[known][0]):
                error = np.log(one.values[known][0] / measured[known]) / scale
                drawn_in = np.sign(error) * np.sqrt(2 * SOFT * (np.hypot(SOFT, error) - SOFT))
                found[f"{one.row.run_id} {metric}"] = float(drawn_in)
    return found


def _is_whole_of_stages(one: Prediction, predictions: Sequence[Prediction]) -> bool:
    """Whether a row's stages are predicted themselves, so that it would count twice."""
    run_id = one.row.run_id
    if not run_id.endswith("/all"):
        return False
    stages = run_id.removesuffix("all") + "stage"
    return any(other.row.run_id.startswith(stages) for other in predictions)
