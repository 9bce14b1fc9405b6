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
from page_rows import SLO, row

from experiments.reporting.differences import SHOWN
from experiments.reporting.page.base import ASSETS, asset, data_of, embedded
from experiments.reporting.page.columns import columns_of, good_way, key_names, named
from experiments.reporting.page.curves import (
    BOUND_SLICES,
    FEW_BOUND_SLICES,
    KEPT,
    MISSED,
    RANKS,
    Curves,
)
from experiments.reporting.page.data import MOST_CURVES, MOST_WINDOWS, drawn_points, page_data
from experiments.reporting.page.replicas import replica_table
from experiments.reporting.page.tables import Table
from experiments.reporting.page.verdict import by_merit, state_of, verdict
from experiments.reporting.page.write import Page, write_page
from experiments.reporting.quantities import MISSING
from experiments.running.curves import MOST_FINE
from sim.measuring.decomposition import SPANS
from sim.measuring.metrics import METRICS

KEYS = ("cluster.gpu", "workload.arrivals.rate_per_s")


PARTS = {"ttft": {"api": [0.0] * 4, "queue": [0.1] * 4}}
FLAT = Curves({"ttft": [0.1] * len(RANKS)}, PARTS, 7200.0, [1.0] * 4, [0.2] * 4, [1.0] * 4)


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
    rows[1] |= {"slo_windows": 48.0, "slo_windows_kept": 0.75}
    dip = Curves(
        {}, {}, 14_400.0, [1.0] * 4, [0.2] * 4, [1.0, 0.9, math.nan, 1.0],
        windows=[KEPT] * 36 + [MISSED] * 12, window_s=300.0, worst_hour=(3, 0.104),
    )  # fmt: skip
    told = verdict(rows, ["kept", "kept", "missed"], "abc", SLO, [FLAT, dip, FLAT])
    assert told["state"] == "kept"
    assert told["text"].startswith("Cheapest point that keeps the limits: b, at USD 0.500")
    assert told["worst"] == (
        "75% of 48 windows of 5 min keep the limits; worst hour: 3:00 to 4:00 of the run, when 10% "
        "of the requests miss a limit."
    )
    assert told["counts"].endswith("Of 3 points 2 keep them, 1 misses them.")
    none = verdict(rows[2:], ["missed"], ["c"], SLO, [FLAT])
    assert none["state"] == "missed"
    assert none["text"].startswith("The limits are missed.")
    assert verdict(rows, ["none"] * 3, "abc", None, [FLAT] * 3)["state"] == "none"


def test_a_single_point_and_one_without_answers_are_told_as_what_they_are() -> None:
    alone = row(0.5, usd_per_million_output_tokens=2.0, ttft_p50_s=0.1)
    told = verdict([alone], ["none"], [""], None, [FLAT])["text"]
    assert told == "No limits are given. The study runs at USD 2.00 per million output tokens."
    nobody = row(0.0, ttft_p50_s=math.nan, usd_per_million_output_tokens=math.nan)
    for slo, state in ((SLO, "missed"), (None, "none")):
        told = verdict([nobody] * 2, [state] * 2, "ab", slo, [FLAT] * 2)["text"]
        assert told.startswith("No request that is measured had an answer")
    told = verdict([nobody, alone], ["missed"] * 2, "ab", SLO, [FLAT] * 2)["text"]
    assert told.startswith("No point keeps the limits. The nearest is b. 50% of its requests")


def test_a_share_of_none_within_the_limits_has_its_column() -> None:
    columns = {one.metric for one in columns_of([row(0.0), row(0.0)])}
    assert "slo_attainment" in columns
    assert "slo_attainment" not in {one.metric for one in columns_of([row(0.0)], limited=False)}


def test_columns_of_dashes_are_left_out() -> None:
    table = Table(("gpu", "users", "% of capacity"), (("a", "1", MISSING), ("b", "2", MISSING)))
    assert table.told().headings == ("gpu", "users")


def test_what_is_not_certain_is_judged_by_how_near_it_comes() -> None:
    rows = [
        row(0.33, usd_per_million_output_tokens=0.1),
        row(0.991, 0.98, 0.999, usd_per_million_output_tokens=0.5),
        row(0.995, 0.98, 0.999, usd_per_million_output_tokens=0.9),
        row(0.97, 0.9, 0.995, usd_per_million_output_tokens=0.2),
        row(0.5, 0.4, 0.6),
    ]
    assert by_merit(rows, [*["undecided"] * 4, "missed"], SLO) == [1, 2, 3, 0, 4]


def test_many_windows_are_shown_as_few_and_hide_no_bad_one() -> None:
    shown = Curves(
        {}, {}, 1e5, [1.0], [0.1], [1.0], windows=[KEPT] * 2000 + [MISSED] + [KEPT] * 999,
        window_s=33.0,
    )  # fmt: skip
    data = page_data("w", (), [row(1.0)], [shown], SLO, clock=True)
    windows = data["points"][0]["windows"]
    assert sum(count for _, count in windows["runs"]) <= MOST_WINDOWS
    assert [state for state, _ in windows["runs"]] == [KEPT, MISSED, KEPT]


def test_whatever_a_metric_is_called_it_has_a_column_with_a_unit() -> None:
    assert named("ttft_p95_s") == ("TTFT p95, ms", 1e3)
    assert named("e2e_mean_s") == ("E2E mean, s", 1.0)
    assert named("kv_transfer_mean_s") == ("KV transfer mean, s", 1.0)
    assert named("ttft_p99_s_attainment") == ("TTFT p99 kept, %", 100.0)
    assert named("prefix_cache_hit_rate") == ("prefix cache hits, %", 100.0)
    assert named("goodput_per_s") == ("goodput/s", 1.0)
    assert named("preemptions") == ("preemptions", 1.0)
    assert [good_way(name) for name in ("tpot_p99_s", "goodput_per_s", "gpus")] == [-1, 1, 0]
    rows = [row(1.0, preemptions=0.0, prefix_cache_hit_rate=0.25), row(1.0, preemptions=0.0)]
    found = {column.metric: column for column in columns_of(rows)}
    assert "preemptions" not in found  # nothing to say
    assert found["prefix_cache_hit_rate"].name == "prefix cache hits, %"
    assert next(iter(found)) == "usd_per_million_output_tokens"


def test_keys_are_called_by_as_much_as_tells_them_apart() -> None:
    keys = ("cluster.gpu", "workload.lengths.prompt.mean", "workload.lengths.output.mean")
    assert list(key_names(keys).values()) == ["gpu", "prompt.mean", "output.mean"]
    assert key_names(["model"]) == {"model": "model"}


def difference(metric: str, value: float, half: float, starred: int) -> dict[str, Any]:
    return {
        "point": 2, "baseline": 1, "metric": metric, "baseline_value": 0.2, "difference": value,
        "difference_lo": value - half, "difference_hi": value + half, "starred": starred,
    }  # fmt: skip


def test_differences_are_told_in_the_units_of_their_columns() -> None:
    rows = [row(1.0), row(1.0)]
    told = [difference("ttft_p99_s", -0.02, 0.01, 1), difference("goodput_per_s", 0, 0.5, 0)]
    told.append(difference("tpot_p99_s", 0.01, math.nan, 0))
    data = page_data("d", (), rows, [FLAT] * 2, SLO, clock=False, differences=told)
    found = data["differences"]
    assert [one["metric"] for one in found["metrics"]] == ["ttft_p99_s", "goodput_per_s"]
    assert found["metrics"][0]["rows"] == [[2, 1, 200, -20, -30, -10, 1]]
    assert found["first"] == "ttft_p99_s"
    same = [difference("ttft_p99_s", 0.0, 0.0, 0)]
    assert (
        page_data("d", (), rows, [FLAT] * 2, SLO, clock=False, differences=same)["differences"]
        is None
    )


def test_scripts_lose_comments_and_spaces_alone() -> None:
    marks = str.maketrans("", "", " \n;")
    for path in ASSETS.glob("*.js"):
        written = path.read_text(encoding="utf-8")
        # The library takes a template in a template for code.
        assert not re.search(r"\$\{[^}]*`", written)
        source = re.sub(r"(^|  )//( .*)?$", "", written, flags=re.MULTILINE)
        text = asset(path.name)
        assert text.translate(marks) == source.translate(marks)
        assert len(text) < 0.9 * len(source)
        assert all(each in text for each in re.findall(r'"\w+(?: \w+)+"', source))


def test_data_of_many_points_stay_small() -> None:
    rows = [row(1.0, **{KEYS[0]: "h100", KEYS[1]: n + 0.5}) for n in range(500)]
    drawn = drawn_points(KEYS, rows, SLO)
    shown = [FLAT if place in drawn else None for place in range(500)]
    data = page_data("many", KEYS, rows, shown, SLO, clock=False)
    with_curves = [point["n"] - 1 for point in data["points"] if point["q"]]
    assert len(with_curves) == MOST_CURVES
    assert data["best"] - 1 in with_curves
    assert data["axis"] == "rate_per_s"
    place = next(one["m"] for one in data["columns"] if one["id"] == "tpot_p99_s")
    assert all(point["m"][place] == 0.01 for point in data["points"])


def test_what_is_shown_at_first_has_curves_however_many_points_there_are() -> None:
    """The best of the last GPU is dearer than everything else, and between all that are spread."""
    rows = [row(1.0 + n, **{KEYS[0]: "h100", KEYS[1]: n + 0.5}) for n in range(500)]
    rows[-2] |= {KEYS[0]: "l40s"}
    drawn = drawn_points(KEYS, rows, SLO)
    shown = [FLAT if place in drawn else None for place in range(500)]
    data = page_data("many", KEYS, rows, shown, SLO, clock=False)
    assert data["chosen"] == [1, 499]
    assert len(drawn) == MOST_CURVES
    assert {0, 498} <= drawn


def page_of(points: int, path: Path) -> int:
    """Write a page on which every metric, curve and difference has many digits; return its size."""
    rng = np.random.default_rng(1)

    def figures(count: int) -> list[float]:
        return rng.uniform(0.001, 9.9, count).tolist()

    rows, told, shown = [], [], []
    for n in range(points):
        values = dict(zip(METRICS, figures(len(METRICS)), strict=True))
        ends = {
            f"{name}_{end}": value * 1.1 for name, value in values.items() for end in ("lo", "hi")
        }
        fixed = {
            "saturated": 0.0,
            "slo_attainment": 0.995,
            KEYS[0]: f"gpu-{n % 4}",
            KEYS[1]: n + 0.5,
        }
        rows.append(values | ends | fixed)
        told += [
            difference(metric, value, 0.3, 1) | {"point": n + 1}
            for metric, value in zip(SHOWN, figures(len(SHOWN)), strict=True)
        ]
        shown.append(
            Curves(
                {name: figures(len(RANKS)) for name in ("ttft", "tpot", "e2e")},
                {span: {part: figures(4) for part in parts} for span, (_, parts) in SPANS.items()},
                3600.0, figures(48), figures(48), figures(48),
                {
                    name: [0.25] * (FEW_BOUND_SLICES if points > MOST_FINE else BOUND_SLICES)
                    for name in ("seats", "bandwidth", "arithmetic")
                },
            )
        )  # fmt: skip
    page = Page(
        name="sizes", description="", basis="", notes=[], texts=[("All", "x" * 6000)],
        gpus=[1] * points, differences=told,
    )  # fmt: skip
    write_page(path, page, KEYS, rows, shown, SLO, clock=False)
    return path.stat().st_size


def test_pages_stay_small(tmp_path: Path) -> None:
    """15 points as ``gpu_choice`` has them, and as many as have curves of their own."""
    assert page_of(15, tmp_path / "some.html") < 124_000
    assert page_of(64, tmp_path / "many.html") < 256_000


def test_replicas_are_told_by_the_means_of_their_runs() -> None:
    def of(point: int, replica: int, requests: float, hits: float) -> dict[str, Any]:
        use = {"busy_share": 0.5, "mean_batch_size": 2.0, "kv_use_mean": 0.1, "kv_use_max": 0.25}
        return {
            "point": point, "replica": replica, "pool": "fast" if replica else "", "mfu": 0.3,
            "requests": requests, "prefix_cache_hit_rate": hits, "claimed_hit_rate": math.nan,
            "mbu": 0.4, **use,
        }  # fmt: skip

    rows = [of(1, 0, 30, 0.2), of(1, 1, 10, 0.5), of(1, 0, 50, 0.4), of(1, 1, 10, math.nan)]
    rows += [of(2, 0, 1, 0.0), of(3, 0, 4, 0.0), of(3, 1, 0, 0.0)]
    found = replica_table(rows, {1: "a", 2: "", 3: "b"}, [1])
    assert found.headings[:3] == ("replica", "requests, %", "prefix cache hits, %")
    assert "claimed hit rate, %" not in found.headings
    assert [row[:3] for row in found.rows] == [
        ("0", "80.0", "30.0"), ("1 fast", "20.0", "50.0"), ("0", "100", "0"), ("0", "100", "0"),
        ("1 fast", MISSING, "0"),
    ]  # fmt: skip
    bodies = [(point, name, len(rows)) for point, name, rows in found.bodies]
    assert bodies == [(1, "1: a", 2), (2, "", 1), (3, "3: b", 2)]
    assert dict(zip(found.headings, found.rows[0], strict=True))["KV max, %"] == "25.0"
    many = [of(1, replica, replica + 1, 0.1) for replica in range(40)]
    assert [row[0] for row in replica_table(many, {1: "a"}, [1]).rows] == [
        f"{replica} fast" for replica in range(24, 40)
    ]
    spread = [of(point, replica, 1, 0.1) for point in range(1, 41) for replica in range(16)]
    labels = dict.fromkeys(range(1, 41), "a")
    assert set(replica_table(spread, labels, [7, 9]).points) == {7, 9}


def test_what_says_nothing_has_no_column() -> None:
    quiet = row(1.0, acceptance_length_mean=1.0, request_share_max=1.0, preemptions=0.0)
    names = {column.metric for column in columns_of([quiet])}
    assert not {"acceptance_length_mean", "request_share_max", "preemptions"} & names
    told = columns_of([quiet, quiet | {"acceptance_length_mean": 1.8}])
    (drafts,) = (column for column in told if column.metric == "acceptance_length_mean")
    assert "verdict" in drafts.views


def test_a_look_belongs_to_what_a_point_is_whatever_the_type_of_its_values() -> None:
    held = '{"size_gib": 200}'
    pairs = ((4.0, "x"), (True, "x"), (4.0, held), (0.5, "x"), (4.0, "x"))
    rows = [row(1.0, **{KEYS[0]: one, KEYS[1]: other}) for one, other in pairs]
    data = page_data("looks", KEYS, rows, [FLAT] * 5, SLO, clock=False)
    assert [point["group"] for point in data["points"]] == [0, 1, 2, 3, 0]
    assert len(data["groups"]) == 4
    # A mapping is told as people say it, and exported as tables have it.
    told = [point.get("said") for point in data["points"]]
    assert told == [None, None, {1: "size_gib 200"}, None, None]
    assert data["points"][2]["values"][1] == held


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
    assert len(scripts) == 1
    assert data_of(text)["points"][0]["values"] == [evil, 1]
    with pytest.raises(ValueError, match="no page of headroom"):
        data_of("<html></html>")
    with pytest.raises(ValueError, match=r"summary has no column 'engine\.x', expected every"):
        write_page(tmp_path / "b.html", page, ["engine.x"], rows, [FLAT], SLO, clock=False)


def test_embedded_data_are_json_that_ends_no_element() -> None:
    text = embedded({"a": "</script><!--", "b": None})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><!--", "b": None}
