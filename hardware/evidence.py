"""What a calibration rests on: how well its parameters are known, and where they were measured."""

import re
from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt, model_validator

POOR_MEAN, POOR_WORST = 0.08, 0.25
"""Mean and worst held-out error above which a calibration is called poor."""

CURVE_NODE = re.compile(r"gemm_curve\[(\d+)\]")
"""How a covariance calls the factor of a node of ``gemm_curve``."""


class CalibrationPart(BaseModel):
    """Part of a calibration's file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Covariance(CalibrationPart):
    """How uncertain the fitted parameters are, together."""

    parameters: tuple[str, ...]
    """Names of the parameters, in the order of the matrix."""
    matrix: tuple[tuple[float, ...], ...]
    """Covariances, symmetric."""

    @model_validator(mode="after")
    def _matches(self) -> Self:
        size = len(self.parameters)
        if any(len(row) != size for row in self.matrix) or len(self.matrix) != size:
            raise ValueError(f"expected a matrix of {size} by {size}, one row per parameter")
        for row in range(size):
            for column in range(row):
                here, there = self.matrix[row][column], self.matrix[column][row]
                if abs(here - there) > 1e-9 * (abs(here) + abs(there)):
                    raise ValueError(f"not symmetric at ({row}, {column}): {here} and {there}")
        return self


class Residuals(CalibrationPart):
    """Predicted over measured minus one, on points that the fit has not seen."""

    mean_absolute: NonNegativeFloat
    """Mean of absolute relative errors; 0.05 is 5%."""
    worst_absolute: NonNegativeFloat
    """Largest of them."""
    points: PositiveInt
    """How many points."""

    @property
    def poor(self) -> bool:
        """Whether the errors are beyond what one may rely on."""
        return self.mean_absolute > POOR_MEAN or self.worst_absolute > POOR_WORST


class CoveredRange(CalibrationPart):
    """Where the measurements lie; beyond it the model extrapolates."""

    max_step_tokens: PositiveInt
    """Tokens of one step."""
    max_context_tokens: PositiveInt
    """Context of one sequence."""
    max_decodes: PositiveInt
    """Decoding sequences of one step."""
