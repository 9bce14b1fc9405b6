"""Two results side by side: which requests are the same, and what became of them."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experiments.reporting.differences import COMPARED, FEWEST_SEEDS, QUEUEING, SHOWN
from experiments.reporting.limits import with_limited
from experiments.reporting.records import Records
from experiments.reporting.significance import (
    Difference,
    blocked,
    holm,
    of_shares,
    sectioned,
    welch,
)
from experiments.reporting.stats import is_share
from experiments.running.compared_settings import Difference as Setting
from experiments.running.compared_settings import basis_of, differing, settings_of
from experiments.running.record import MANIFEST, MANIFESTS
from experiments.study.errors import StudyError, show
from model.counts import count_of
from model.dataclass import dataclass
from sim.measuring.latencies import COLUMNS, LATENCIES, SPANS, STATISTICS, latency

if TYPE_CHECKING:
    from pandas import DataFrame

SERVING = "serving"
"""The kind of study whose results are laid side by side."""

Floats = npt.NDArray[np.float64]

PAIRED, BY_SEED, APART = "the same requests", "the same lengths", "not paired"
OF_SLO = ("goodput_per_s", "slo_attainment")
"""What is counted by the limits of the ``slo``: said of two points, it has to be the same ones."""
EVERY = tuple(
    dict.fromkeys(
        (
            *COMPARED,
            *(f"{name}_{which}_s" for name in LATENCIES for which in STATISTICS),
        )
    )
)
"""Metrics of a comparison: those of differences.csv, and every percentile."""
WORKLOAD = ("arrival_s", "prompt_tokens", "output_tokens")
MORE = 0.10
"""Share by which a request has to be better or worse to be counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """One point of a results folder."""

    name: str
    """``FOLDER`` or ``FOLDER:3``, as it was called."""
    point: int
    summary: dict[str, Any]
    runs: "DataFrame"
    requests: "DataFrame"
    """The measured ones, by seed and in order of arrival."""
    settings: dict[str, str]
    """By dotted key, as text."""
    basis: dict[str, str]
    """Digests of the code and the files behind it, by what they are of."""


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of a comparison."""

    metric: str
    before: float
    after: float
    difference: Difference
    starred: bool

    @property
    def relative(self) -> float:
        """Difference over the value before."""
        return self.difference.value / self.before if self.before else math.nan


@dataclass(frozen=True, slots=True)
class Spread:
    """What became of each request; counts, no test."""

    latency: str
    better: int
    """Requests that are faster by more than a tenth,"""
    worse: int
    """and slower."""
    requests: int
    p10_s: float
    p50_s: float
    p90_s: float
    """Percentiles of the requests' own differences."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``after`` changes against ``before``."""

    before: Side
    after: Side
    pairing: str
    lines: tuple[Line, ...]
    spreads: tuple[Spread, ...]
    settings: tuple[Setting, ...]
    """What was told differently: a key, and its value before and after."""
    shown: tuple[str, ...] = SHOWN
    """Metrics for people, those that the slo limits among them."""


def sides_of(before: str, after: str) -> list[tuple[Side, Side]]:
    """Read two results folders, ``FOLDER`` or ``FOLDER:POINT``; pair their points.

    Points go together that have the same values of the swept keys, or those that were named.

    Raises:
        StudyError: no results, no such point, or points that do not go together.
    """
    first, second = _points_of(before), _points_of(after)
    if len(first) == 1 and len(second) == 1:
        return [(first[0], second[0])]
    keys = [_keys(side) for side in (*first, *second)]
    pairs = [(one, two) for one in first for two in second if _keys(one) == _keys(two)]
    if not pairs or not any(keys):
        raise StudyError.of(
            f"compare {before} {after}: {len(first)} and {count_of(len(second), 'point')}, none "
            "with the same swept values, expected one of each: FOLDER:POINT"
        )
    return pairs


def compare(before: Side, after: Side) -> Comparison:
    """Lay two points side by side, paired by seed and request as far as these are the same.

    Goodput and the share within the limits are left out unless both have the same limits.
    """
    pairing = _pairing(before, after)
    found = []
    shown = with_limited(SHOWN, dict.fromkeys((*before.summary, *after.summary)))
    for metric in EVERY:
        if metric in OF_SLO and not have_same_limits(before, after):
            continue
        if metric in before.runs and metric in after.runs:
            told = _difference(before, after, metric, pairing)
            found.append((metric, of_shares(told) if is_share(metric) else told))
    stars = holm([each.p_value if metric in shown else math.nan for metric, each in found])
    lines = tuple(
        Line(metric, float(before.summary[metric]), float(after.summary[metric]), each, starred)
        for (metric, each), starred in zip(found, stars, strict=True)
    )
    spreads = tuple(_spreads(before, after)) if pairing == PAIRED else ()
    settings = differing((before.settings, after.settings), (before.basis, after.basis))
    lines = tuple(sorted(lines, key=lambda line: _place(line.metric, shown)))
    return Comparison(before, after, pairing, lines, spreads, tuple(settings), tuple(shown))


def _place(metric: str, shown: Sequence[str]) -> int:
    """Where a metric stands: in the order of those that are shown, then as they are."""
    return shown.index(metric) if metric in shown else len(shown)


def have_same_limits(before: Side, after: Side) -> bool:
    """Tell whether both sides have an ``slo``, and the same."""
    old, new = (
        {key: text for key, text in side.settings.items() if key.partition(".")[0] == "slo"}
        for side in (before, after)
    )
    return old == new and "slo" not in old


def _points_of(named: str) -> list[Side]:
    import pandas as pd

    found = re.fullmatch(r"(.+):(\d+)", named)
    folder, number = (Path(found[1]), int(found[2])) if found else (Path(named), None)
    record = MANIFESTS.read(folder / MANIFEST)
    if record is None:
        raise StudyError.of(
            f"compare {named}: no results of headroom run in it, expected a folder with its "
            f"{MANIFEST}"
        )
    kind = record.facts.get("kind", SERVING)
    if kind != SERVING:
        raise StudyError.of(
            f"compare {named}: it holds what a study of kind {kind} found, expected one of kind "
            f"{SERVING}, such as the winner.yaml of a plan"
        )
    try:
        summary = pd.read_csv(folder / "summary.csv")
        runs = pd.read_csv(folder / "runs.csv")
    except FileNotFoundError as error:
        raise StudyError.of(f"compare {named}: it has no {Path(error.filename).name}") from None
    points = summary["point"].tolist()
    if number is not None and number not in points:
        raise StudyError.of(f"compare {named}: expected a point from {points[0]} to {points[-1]}")
    rows = Records.of_frame(summary).rows()
    return [
        _side(folder, str(folder) if len(points) == 1 else f"{folder}:{row['point']}", row, runs)
        for row in rows
        if number in (None, row["point"])
    ]


def _side(folder: Path, name: str, row: dict[str, Any], runs: "DataFrame") -> Side:
    import pandas as pd

    names = [*COLUMNS, *WORKLOAD, "request", "seed", "measured"]
    drawn = ["draw"] if "draw" in runs else []
    requests = pd.read_parquet(
        folder / "requests.parquet",
        columns=[*names, *drawn],
        filters=[("point", "=", row["point"])],
    )
    requests = requests[requests["measured"] == 1]
    order = [*drawn, "seed", "arrival_s"]
    requests = requests.sort_values(order, kind="stable").reset_index(drop=True)
    own = runs[runs["point"] == row["point"]]
    settings = settings_of(folder, row, _swept(row))
    return Side(name, int(row["point"]), row, own, requests, settings, basis_of(folder))


def swept_keys(side: Side) -> list[str]:
    """Return the swept keys of a point."""
    return _swept(side.summary)


def _swept(row: Mapping[str, Any]) -> list[str]:
    """Columns of a summary that are no metrics: these have no dots."""
    return [key for key in row if "." in key or key in ("model", "calibration")]


def _keys(side: Side) -> str:
    """Values of the swept keys of a point, as text."""
    keys = swept_keys(side)
    return json.dumps({key: show(side.summary[key]) for key in sorted(keys)}) if keys else ""


def _pairing(before: Side, after: Side) -> str:
    """How two sides go together, by the requests that both have measured.

    Users who wait ask at other times and in another order, and other requests are measured: these
    are of the same lengths, row by row of the workload, and of the same seeds.
    """
    if before.runs["seed"].tolist() != after.runs["seed"].tolist():
        return APART
    sides = [before.requests, after.requests]
    keys = [name for name in ("draw", "seed", "request") if name in sides[0] and name in sides[1]]
    told = [side[[*keys, *WORKLOAD]].set_index(keys) for side in sides]
    both = told[0].index.intersection(told[1].index)
    old, new = (side.loc[both] for side in told)
    lengths = [name for name in WORKLOAD if name != "arrival_s"]
    if not len(both) or not (old[lengths].to_numpy() == new[lengths].to_numpy()).all():
        return APART
    whole = len(both) == len(sides[0]) == len(sides[1])
    same = (old["arrival_s"].to_numpy() == new["arrival_s"].to_numpy()).all()
    return PAIRED if whole and same else BY_SEED


def _difference(before: Side, after: Side, metric: str, pairing: str) -> Difference:
    old, new = before.runs[metric].tolist(), after.runs[metric].tolist()
    if pairing == APART:
        return welch(old, new, (float(before.summary[metric]), float(after.summary[metric])))
    parts = [later - earlier for earlier, later in zip(old, new, strict=True)]
    latency_name, _, statistic = metric.removesuffix("_s").partition("_")
    percentile = re.fullmatch(r"p(\d+)", statistic)
    whole = float(after.summary[metric]) - float(before.summary[metric]) if any(parts) else 0.0
    if "draw" in before.runs:
        return Difference(whole)
    unsteady = max(before.summary["saturated"], after.summary["saturated"]) > 0
    if any(parts) and unsteady and metric.startswith(QUEUEING):
        return Difference(whole)
    if len(parts) >= FEWEST_SEEDS or not any(parts):
        return sectioned(whole, parts)
    if pairing != PAIRED or latency_name not in SPANS:
        return Difference(whole)
    percent = float(percentile[1]) if percentile else None
    return blocked(*_latencies(before, after, latency_name), percent, whole)


def _latencies(before: Side, after: Side, name: str) -> tuple[Floats, Floats]:
    old, new = (
        latency({str(each): side.requests[each].to_numpy().copy() for each in side.requests}, name)
        for side in (before, after)
    )
    return old, new


def _spreads(before: Side, after: Side) -> Iterator[Spread]:
    for name in ("ttft", "tpot", "e2e"):
        old, new = _latencies(before, after, name)
        kept = np.isfinite(old) & np.isfinite(new)
        gaps, old = (new - old)[kept], old[kept]
        if not len(gaps):
            continue
        percentiles = np.percentile(gaps, [10, 50, 90]).tolist()
        better, worse = int((gaps < -MORE * old).sum()), int((gaps > MORE * old).sum())
        yield Spread(name, better, worse, len(gaps), *percentiles)


def comparison_table(comparisons: Sequence[Comparison]) -> Records:
    """Return the comparison as a table: one row per pair of points and metric."""
    return Records.of(
        [
            {
                "before": one.before.name, "after": one.after.name, "pairing": one.pairing,
                "metric": line.metric, "value_before": line.before, "value_after": line.after,
                "difference": line.difference.value, "difference_lo": line.difference.low,
                "difference_hi": line.difference.high, "relative": line.relative,
                "p_value": line.difference.p_value, "starred": int(line.starred),
            }
            for one in comparisons
            for line in one.lines
        ]
    )  # fmt: skip
