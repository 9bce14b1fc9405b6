"""A number over a grid of positive coordinates, interpolated between its nodes.

Efficiencies of measured kernels are kept this way: smooth in the logarithms of their shape, and
constant beyond the outermost nodes, so that an unmeasured shape follows the roofline it is a share
of. In a file the values are text, one line per run along the last axis::

    axes: {m: [1, 64, 1024], n: [1024, 8192]}
    values: |
      0.62 0.81
      0.60 0.80
      0.71 0.84
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

Floats = npt.NDArray[np.float64]


def _numbers(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        return tuple(map(float, text.split()))
    except ValueError as error:
        raise ValueError(f"expected numbers between blanks: {error}") from None


def _written(values: tuple[float, ...]) -> str:
    """Write down numbers, all at once: a study writes thousands of them, to tell its prices."""
    return " ".join(["%.4g"] * len(values)) % values


Values = Annotated[
    tuple[Annotated[float, Field(gt=1e-12, le=1e6)], ...],
    BeforeValidator(_numbers),
    PlainSerializer(_written),
]


class Surface(BaseModel):
    """Positive values on a grid; linear between nodes in the logarithms of all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    axes: dict[str, tuple[Annotated[float, Field(ge=1e-6, le=1e15)], ...]] = Field(min_length=1)
    """Ascending nodes of every coordinate, by its name."""
    values: Values
    """One per node, the last axis fastest."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, nodes in self.axes.items():
            if list(nodes) != sorted(set(nodes)) or not nodes:
                raise ValueError(f"axes.{name} = {list(nodes)}, expected ascending nodes")
        expected = int(np.prod(self.shape))
        if len(self.values) != expected:
            raise ValueError(
                f"{len(self.values)} values, expected {expected}: one per node of "
                f"{' x '.join(f'{name} ({len(nodes)})' for name, nodes in self.axes.items())}"
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along every axis."""
        return tuple(len(nodes) for nodes in self.axes.values())

    def __call__(self, **coordinates: npt.ArrayLike) -> Floats:
        """Return the values at points; coordinates broadcast, and are clipped to the nodes.

        Raises:
            TypeError: other coordinates than the axes.
        """
        if coordinates.keys() != self.axes.keys():
            raise TypeError(f"coordinates {list(coordinates)}, expected {list(self.axes)}")
        arrays = [np.asarray(coordinates[name], float) for name in self.axes]
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        # One number along an axis, such as the width of a matrix, stays one number.
        points = [
            array.ravel() if array.size == 1 else np.broadcast_to(array, shape).ravel()
            for array in arrays
        ]
        places, shares = corners(self.axes, points)
        logs = np.log(np.array(self.values))[places]
        return np.asarray(np.exp((logs * shares).sum(axis=0)).reshape(shape))

    def rows(self) -> list[str]:
        """Return the values as lines of text, one per run along the last axis."""
        table = np.array(self.values).reshape(-1, self.shape[-1])
        return [_written(tuple(row)) for row in table.tolist()]


def corners(
    axes: Mapping[str, tuple[float, ...]], points: list[Any]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return which nodes surround each point, and their shares in its value.

    Args:
        axes: ascending nodes of every coordinate.
        points: the coordinates, one array of shape (points,) per axis, or (1,) for one that all
            points have.

    Returns:
        Places in the flattened grid and shares, both of shape (2 ** axes, points); shares of one
        point add up to 1.
    """
    places = np.zeros((1, len(points[0])), dtype=np.int64)
    shares = np.ones((1, len(points[0])))
    for nodes, at in zip(axes.values(), points, strict=True):
        low, share = _bracket(np.log(np.array(nodes)), at)
        high = np.minimum(low + 1, len(nodes) - 1)
        places = np.concatenate((places * len(nodes) + low, places * len(nodes) + high))
        shares = np.concatenate((shares * (1.0 - share), shares * share))
    return places, shares


def _bracket(logs: Floats, at: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the node below each point, and how far it is towards the next."""
    if len(logs) == 1:
        return np.zeros(len(at), dtype=np.int64), np.zeros(len(at))
    x = np.clip(np.log(np.maximum(at, 1e-300)), logs[0], logs[-1])
    low = np.clip(np.searchsorted(logs, x, side="right") - 1, 0, len(logs) - 2)
    return low, (x - logs[low]) / (logs[low + 1] - logs[low])
