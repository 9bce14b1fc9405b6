"""Columns of the page's tables: those that people ask for first, then all that metrics hold.

What a metric is called and in which unit it is shown follows from its name, so that a new one needs
no line here.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.figure_layout import said, value_text
from experiments.reporting.stats import SHARES, WITHOUT_INTERVAL
from model.dataclass import dataclass
from sim.measuring.latencies import LATENCIES
from sim.measuring.metrics import ALL_METRICS, POOL_SHARES
from sim.measuring.slo import SHARE, WINDOWS
from sim.measuring.transfer_use import TRANSFER_METRICS

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the table."""

    metric: str
    name: str
    views: tuple[str, ...] = ()
    scale: float = 1.0
    ends: bool = False
    """Whether its interval is shown."""


VERDICT, LATENCY, LOAD = "verdict", "latency", "load"
VIEWS = {VERDICT: "Verdict", LATENCY: "Latency", LOAD: "Load", "all": "All"}
FIRST = {
    "usd_per_million_output_tokens": ("USD/M output tokens", (VERDICT, LOAD)),
    "gpus": ("GPUs", (VERDICT,)),
    "usd_per_hour": ("USD/h", (VERDICT,)),
    "slo_attainment": ("within limits, %", (VERDICT,)),
    "slo_windows_kept": ("windows kept, %", (VERDICT,)),
    "ttft_p99_s": ("", (VERDICT, LATENCY)),
    "tpot_p99_s": ("", (VERDICT, LATENCY)),
    "ttft_p50_s": ("", (LATENCY,)),
    "tpot_p50_s": ("", (LATENCY,)),
    "itl_p99_s": ("", (LATENCY,)),
    "e2e_p50_s": ("", (LATENCY,)),
    "e2e_p99_s": ("", (LATENCY,)),
    "queue_p99_s": ("", (LATENCY,)),
    "request_share": ("requests, %", (VERDICT, LOAD)),
    "output_token_share": ("output tokens, %", (LOAD,)),
    "prefix_cache_hit_rate": ("prefix cache hits, %", (VERDICT, LOAD)),
    "host_cache_hit_rate": ("", (VERDICT, LOAD)),
    "store_cache_hit_rate": ("", (VERDICT, LOAD)),
    "acceptance_length_mean": ("tokens a step of a sequence", (VERDICT, LOAD)),
    "request_throughput_per_s": ("requests/s", (VERDICT, LOAD)),
    "output_tokens_per_s": ("output tokens/s", (LOAD,)),
    "goodput_per_s": ("goodput/s", (LOAD,)),
    "load": ("load, %", (LOAD,)),
    "mean_batch_size": ("batch", (LOAD,)),
    "kv_use_max": ("KV max, %", (LOAD,)),
    "prefix_cache_hit_rate_min": ("hits of the worst replica, %", (LOAD,)),
    "request_share_max": ("requests of the busiest replica, %", (LOAD,)),
    "load_wait_p99_s": ("", (LOAD,)),
    "store_read_share": ("", (LOAD,)),
    "store_use": ("", (LOAD,)),
    "handovers_per_s": ("", (VERDICT, LOAD)),
    "transfer_share": ("", (VERDICT, LOAD)),
    "leased_share": ("", (LOAD,)),
    "preemptions": ("", (LOAD,)),
    "mfu": ("MFU, %", (LOAD,)),
    "mbu": ("MBU, %", (LOAD,)),
}
"""Metric to what people call it (empty: as its name says) and the views that it belongs to."""
SHORT = {
    "cluster.tensor_parallel_size": "TP", "cluster.pipeline_parallel_size": "PP",
    "cluster.data_parallel_size": "DP",
}  # fmt: skip
"""Keys that people have shorter names for."""
LENGTHS = ("workload.num_requests", "workload.duration_s")
"""Keys that say how long a run is, not what runs."""
NAME = re.compile(r"\D|.*[a-z]{4}")
"""What speaks for itself: ``h100-sxm``, and ``4 x h100-sxm serve``."""
VAGUE = ("none", "auto", "default", "dense")
"""Values that say nothing without their key."""
ALREADY = ("saturated", "slo_met")
"""Metrics that the verdict of a point tells."""
WORDS = {
    "kv": "KV", "mfu": "MFU", "mbu": "MBU", "slo": "SLO", "usd": "USD", "gpus": "GPUs",
    **{name: name.upper() for name in ("ttft", "itl", "tpot", "e2e")},
}  # fmt: skip
"""Words of names that are written otherwise."""
NOTHING = {"acceptance_length_mean": 1.0, "request_share_max": 1.0}
"""What a metric is where it has nothing to say; 0 by default."""
TELLS = ("slo_attainment", "slo_windows_kept")
"""Metrics whose 0 says something."""
PER_CENT = ("_share", "_rate", "_kept", SHARE)
"""Ends of the names of metrics within 0 to 1."""
MORE_IS_GOOD = ("_per_s", "_kept", "_rate", SHARE)
LESS_IS_GOOD = (*LATENCIES, "usd_", "preemptions", "rejected", "timed_out", "unfinished")


def columns_of(
    rows: Sequence[Row], limited: bool = True, tails: Mapping[str, int] | None = None
) -> list[Column]:
    """Return the columns that rows of a summary have something to say in.

    What is no estimate and alike for all rows is in no view of few columns. Without limits
    (``limited``) nobody is within them. ``tails`` are the percentiles of latencies that stand
    first, by default p99.
    """
    first = _with_tails(tails or {})
    known = dict.fromkeys((*first, *POOL_SHARES, *TRANSFER_METRICS, *ALL_METRICS, *WINDOWS))
    known |= dict.fromkeys(name for name in (rows[0] if rows else ()) if name.endswith(SHARE))
    left_out = ALREADY if limited else (*ALREADY, "slo_attainment", "goodput_per_s")
    found = []
    for metric in known:
        if metric not in left_out and _told(rows, metric):
            _, views = first.get(metric, ("", ()))
            if metric in WITHOUT_INTERVAL and _alike(rows, metric):
                views = ()
            name, scale = named(metric)
            ends = bool(views) and metric not in WITHOUT_INTERVAL
            found.append(Column(metric, name, views, scale, ends))
    return found


def _with_tails(tails: Mapping[str, int]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """``FIRST`` with other percentiles where p99 stands, and that behind them."""
    instead = {f"{name}_p99_s": f"{name}_p{percent}_s" for name, percent in tails.items()}
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for metric, (name, views) in FIRST.items():
        other = instead.get(metric, metric)
        if other != metric:
            found[other] = (name, views)
            views = tuple(view for view in views if view != VERDICT)
        found.setdefault(metric, (name, views))
    return found


def named(metric: str) -> tuple[str, float]:
    """Return the heading of a metric, and the factor to the unit in it."""
    name, factor = _by_name(metric)
    return FIRST.get(metric, ("", ()))[0] or name, factor


def short_name(metric: str) -> str:
    """Return the heading of a metric without its unit."""
    name = named(metric)[0]
    return name.rpartition(", ")[0] or name


def _by_name(metric: str) -> tuple[str, float]:
    latency, _, statistic = metric.removesuffix("_s").partition("_")
    if latency in LATENCIES and metric.endswith("_s") and statistic:
        unit, factor = ("s", 1.0) if latency == "e2e" else ("ms", 1e3)
        return f"{_words(latency)} {statistic}, {unit}", factor
    if metric.endswith(SHARE):
        return f"{_words(metric.removesuffix(SHARE).removesuffix('_s'))} kept, %", 100.0
    if metric.endswith("_per_s"):
        return f"{_words(metric.removesuffix('_per_s'))}/s", 1.0
    if metric in SHARES or metric == "load" or metric.endswith(PER_CENT):
        return f"{_words(metric)}, %", 100.0
    if metric.endswith("_s"):
        return f"{_words(metric.removesuffix('_s'))}, s", 1.0
    return _words(metric), 1.0


def good_way(metric: str) -> int:
    """Return 1 for what is better when it grows, -1 when it shrinks, 0 where nobody can say."""
    if metric.endswith(MORE_IS_GOOD):
        return 1
    return -1 if metric.startswith(LESS_IS_GOOD) else 0


def key_names(keys: Sequence[str]) -> dict[str, str]:
    """Return what swept keys are called: their last word, or as much as tells them apart."""
    found = {}
    for key in keys:
        if key in SHORT:
            found[key] = SHORT[key]
            continue
        words = key.split(".")
        ends = (".".join(words[-size:]) for size in range(1, len(words)))
        others = [other for other in keys if other != key]
        alone = (end for end in ends if not any(each.endswith(f".{end}") for each in others))
        found[key] = next(alone, key)
    return found


def telling_keys(keys: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return the swept keys that points are called by: without lengths of runs that follow."""
    told = [key for key in keys if key not in LENGTHS]
    points = {tuple(value_text(row[key]) for key in told) for row in rows}
    return told if told and len(points) == len(rows) else list(keys)


def label_of(keys: Sequence[str], row: Row) -> str:
    """Return what a point is called: ``h100-sxm, rate_per_s 16``; nothing without swept keys."""
    names = key_names(keys)
    return ", ".join(setting_text(names[key], row[key]) for key in keys)


def setting_text(name: str, value: object) -> str:
    """Write a swept value with its key; a word that is a name speaks for itself."""
    text = said(value)
    if value_text(value).startswith("{") or text.startswith("["):
        return f"{name} {text}"
    plain = isinstance(value, str) and value not in VAGUE and NAME.match(value)
    return text if plain else f"{name} {text}"


def plain_name(name: str) -> str:
    """Return the name of a part or a resource as people read it."""
    return _words(name)


def _words(name: str) -> str:
    return " ".join(WORDS.get(word, word) for word in name.split("_"))


def _alike(rows: Sequence[Row], metric: str) -> bool:
    """Whether several rows all have the same figure."""
    return len(rows) > 1 and len({row.get(metric) for row in rows}) == 1


def _told(rows: Sequence[Row], metric: str) -> bool:
    """Whether a metric says something somewhere."""
    values = [float(row.get(metric, math.nan)) for row in rows]
    nothing = math.nan if metric in TELLS else NOTHING.get(metric, 0.0)
    return any(value != nothing and not math.isnan(value) for value in values)
