"""What a covariance of fitted parameters has to be, so that calibrations can be drawn from it."""

from collections.abc import Mapping, Sequence

import numpy as np

LARGEST_SPREAD = 3.0
"""Standard deviation of a logarithm: beyond it (a factor of 20 either way) nothing was measured."""


def check_covariance(
    parameters: Sequence[str], matrix: Sequence[Sequence[float]], values: Mapping[str, float]
) -> None:
    """Refuse what is no covariance of these parameters.

    Args:
        parameters: names, in the order of the matrix.
        matrix: covariances of the parameters, square and symmetric.
        values: what was fitted, by name.

    Raises:
        ValueError: a name twice or without a value, a value of 0 (its logarithm is drawn), a spread
            beyond ``LARGEST_SPREAD``, or a matrix with a negative eigenvalue.
    """
    twice = next((name for name in parameters if list(parameters).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"covariance: parameter {twice} stands twice")
    for name in parameters:
        if not values.get(name):
            raise ValueError(f"covariance: parameter {name} has no value above 0 to vary")
    if not parameters:
        return
    fitted = np.array([values[name] for name in parameters])
    of_logs = np.array(matrix) / np.outer(fitted, fitted)
    spread = np.sqrt(np.abs(np.diag(of_logs)))
    if not spread.max() <= LARGEST_SPREAD:
        worst = int(spread.argmax())
        raise ValueError(
            f"covariance: parameter {parameters[worst]} = {fitted[worst]:g} has a standard error "
            f"of {spread[worst] * fitted[worst]:g}, expected at most {LARGEST_SPREAD:g} times it"
        )
    lowest = float(np.linalg.eigvalsh(of_logs).min())
    if lowest < -1e-9 * max(1.0, float(np.abs(of_logs).max())):
        raise ValueError(f"covariance: an eigenvalue is {lowest:.3g}, expected none below 0")
