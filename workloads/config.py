"""What every configuration of this room has in common: strict, frozen, documented, finite."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LATEST_S = 1e10
"""Three centuries: no time of a workload is later, and a float tells microseconds up to there."""

Positive = Annotated[float, Field(gt=0, le=1e9)]
NonNegative = Annotated[float, Field(ge=0, le=1e9)]
Seconds = Annotated[float, Field(gt=0, le=LATEST_S)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Variation = Annotated[float, Field(gt=0, le=1e3)]
"""A standard deviation over its mean."""


class Config(BaseModel):
    """Base of the configurations: unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
