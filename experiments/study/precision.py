"""``precision``: how exact figures are to be, in place of how long a run is."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from experiments.study.errors import nearest, show
from sim.measuring.metrics import METRICS
from workloads.arrivals import ClosedLoop
from workloads.steady import steady
from workloads.workload import Workload

PILOT = 4000
"""Requests of each seed from which the length is found, at least."""
SEEDS = 10
"""Default beside a precision."""
FEWEST_SEEDS = 5
"""With fewer the interval itself is too uncertain to find a length from."""
DEFAULT = "10%"
NO = "none"
SIZED = ("num_requests", "duration_s", "trace", "clients")
"""Keys of a workload that say how long it is."""


def _percent(value: object) -> object:
    """Read ``10%`` as 0.1; leave everything else as it is."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    return value if found is None else float(found[1]) / 100


def _target(value: object) -> object:
    share = _percent(value)
    if isinstance(share, str):
        raise ValueError("expected a share such as 10%")
    return share


Share = Annotated[float, Field(ge=0.005, le=0.5)]
Target = Annotated[Share, BeforeValidator(_target, json_schema_input_type=Share | str)]


class Precision(BaseModel):
    """How exact which figures are to be, and how long a run may become for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    target: Target = 0.1
    """Half of the 95% interval over the figure, at most, such as 10%. Of a share: a quarter of what
    the slo allows to miss."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which figures. Default: those of the slo, ttft_p99_s, tpot_p99_s, requests/s and tokens/s."""
    max_requests: int = Field(default=2_000_000, ge=10_000, le=10**9)
    """Of one point, all seeds together: no run becomes longer than that allows."""

    @field_validator("metrics")
    @classmethod
    def _are_estimates(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in METRICS:
                raise ValueError(
                    f"{show(name)} is no metric{nearest(name, list(METRICS))} See docs/metrics.md"
                )
        return names


def _read(value: object) -> object:
    """Read ``10%``, ``0.1`` or ``none`` as what they mean."""
    value = _percent(value)
    if isinstance(value, str):
        if value.strip().lower() == NO:
            return None
        raise ValueError("expected a share such as 10%, or none for runs of a fixed length")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"target": value}
    return value


Wanted = Annotated[
    Precision | None,
    BeforeValidator(_read, json_schema_input_type=Precision | float | str | None),
]


def with_defaults(data: Any) -> Any:
    """Fill in what a study leaves out that asks for a precision, or says nothing of its length.

    That is the precision itself where no length is given, seeds for an interval, and the length of
    the pilot as the shortest run.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("workload"), Mapping):
        return data
    workload = data["workload"]
    sized = any(workload.get(key) is not None for key in SIZED)
    asked = data.get("precision")
    if asked is None and ("precision" in data or sized or not _may_be_found(workload)):
        return data
    if isinstance(asked, str) and asked.strip().lower() == NO:
        return data
    filled = {**data, "precision": DEFAULT if asked is None else asked}
    if filled.get("seeds") is None:
        filled["seeds"] = SEEDS
    if not sized and _may_be_found(workload):
        filled["workload"] = {**workload, "num_requests": PILOT}
    return filled


def _may_be_found(workload: Mapping[str, Any]) -> bool:
    arrivals = workload.get("arrivals")
    process = arrivals.get("process") if isinstance(arrivals, Mapping) else None
    return process in ("poisson", "gamma", "deterministic", "on_off", "markov", "closed_loop")


def check(workload: Workload | None, seeds: int | None) -> None:
    """Refuse a precision that cannot be aimed at. Raises ValueError."""
    if workload is not None:
        arrivals = workload.arrivals
        if not isinstance(arrivals, ClosedLoop) and steady(arrivals) is None:
            what = "a trace" if workload.clients is None else "what clients ask"
            what = what if arrivals is None else f"process {arrivals.process}"
            raise ValueError(
                f"expected none: {what} is as long as it is; more seeds make its figures more exact"
            )
        if workload.duration_s is not None:
            raise ValueError(
                "expected none beside workload.duration_s, which fixes the length; leave one out"
            )
    if seeds is not None and seeds < FEWEST_SEEDS:
        raise ValueError(
            f"expected seeds: {FEWEST_SEEDS} or more beside it, found {seeds}: the length is found "
            f"from the spread over seeds; {SEEDS} is usual"
        )
