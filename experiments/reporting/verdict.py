"""Whether a point keeps its SLO: kept, missed or undecided, and which limit decides.

Every limit is about a share of the requests: ``ttft_p99_s: 0.5`` asks that 99% of them have their
first token within 0.5 s. It is kept where the whole 95% interval of that share reaches 99%, missed
where none of it does. Where nothing is random the share itself decides. Where a share has no
interval (one run whose requests depend on each other nobody knows how much) a run is one trial: the
variance of what lies within 0 to 1 is at most that of a coin with the same mean. That is too little
to keep anything, and enough to miss what hardly a request kept.
"""

import math
from collections.abc import Mapping
from typing import Any

from experiments.reporting.intervals import NORMAL_QUANTILE, share_ends
from experiments.reporting.support import TOO_NEAR, too_short
from model.counts import count_of
from model.dataclass import dataclass
from sim.measuring.slo import Slo, percentile_limits, request_limits

KEPT, MISSED, UNDECIDED = "kept", "missed", "undecided"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that an SLO asks for."""

    metric: str
    """The share of the requests that keep it."""
    required: float
    parts: tuple[str, ...]
    """Keys of the slo that it is made of."""

    @property
    def queues(self) -> bool:
        """Whether time in the queue counts."""
        return any(part.startswith(("ttft", "e2e")) for part in self.parts)


def criteria(slo: Slo) -> list[Criterion]:
    """Return what an SLO asks for: its joint limits as one, each percentile for itself."""
    joint = tuple(f"{name}_s" for name in request_limits(slo))
    found = [Criterion("slo_attainment", slo.attainment, joint)] if joint else []
    found += [
        Criterion(one.column, one.percent / 100, (one.key,)) for one in percentile_limits(slo)
    ]
    return found


def verdict(row: Mapping[str, Any], slo: Slo, exact: bool) -> tuple[str, str]:
    """Return the verdict on a point of the summary, and the limit that has least room.

    ``exact``: nothing is random, so that the shares themselves decide. A point whose queue grows
    without bound misses every limit on time in the queue, however short the run was; runs too short
    for their load keep none of them, as they have not seen what waits at that load are like.
    """
    found = [(_one(row, each, exact), each) for each in criteria(slo)]
    if not found:
        return "", ""
    verdicts = [word for word, _ in found]
    whole = next((w for w in (MISSED, UNDECIDED) if w in verdicts), KEPT)
    _, binding = min(found, key=lambda pair: _room(row, pair[1]))
    return whole, min(binding.parts, key=lambda part: _share(row, f"{part}_attainment"))


def _one(row: Mapping[str, Any], asked: Criterion, exact: bool) -> str:
    if asked.queues and float(row.get("saturated", 0.0)) > 0:
        return MISSED
    share, low, high = (_share(row, f"{asked.metric}{end}") for end in ("", "_lo", "_hi"))
    if exact and not math.isnan(share):
        low = high = share
    if math.isnan(high):
        runs = float(row.get("seeds", 1))
        low, high = share_ends(share, 0.0, NORMAL_QUANTILE, trials=runs)
    if high < asked.required:
        return MISSED
    unknown = asked.queues and (float(row.get("load", math.nan)) >= TOO_NEAR or too_short(row))
    return KEPT if low >= asked.required and not unknown else UNDECIDED


def _room(row: Mapping[str, Any], asked: Criterion) -> float:
    """Missed over what may be missed, downwards: the least has least room."""
    allowed = 1 - asked.required
    missed = 1 - _share(row, asked.metric)
    return -missed / allowed if allowed else -math.inf if missed else 0.0


def _share(row: Mapping[str, Any], name: str) -> float:
    return float(row.get(name, math.nan))


def window_notes(row: Mapping[str, Any], exact: bool) -> list[str]:
    """Say how many windows kept the slo, and which hour was worst."""
    windows = _share(row, "slo_windows")
    kept, low, high = (_share(row, f"slo_windows_kept{end}") for end in ("", "_lo", "_hi"))
    if math.isnan(windows) or math.isnan(kept):
        return []
    ends = "" if math.isnan(low) else f" ({100 * low:.3g} to {100 * high:.3g}%)"
    hour, missed = _share(row, "worst_hour"), _share(row, "worst_hour_missed")
    worst = (
        f", worst hour {hour:.0f} to {hour + 1:.0f} of the run: {100 * missed:.2g}% missed"
        if missed and hour.is_integer()  # else seeds have different worst hours
        else ""
    )
    alone = ", which says nothing about other days" if exact else ""
    return [
        f"{100 * kept:.3g}%{ends} of {count_of(int(windows), 'window')} kept the slo{worst}{alone}"
    ]
