"""What routing did to the caches: hit rates by replica, and what the router took to be cached."""

import numpy as np
import numpy.typing as npt

from sim.measuring.steady_state import Window
from sim.recording.result import Result

ROUTING = {
    "prefix_cache_hit_rate_min": "the same share on the replica where it is lowest",
    "prefix_cache_hit_rate_max": "the same share on the replica where it is highest",
    "claimed_hit_rate": "share of the same prompt tokens that the router took to be cached where "
    "it sent them; NaN if it says nothing of it",
    "request_share_max": "largest share of the requests after the warm-up that one replica was "
    "sent: 1 / replicas if all have as many",
    "metrics_age_mean_s": "how old the engines' metrics were that the router looked at, on "
    "average; NaN if it looked at none",
}
"""Figures of merit that tell one router from another, and their meaning."""

REPLICAS = {
    "requests": "requests after the warm-up that it was sent",
    "prompt_tokens": "their prompt tokens, of those that were worked on",
    "cached_tokens": "of these, what its prefix cache had",
    "prefix_cache_hit_rate": "the share of the two",
    "claimed_hit_rate": "share that the router took to be cached; NaN if it says nothing of it",
}
"""Columns of the table of replicas."""


def by_replica(result: Result, window: Window) -> dict[str, npt.NDArray[np.float64]]:
    """Return ``REPLICAS`` of every replica, shape (replicas,)."""
    requests, count = result.requests, len(result.replicas["steps"])
    sent = window.measured & (requests["replica"] >= 0)
    begun = sent & ~np.isnan(requests["first_scheduled_s"])
    owner = requests["replica"][begun]

    def total(name: str) -> npt.NDArray[np.float64]:
        """Sum a column of requests for each replica."""
        return np.bincount(owner, requests[name][begun], count).astype(np.float64)

    asked, cached = total("prompt_tokens"), total("cached_tokens")
    with np.errstate(invalid="ignore"):
        rate = cached / asked
        claimed = np.full(count, np.nan)
        if "claimed_tokens" in requests:
            claimed = total("claimed_tokens") / asked
    return {
        "requests": np.bincount(requests["replica"][sent], minlength=count).astype(np.float64),
        "prompt_tokens": asked,
        "cached_tokens": cached,
        "prefix_cache_hit_rate": rate,
        "claimed_hit_rate": claimed,
    }


def routing_metrics(result: Result, window: Window) -> dict[str, float]:
    """Compute every metric of ``ROUTING``."""
    of_each = by_replica(result, window)
    rates = of_each["prefix_cache_hit_rate"]
    rates = rates[~np.isnan(rates)]
    requests, asked = of_each["requests"], of_each["prompt_tokens"]
    claimed, age_s = float("nan"), float("nan")
    if asked.sum() and "claimed_tokens" in result.requests:
        shares = np.where(asked > 0, of_each["claimed_hit_rate"], 0.0)
        claimed = float((shares * asked).sum() / asked.sum())
        ages = result.requests["metrics_age_s"][window.measured]
        ages = ages[~np.isnan(ages)]
        age_s = float(ages.mean(dtype=np.float64)) if len(ages) else age_s
    return {
        "prefix_cache_hit_rate_min": float(rates.min()) if len(rates) else float("nan"),
        "prefix_cache_hit_rate_max": float(rates.max()) if len(rates) else float("nan"),
        "claimed_hit_rate": claimed,
        "request_share_max": float(requests.max() / requests.sum())
        if requests.sum()
        else float("nan"),
        "metrics_age_mean_s": age_s,
    }
