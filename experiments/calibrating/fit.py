"""Fits a calibration to measured steps: bounded least squares on relative errors.

Unknowns are the logarithms of efficiencies and overheads, so that none can become negative. Every
evaluation prices the measured shapes with ``StepCost`` itself: what is fitted is what simulates.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.calibrating.measure import EVERY_BATCH, Measurement, Shape
from hardware.calibration import Calibration
from hardware.evidence import Covariance, CoveredRange, Residuals
from hardware.gpu import Gpu
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.dataclass import dataclass
from model.precision import Precision
from model.spec import DecoderSpec

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

Floats = npt.NDArray[np.float64]

HELD_OUT_EVERY = 4
"""Every fourth shape is not fitted but predicted."""

PRIOR_WEIGHT = 1e-3
"""A parameter off its first value by a factor of e costs as much as one step priced 0.1% wrong:
enough to keep what the measurements do not determine from wandering to a bound."""
CURVE_WEIGHT = 1e-2
"""The same for the curve: the fewer bends, the better overheads and curve are told apart."""
ENOUGH = 1e-6
"""Share of the cost below which a step of the fit is its last: parameters keep four digits, while
noise moves them in the second. Half the time of scipy's 1e-8."""
PRIOR_STD = 0.3
"""What is known of a parameter's logarithm without any measurement; bounds its uncertainty."""

_BOUNDS: dict[str, tuple[float, float, float]] = {
    "gemm_flops": (0.02, 0.7, 1.5),
    "gemm_bytes": (0.02, 0.7, 1.5),
    "gemm_overlap": (0.01, 0.5, 1.0),
    "attention_prefill_flops": (0.005, 0.3, 1.5),
    "attention_prefill_bytes": (0.005, 0.5, 1.5),
    "attention_decode_bytes": (0.005, 0.5, 1.5),
    "elementwise_bytes": (0.02, 0.5, 1.5),
    "step_overhead_s": (1e-6, 5e-4, 5e-2),
    "sequence_overhead_s": (1e-8, 3e-5, 2e-3),
    "chunk_overhead_s": (1e-8, 5e-5, 5e-3),
}
"""Lowest, first and highest value of every fitted parameter."""
_CURVE_BOUNDS = (0.3, 1.0, 3.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration, and how it prices every measured shape."""

    calibration: Calibration
    measurements: tuple[Measurement, ...]
    predicted_s: Floats
    held_out: npt.NDArray[np.bool_]

    @property
    def errors(self) -> Floats:
        """Predicted over measured, minus one."""
        measured = np.array([each.seconds for each in self.measurements])
        return np.asarray(self.predicted_s / measured - 1.0)

    @property
    def poor(self) -> bool:
        """Whether the held-out errors are beyond what one may rely on."""
        residuals = self.calibration.residuals
        assert residuals is not None
        return residuals.poor


@dataclass(frozen=True, slots=True)
class Target:
    """What was measured: the model as built, its numbers, and the device."""

    spec: DecoderSpec
    gpu: Gpu
    precision: Precision
    fused: bool = True

    def price(self, calibration: Calibration, shapes: Sequence[Shape]) -> StepCost:
        """The step cost that covers all ``shapes``."""
        return self._cost(calibration, *_sizes(shapes))

    def _cost(self, calibration: Calibration, max_tokens: int, max_seqs: int) -> StepCost:
        return step_cost(
            StepSetup(
                spec=self.spec,
                gpu=self.gpu,
                precision=self.precision,
                calibration=calibration,
                fused=self.fused,
                max_tokens=max_tokens,
                max_seqs=max_seqs,
            )
        )

    def seconds(self, calibration: Calibration, shapes: Sequence[Shape]) -> Floats:
        """Price every shape."""
        return self.pricing(shapes)(calibration)

    def pricing(self, shapes: Sequence[Shape]) -> Callable[[Calibration], Floats]:
        """Return what prices every shape with any calibration: a fit asks a thousand times."""
        sizes = _sizes(shapes)
        steps: list[tuple[int, list[int], tuple[tuple[int, int], ...]]] = []

        def reads(shape: Shape, windows: Sequence[int | None]) -> list[int]:
            """Return the positions that a shape attends to, one sum for each window."""
            longest = max(shape.contexts, default=0)
            most = [window or longest for window in windows]
            return [sum(min(context, each) for context in shape.contexts) for each in most]

        def seconds(calibration: Calibration) -> Floats:
            price = self._cost(calibration, *sizes)
            if not steps:  # what shapes read depends on the model alone
                steps.extend((len(s.contexts), reads(s, price.windows), s.chunks) for s in shapes)
            return np.array([price.step_s(*step) for step in steps])

        return seconds


def _sizes(shapes: Sequence[Shape]) -> tuple[int, int]:
    """The most tokens, and sequences, of a shape."""
    sequences = max(len(shape.contexts) + len(shape.chunks) for shape in shapes)
    return max(shape.tokens for shape in shapes), sequences


def fit(target: Target, measurements: Sequence[Measurement], **named: str) -> Fit:
    """Fit a calibration to measured steps.

    ``named``: ``name``, ``source``, ``software`` of the calibration.

    The covariance is that of the logarithms, ``(J^T J / s^2 + I / PRIOR_STD^2)^-1`` with ``s^2``
    the mean squared relative residual, carried to the parameters by the delta method.

    Raises:
        ValueError: fewer fitted shapes than unknowns.
    """
    from scipy.optimize import least_squares

    shapes = [each.shape for each in measurements]
    measured = np.array([each.seconds for each in measurements])
    seconds = target.pricing(shapes)
    held_out = np.arange(len(shapes)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    nodes = _nodes(max(shape.tokens for shape in shapes))
    bounds = np.array([*_BOUNDS.values(), *[_CURVE_BOUNDS] * (len(nodes) - 1)])
    if (~held_out).sum() < len(bounds):
        raise ValueError(
            f"{(~held_out).sum()} measured shapes cannot determine {len(bounds)} parameters: this "
            "machine is too busy or too slow for the time budget (measuring.budget_s, --budget-s), "
            "raise it"
        )

    def calibration(logs: Floats, **more: object) -> Calibration:
        """Return the calibration at a place of the search: logarithms of its parameters."""
        values = np.exp(logs)
        fields = dict(zip(_BOUNDS, values[: len(_BOUNDS)].tolist(), strict=True))
        # The last node is 1, so that gemm_flops is the efficiency of the largest step.
        curve = zip(nodes, [*values[len(_BOUNDS) :].tolist(), 1.0], strict=True)
        fixed: dict[str, object] = {"name": "fit", "source": "fit", "gemm_curve": tuple(curve)}
        return Calibration.model_validate(fixed | fields | named | more)

    weights = np.array([PRIOR_WEIGHT] * len(_BOUNDS) + [CURVE_WEIGHT] * (len(nodes) - 1))

    def residuals(logs: Floats) -> Floats:
        """Return relative errors of the fitted shapes, then the distance from the prior."""
        errors = seconds(calibration(logs)) / measured - 1.0
        return np.concatenate((errors[~held_out], weights * (logs - first)))

    low, first, high = np.log(bounds).T
    found = least_squares(
        residuals, first, bounds=(low - 1e-9, high), loss="soft_l1", f_scale=0.05, ftol=ENOUGH
    )
    predicted_s = seconds(calibration(found.x))
    errors = np.abs(predicted_s / measured - 1.0)[held_out]
    done = calibration(
        found.x,
        gpu=target.gpu.name,
        covariance=_covariance(found, low, high),
        residuals=Residuals(
            mean_absolute=float(errors.mean()),
            worst_absolute=float(errors.max()),
            points=int(held_out.sum()),
        ),
        covered=_covered(shapes),
    )
    return Fit(done, tuple(measurements), predicted_s, held_out)


def pooled(target: Target, first: Fit, second: Fit) -> Fit:
    """Fit the means of two measurements of the same shapes: a drift between them cancels.

    Shapes that only one of them has are left out; name, source and device are of the first.

    Raises:
        ValueError: too few shapes in common.
    """
    again = {each.shape: each for each in second.measurements}
    both = [
        Measurement(
            shape=one.shape,
            seconds=(one.seconds + again[one.shape].seconds) / 2,
            repeats=one.repeats + again[one.shape].repeats,
            mean_s=(one.mean_s + again[one.shape].mean_s) / 2,
        )
        for one in first.measurements
        if one.shape in again
    ]
    of_first = first.calibration
    found = fit(
        target,
        both,
        name=of_first.name,
        source=f"{of_first.source}; pooled with a second measurement",
        software=of_first.software or "",
    )
    calibration = found.calibration.model_copy(update={"device": of_first.device})
    return Fit(calibration, found.measurements, found.predicted_s, found.held_out)


def _nodes(max_tokens: int) -> list[int]:
    """Rows at which the efficiency of matrix products is fitted; libraries have kernels for few."""
    nodes = (*range(1, EVERY_BATCH + 1), 32, 128, 512, 2048, 8192)
    return [*(node for node in nodes if node < max_tokens), max_tokens]


def _covered(shapes: Sequence[Shape]) -> CoveredRange:
    contexts = [max(s.contexts, default=1) for s in shapes]
    chunks = [sum(chunk) for s in shapes for chunk in s.chunks]
    return CoveredRange(
        max_step_tokens=max(s.tokens for s in shapes),
        max_context_tokens=max(*contexts, *chunks),
        max_decodes=max(1, *(len(s.contexts) for s in shapes)),
    )


def _covariance(found: "OptimizeResult", low: Floats, high: Floats) -> Covariance:
    """Covariance of the parameters that stayed off their bounds; the others are taken as fixed."""
    logs: Floats = found.x
    jacobian: Floats = found.jac
    residuals: Floats = found.fun
    nodes = len(logs) - len(_BOUNDS)
    names = [*_BOUNDS, *(f"gemm_curve[{node}]" for node in range(nodes))]
    free = np.flatnonzero((logs > low + 1e-3) & (logs < high - 1e-3))
    steps = len(residuals) - len(logs)  # residuals end with the priors
    columns = jacobian[:steps, free]
    squares = float((residuals[:steps] ** 2).sum())
    variance = max(squares / max(1, steps - len(free)), 1e-12)
    values = np.exp(logs[free])
    known = columns.T @ columns / variance + np.eye(len(free)) / PRIOR_STD**2
    matrix = np.linalg.inv(known) * np.outer(values, values)
    matrix = (matrix + matrix.T) / 2
    return Covariance(
        parameters=tuple(names[place] for place in free),
        matrix=tuple(tuple(row) for row in matrix.tolist()),
    )
