"""Neighbours in a column: a few times faster than numpy's own where a column is short."""

from typing import Any

import numpy as np
import numpy.typing as npt


def before(values: npt.NDArray[Any], first: float) -> npt.NDArray[Any]:
    """Return what stands in front of each of ``values``, shape (n,); of the first one ``first``."""
    found = np.empty_like(values)
    found[:1] = first
    found[1:] = values[:-1]
    return found


def growth(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return by how much each of ``values``, shape (n,), is more than the one before: (n - 1,)."""
    found: npt.NDArray[Any] = values[1:] - values[:-1]
    return found
