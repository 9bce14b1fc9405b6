"""What an SLO promises: shares of the requests that keep a limit, or several limits together."""

import math
from typing import NamedTuple

from model.dataclass import dataclass
from sim.measuring.slo import FIRM_PERCENT, LATENCIES, Slo, percentile_limits, request_limits


class Limit(NamedTuple):
    """One limit of an SLO."""

    latency: str
    limit_s: float
    share: float
    """Of the requests, that has to keep it."""


@dataclass(frozen=True, slots=True)
class Promise:
    """A share of the requests, of which no more may miss its limits than is allowed."""

    key: str
    """The percentile of the SLO; empty: its limits of single requests, together."""
    allowed: float
    """Share that may miss."""
    limits: tuple[str, ...]
    """Keys of the SLO; whoever misses one of them counts."""


def limits_of(slo: Slo) -> dict[str, Limit]:
    """Return all limits of an SLO by their key."""
    single = {
        f"{latency}_s": Limit(latency, limit_s, slo.attainment)
        for latency, limit_s in request_limits(slo).items()
    }
    return single | {
        one.key: Limit(one.latency, one.limit_s, one.percent / 100)
        for one in percentile_limits(slo)
    }


def promises_of(slo: Slo) -> tuple[Promise, ...]:
    """Return what has to be kept, each on its own."""
    together = tuple(f"{latency}_s" for latency in request_limits(slo))
    joint = [Promise("", 1 - slo.attainment, together)] if together else []
    single = [Promise(one.key, 1 - one.percent / 100, (one.key,)) for one in percentile_limits(slo)]
    return (*joint, *single)


def nearly_all_keep(slo: Slo, latency: str) -> float | None:
    """Return the limit on a latency that bounds the load, seconds; None without one.

    That of single requests, or of the highest percentile; one below p90 lets too many stay longer.
    """
    found = {
        -one.share: one.limit_s
        for key, one in limits_of(slo).items()
        if one.latency == latency and (key == f"{latency}_s" or one.share >= FIRM_PERCENT / 100)
    }
    return found[min(found)] if found else None


def longest_stay_s(slo: Slo, output_tokens: float, first_s: float = math.inf) -> float:
    """Return how long a request of so many tokens can stay that keeps the limits, seconds.

    ``first_s`` is the wait for the first token where nothing limits that.
    """
    ttft_s, tpot_s, e2e_s = (nearly_all_keep(slo, latency) for latency in LATENCIES)
    stay_s = math.inf if e2e_s is None else e2e_s
    if tpot_s is not None:
        stay_s = min(stay_s, (first_s if ttft_s is None else ttft_s) + tpot_s * output_tokens)
    return stay_s
