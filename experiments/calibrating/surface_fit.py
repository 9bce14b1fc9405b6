"""Fits a surface to points, and says how well it predicts points that it has not seen.

Every fifth shape is left out of a first fit, which is asked to predict it; what is kept is fitted
to all. Least squares on logarithms, with a penalty on bends, reweighted towards least absolute
errors so that single stray timings do not matter.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hardware.prices.kernels import HeldOut
from hardware.prices.surface import Surface, corners

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]
Axes = dict[str, tuple[float, ...]]

SMOOTHING = 0.03
"""Weight of squared second differences in the logarithms, against one squared log error."""
ROUNDS = 4
"""Of reweighting."""
LEAST_LOG = 0.02
"""Below this log error all shapes weigh alike."""
HELD_OUT_PART = 5
"""One shape of so many is predicted, not fitted."""
POSSIBLE = 1.05
"""Share of a peak beyond which a kernel cannot have run: clocks and counts are that far off."""


def fit_surface(
    axes: Axes, points: Mapping[str, Floats], values: Floats, most: float = np.inf
) -> Surface:
    """Return the surface that is nearest to ``values`` at ``points``.

    Args:
        axes: the nodes wanted; those beyond the points are left out.
        points: coordinates by axis, shape (points,).
        values: positive, shape (points,).
        most: largest value of a node; where no point is near one, bends may lead beyond.
    """
    from scipy.sparse import csr_matrix, identity
    from scipy.sparse.linalg import spsolve

    axes = {name: _covered(nodes, points[name]) for name, nodes in axes.items()}
    design = _design(axes, [points[name] for name in axes])
    bends = _bends(axes)
    penalty = SMOOTHING * (bends.T @ bends) + 1e-6 * identity(design.shape[1])
    wanted = np.log(values)
    weights = np.ones(len(wanted))
    logs = np.zeros(design.shape[1])
    for _ in range(ROUNDS):
        weighted = csr_matrix(design.multiply(weights[:, None]))
        logs = np.asarray(spsolve((design.T @ weighted + penalty).tocsc(), weighted.T @ wanted))
        weights = LEAST_LOG / np.maximum(np.abs(design @ logs - wanted), LEAST_LOG)
    return Surface(axes=axes, values=tuple(np.minimum(np.exp(logs), most).tolist()))


def _covered(nodes: tuple[float, ...], at: Floats) -> tuple[float, ...]:
    """Nodes from the last one at or below the points to the first one at or above them."""
    low = max((node for node in nodes if node <= at.min() * 1.001), default=nodes[0])
    high = min((node for node in nodes if node >= at.max() * 0.999), default=nodes[-1])
    return tuple(node for node in nodes if low <= node <= high)


def _design(axes: Axes, points: list[Floats]) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    places, shares = corners(axes, points)
    rows = np.tile(np.arange(len(points[0])), len(places))
    size = int(np.prod([len(nodes) for nodes in axes.values()]))
    return csr_matrix((shares.ravel(), (rows, places.ravel())), shape=(len(points[0]), size))


def _bends(axes: Axes) -> "csr_matrix":
    """Second differences of the values along every axis, one row each."""
    from scipy.sparse import csr_matrix, identity, kron, vstack

    blocks = [csr_matrix((0, int(np.prod([len(nodes) for nodes in axes.values()]))))]
    for bent in axes:
        block: Any = identity(1)
        for name, nodes in axes.items():
            size = len(nodes)
            block = kron(block, _second_differences(nodes) if name == bent else identity(size))
        blocks.append(block.tocsr())
    return csr_matrix(vstack(blocks))


def _second_differences(nodes: tuple[float, ...]) -> Floats:
    steps = np.diff(np.log(np.array(nodes)))
    rows = np.zeros((max(0, len(nodes) - 2), len(nodes)))
    for place in range(len(rows)):
        left, right = 1.0 / steps[place], 1.0 / steps[place + 1]
        rows[place, place : place + 3] = (left, -left - right, right)
    return rows


def held_out(shapes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Choose every fifth of the distinct ``shapes`` at random; say which rows have one of them."""
    names, which = np.unique(shapes, return_inverse=True)
    left_out = np.zeros(len(names), dtype=bool)
    order = np.random.default_rng(0).permutation(len(names))
    left_out[order[::HELD_OUT_PART]] = True
    return np.asarray(left_out[which])


def check(predicted: Floats, measured: Floats) -> HeldOut:
    """Summarise relative errors."""
    errors = np.abs(predicted / measured - 1.0)
    return HeldOut(
        median=round(float(np.median(errors)), 4),
        p90=round(float(np.quantile(errors, 0.9)), 4),
        kernels=len(errors),
    )


def fit_and_check(
    axes: Axes, points: Mapping[str, Floats], values: Floats, shapes: npt.NDArray[Any]
) -> tuple[Surface, HeldOut]:
    """Fit a surface of shares to all points; say how one that has not seen some predicts those."""
    unseen = held_out(shapes)
    seen = {name: at[~unseen] for name, at in points.items()}
    trial = fit_surface(axes, seen, values[~unseen], POSSIBLE)
    predicted = trial(**{name: at[unseen] for name, at in points.items()})
    # A share of the roofline is a reciprocal of time.
    surface = fit_surface(axes, points, values, POSSIBLE)
    return surface, check(values[unseen], predicted)
