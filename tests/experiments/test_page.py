"""The report's data: verdicts, what charts are made of, and a page that runs nothing foreign."""

import json
import math
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.reporting.page.curves import PARTS, RANKS, Curves, curves
from experiments.reporting.page.data import MOST_CURVES, drawn_points, page_data
from experiments.reporting.page.verdict import by_merit, state_of, verdict
from experiments.reporting.page.write import Page, embedded, write_page
from experiments.reporting.why import parts_of
from sim.percentiles import PERCENTS
from sim.slo import Slo

SLO = Slo(ttft_s=0.5, attainment=0.99)
KEYS = ("cluster.gpu", "workload.arrivals.rate_per_s")


def row(share: float, low: float = math.nan, high: float = math.nan, **more: Any) -> dict[str, Any]:
    values = {
        "slo_attainment": share, "slo_attainment_lo": low, "slo_attainment_hi": high,
        "saturated": 0.0, "usd_per_million_output_tokens": 1.0, "ttft_p99_s": 0.25,
        "tpot_p99_s": 0.01, "tpot_p50_s": 0.01,
    }  # fmt: skip
    return values | more


FLAT = Curves(
    {"ttft": [0.1] * len(RANKS)}, [[0.0] * 5] * 4, 7200.0, [1.0] * 4, [0.2] * 4, [1.0] * 4
)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (row(1.0, 0.995, 1.0), "kept"),
        (row(0.995, 0.985, 0.999), "undecided"),
        (row(0.9, 0.8, 0.95), "missed"),
        (row(0.99), "kept"),
        (row(0.98), "missed"),
        (row(1.0, saturated=1.0), "saturated"),
    ],
)
def test_an_interval_that_holds_what_is_wanted_decides_nothing(
    found: dict[str, Any], state: str
) -> None:
    assert state_of(found, SLO) == state


def test_the_verdict_names_the_cheapest_that_keeps_the_limits_and_the_worst_stretch() -> None:
    rows = [
        row(1.0, 0.995, 1.0, usd_per_million_output_tokens=2.0),
        row(1.0, 0.995, 1.0, usd_per_million_output_tokens=0.5),
        row(0.5, 0.4, 0.6, usd_per_million_output_tokens=0.1),
    ]
    dip = Curves({}, [], 14_400.0, [1.0] * 4, [0.2] * 4, [1.0, 0.9, math.nan, 1.0])
    told = verdict(rows, ["kept", "kept", "missed"], "abc", SLO, [FLAT, dip, FLAT], clock=True)
    assert told["state"] == "kept"
    assert told["text"].startswith("Cheapest point that keeps the limits: b, at USD 0.500")
    assert told["worst"] == "Worst stretch: 1:00 h to 2:00 h, but only 90% within the limits."
    assert told["counts"].endswith("Of 3 points 2 keep them, 1 miss them.")
    none = verdict(rows[2:], ["missed"], ["c"], SLO, [FLAT], clock=False)
    assert none["state"] == "missed"
    assert none["text"].startswith("The limits are missed.")
    assert verdict(rows, ["none"] * 3, "abc", None, [FLAT] * 3, clock=False)["state"] == "none"


def test_what_is_not_certain_is_judged_by_how_near_it_comes() -> None:
    rows = [
        row(0.33, usd_per_million_output_tokens=0.1),
        row(0.991, 0.98, 0.999, usd_per_million_output_tokens=0.5),
        row(0.995, 0.98, 0.999, usd_per_million_output_tokens=0.9),
        row(0.97, 0.9, 0.995, usd_per_million_output_tokens=0.2),
        row(0.5, 0.4, 0.6),
    ]
    assert by_merit(rows, [*["undecided"] * 4, "missed"], SLO) == [1, 2, 3, 0, 4]


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
        "first_token_s": first, "finish_s": first + 1.0, "output_tokens": np.full(rows, 11),
        "status": np.ones(rows, dtype=np.int8), "measured": np.ones(rows, dtype=np.int8),
    }  # fmt: skip


def test_curves_are_those_of_all_requests() -> None:
    columns = requests(4000)
    rows = parts_of(columns, 0.0)
    found = curves([columns], SLO, rows)
    ttft = columns["first_token_s"] - columns["sent_s"]
    assert found.quantiles["ttft"] == np.quantile(ttft, RANKS).tolist()
    assert found.quantiles["tpot"] == pytest.approx([0.1] * len(RANKS))
    for percent, parts in zip(PERCENTS, found.split, strict=True):
        named = dict(zip(PARTS, parts, strict=True))
        assert named["API"] == pytest.approx(0.01)
        assert sum(parts) == pytest.approx(np.quantile(ttft, percent / 100), rel=0.15)
        at = [row for row in rows if row["span"] == "ttft" and row["percentile"] == percent]
        assert parts == [row["seconds"] for row in at]
    width_s = found.end_s / len(found.rate)
    assert sum(found.rate) * width_s == pytest.approx(4000)
    assert np.average(found.within, weights=found.rate) == pytest.approx((ttft <= 0.5).mean())


def test_limits_of_percentiles_alone_judge_the_run_over_time_as_well() -> None:
    columns = requests(4000)
    ttft = columns["first_token_s"] - columns["sent_s"]
    found = curves([columns], Slo(ttft_p99_s=0.5), ())
    assert np.average(found.within, weights=found.rate) == pytest.approx((ttft <= 0.5).mean())
    assert found.split == []


def test_data_of_many_points_stay_small() -> None:
    rows = [row(1.0, **{KEYS[0]: "h100", KEYS[1]: n + 0.5}) for n in range(500)]
    drawn = drawn_points(rows, SLO)
    shown = [FLAT if place in drawn else None for place in range(500)]
    data = page_data("many", KEYS, rows, shown, SLO, clock=False)
    with_curves = [point["n"] - 1 for point in data["points"] if point["q"]]
    assert len(with_curves) == MOST_CURVES
    assert data["best"] - 1 in with_curves
    assert data["axis"] == "arrivals.rate_per_s"
    assert all(point["m"]["tpot_p99_s"] == [0.01] for point in data["points"])


def test_a_look_belongs_to_the_value_of_the_first_key_whatever_its_type() -> None:
    rows = [row(1.0, **{KEYS[0]: value, KEYS[1]: 1}) for value in (4.0, 0.5, True, 4.0)]
    data = page_data("looks", KEYS, rows, [FLAT] * 4, SLO, clock=False)
    assert [point["first"] for point in data["points"]] == [0, 1, 2, 0]
    assert len(data["firsts"]) == 3


def test_the_page_runs_its_own_script_alone(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    rows = [row(1.0, **{KEYS[0]: evil, KEYS[1]: 1})]
    page = Page(
        name=evil, description=evil, basis=evil, notes=[evil], texts=[(evil, evil)], gpus=[1]
    )
    write_page(tmp_path / "a.html", page, KEYS, rows, [FLAT], SLO, clock=False)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert evil not in text
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    for script in scripts:
        assert b64encode(sha256(script.encode()).digest()).decode() in policy[1]
    assert len(scripts) == 2
    with pytest.raises(ValueError, match=r"summary has no column 'engine\.x', expected every"):
        write_page(tmp_path / "b.html", page, ["engine.x"], rows, [FLAT], SLO, clock=False)


def test_embedded_data_are_json_that_ends_no_element() -> None:
    text = embedded({"a": "</script><!--", "b": None})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": None}
