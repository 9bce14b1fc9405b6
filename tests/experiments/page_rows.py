"""Points and requests that pages are made of."""

import math
from typing import Any

import numpy as np

from sim.measuring.slo import Slo

SLO = Slo(ttft_s=0.5, attainment=0.99)


def row(share: float, low: float = math.nan, high: float = math.nan, **more: Any) -> dict[str, Any]:
    values = {
        "slo_attainment": share, "slo_attainment_lo": low, "slo_attainment_hi": high,
        "saturated": 0.0, "usd_per_million_output_tokens": 1.0, "ttft_p99_s": 0.25,
        "tpot_p99_s": 0.01, "tpot_p50_s": 0.01,
    }  # fmt: skip
    return values | more


def requests(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sent = np.sort(rng.uniform(0, 100, rows))
    reached = sent + 0.01
    begun = reached + rng.exponential(0.1, rows)
    computed, lost = rng.exponential(0.2, rows), rng.integers(0, 2, rows) * 0.03
    first = begun + computed + lost
    return {
        "arrival_s": sent, "sent_s": sent, "reached_s": reached, "first_scheduled_s": begun,
        "computed_s": computed, "lost_s": lost, "paused_s": np.zeros(rows),
        "streaming_s": np.zeros(rows),
        "first_token_s": first, "finish_s": first + 1.0, "output_tokens": np.full(rows, 11),
        "status": np.ones(rows, dtype=np.int8), "measured": np.ones(rows, dtype=np.int8),
    }  # fmt: skip
