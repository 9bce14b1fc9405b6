"""The limits of a study as readers look at them: in words, by metric, and at which percentiles."""

import re
from collections.abc import Iterable, Mapping, Sequence

from sim.measuring.slo import SHARE, Slo, percentile_limits, request_limits


def tails_of(slo: Slo | None) -> dict[str, int]:
    """Return the percentile of TTFT and TPOT that is looked at: that of the slo, else p99."""
    found = {"ttft": 99, "tpot": 99}
    asked = [] if slo is None else list(percentile_limits(slo))
    for latency in found:
        percents = [one.percent for one in asked if one.latency == latency]
        found[latency] = max(percents, default=99)
    return found


def limited(columns: Iterable[str]) -> list[str]:
    """Return the percentiles that an slo limits, such as ``tpot_p95_s``, from a summary's columns.

    A limit of a percentile has a column of its own, the share that keeps it; so has one of single
    requests, whose name has no percentile.
    """
    found = (name.removesuffix(SHARE) for name in columns if name.endswith(SHARE))
    return [name for name in found if "_p" in name]


def with_limited(metrics: Sequence[str], columns: Iterable[str]) -> list[str]:
    """Return metrics and the ``limited`` percentiles, each behind the others of its latency."""
    found = list(metrics)
    for name in limited(columns):
        alike = [at for at, each in enumerate(found) if each.startswith(name.split("_")[0])]
        if name not in found:
            found.insert(alike[-1] + 1 if alike else len(found), name)
    return found


def limits_of(slo: Slo | None) -> dict[str, float]:
    """Return limits by metric, those of every request as ``ttft_s``; the share only with these."""
    if slo is None:
        return {}
    alone = request_limits(slo)
    found = {f"{latency}_s": limit_s for latency, limit_s in alone.items()}
    found |= {one.key: one.limit_s for one in percentile_limits(slo)}
    return found | ({"slo_attainment": slo.attainment} if alone else {})


def limit_of(metric: str, limits: Mapping[str, float]) -> float | None:
    """Return the limit on a metric out of ``limits_of``: its own, else that of every request."""
    return limits.get(metric, limits.get(re.sub(r"_p\d+_s$", "_s", metric)))


def limits_text(slo: Slo | None, most: str = "at most") -> str:
    """Say the limits in words: ``99% of requests with TTFT at most 1 s and TPOT at most 50 ms``."""
    if slo is None:
        return ""
    named = {"TTFT": slo.ttft_s, "TPOT": slo.tpot_s, "E2E": slo.e2e_s}
    limits = [f"{name} {most} {_time(limit)}" for name, limit in named.items() if limit]
    joint = [f"{100 * slo.attainment:g}% of requests with {' and '.join(limits)}"] if limits else []
    each = [
        f"{one.latency.upper()} p{one.percent} {most} {_time(one.limit_s)}"
        for one in percentile_limits(slo)
    ]
    return ", ".join((*joint, *each))


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{1e3 * seconds:g} ms"
