"""What a page calls its points, what its charts have on x, and what it leaves out."""

import math
from typing import Any

import pytest

from experiments.reporting.limits import limits_of, tails_of
from experiments.reporting.page.columns import columns_of, key_names, label_of, telling_keys
from experiments.reporting.page.data import page_data
from experiments.reporting.page.layout import axis_of, grouping_of
from experiments.reporting.page.tables import Table
from experiments.reporting.page.write import cards
from experiments.reporting.quantities import MISSING
from experiments.texts.sheet import measured
from sim.measuring.slo import Slo

USERS, REQUESTS = "workload.arrivals.users", "workload.num_requests"
TP, PP = "cluster.tensor_parallel_size", "cluster.pipeline_parallel_size"
GPU, CACHING = "cluster.gpu", "engine.enable_prefix_caching"


def points(keys: tuple[str, ...], *values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(keys, each, strict=True)) for each in values]


def test_points_are_called_by_what_runs() -> None:
    (row,) = points((TP, PP, USERS, CACHING), (4, 1, 16, False))
    told = "TP 4, PP 1, users 16, enable_prefix_caching false"
    assert label_of(list(row), row) == told
    assert key_names([TP, "cluster.gpu"]) == {TP: "TP", "cluster.gpu": "gpu"}
    names = {"calibration": "none", GPU: "h100-sxm", "cluster.pools": "2 x l40s decode"}
    assert label_of(list(names), names) == "calibration none, h100-sxm, 2 x l40s decode"
    assert label_of(["workload.clients.leave_out"], {"workload.clients.leave_out": "[1]"}) == (
        "leave_out [1]"
    )


def test_a_mapping_is_called_by_what_it_holds() -> None:
    told = '{"distribution": "lognormal", "mean": 20, "cv": 1.5, "max": 100}'
    row = {"workload.lengths.output": told, "model": "{no json"}
    assert label_of(["workload.lengths.output"], row) == "output lognormal mean 20 cv 1.5 max 100"
    assert label_of(["model"], row) == "model {no json"


def test_how_long_a_run_is_does_not_name_it_where_something_else_does() -> None:
    rows = points((USERS, REQUESTS), (64, 200), (256, 800))
    assert telling_keys((USERS, REQUESTS), rows) == [USERS]
    rows = points((USERS, REQUESTS), (64, 200), (64, 800))
    assert telling_keys((USERS, REQUESTS), rows) == [USERS, REQUESTS]
    assert telling_keys((), [{}]) == []


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (points((GPU, USERS), ("a", 1), ("a", 2), ("b", 1), ("b", 2)), (USERS, [GPU])),
        # The number with most values, not the last one.
        (points((USERS, TP), (1, 2), (2, 2), (4, 2), (1, 4), (2, 4), (4, 4)), (USERS, [TP])),
        # Of as many, the one that is varied last.
        (points((TP, USERS), (2, 1), (2, 8), (4, 1), (4, 8)), (USERS, [TP])),
        # A line of one point each orders nothing.
        (points((TP, PP), (4, 1), (2, 2), (1, 4)), (None, [TP, PP])),
        (points((CACHING,), (False,), (True,)), (None, [CACHING])),
        (points((USERS,), (1,), (2,)), (USERS, [])),
        (points((GPU, USERS), ("a", 1), ("b", 1)), (None, [GPU])),
    ],
)
def test_what_charts_have_on_x(rows: list[dict[str, Any]], found: tuple[str, list[str]]) -> None:
    assert axis_of(list(rows[0]), rows) == found


def summary(**more: Any) -> dict[str, Any]:
    return {
        "usd_per_million_output_tokens": 1.0, "gpus": 2.0, "usd_per_hour": 5.0, "saturated": 0.0,
        "slo_attainment": 1.0, "ttft_p99_s": 0.2, "tpot_p99_s": 0.01, "measured_requests": 1000.0,
        "seeds": 3, "design_effect": 40.0,
    } | more  # fmt: skip


def test_what_is_alike_everywhere_is_in_no_narrow_view() -> None:
    alike = {each.metric: each for each in columns_of([summary(), summary()])}
    assert alike["gpus"].views == alike["usd_per_hour"].views == ()
    assert alike["ttft_p99_s"].views  # an estimate may be the same by chance
    differing = {each.metric: each for each in columns_of([summary(), summary(gpus=4.0)])}
    assert differing["gpus"].views
    assert {each.metric: each for each in columns_of([summary()])}["gpus"].views


def test_a_card_has_no_latency_where_as_much_comes_as_can_be_served() -> None:
    assert cards(summary(), 2, None)[3]["value"] != MISSING
    for more, note in (
        ({"saturated": 0.5}, "saturated"),
        ({"design_effect": math.inf}, "as much comes as can be served"),
        ({"design_effect": math.inf, "saturated": math.nan}, "as much comes as can be served"),
    ):
        card = cards(summary(**more), 2, None)[3]
        assert (card["value"], card["note"]) == (MISSING, note)


def test_without_limits_nothing_is_within_them() -> None:
    without = [each.metric for each in columns_of([summary()], limited=False)]
    assert "slo_attainment" not in without
    assert cards(summary(), 2, None)[2]["title"] == "requests/s"
    assert cards(summary(), 2, Slo(ttft_s=1.0))[2]["title"] == "within the limits, %"


def test_a_slo_of_percentiles_is_looked_at_by_its_own() -> None:
    """Cards, first view, limits and charts; nobody wants a share of the requests."""
    slo = Slo(ttft_p95_s=4.0, tpot_p90_s=0.03, tpot_p50_s=0.02)
    row = summary(ttft_p95_s=3.0, tpot_p90_s=0.025, slo_verdict="kept")
    assert tails_of(slo) == {"ttft": 95, "tpot": 90}
    assert [card["title"] for card in cards(row, 2, slo)[3:5]] == ["TTFT p95, ms", "TPOT p90, ms"]
    assert cards(row, 2, slo)[3]["value"].startswith("~3,000")
    data = page_data("percentiles", (), [row], [None], slo, clock=False)
    assert data["limits"] == {"ttft_p95_s": 4.0, "tpot_p90_s": 0.03, "tpot_p50_s": 0.02}
    assert data["tails"] == {"ttft": 95, "tpot": 90}
    first = [each["id"] for each in data["columns"] if "verdict" in each.get("views", ())]
    assert {"ttft_p95_s", "tpot_p90_s"} <= set(first)
    assert not {"ttft_p99_s", "tpot_p99_s"} & set(first)
    both = Slo(ttft_s=1.0, attainment=0.95)
    assert limits_of(both) == {"ttft_s": 1.0, "slo_attainment": 0.95}
    assert tails_of(both) == tails_of(None) == {"ttft": 99, "tpot": 99}
    assert limits_of(None) == {}


def test_percentiles_of_few_requests_are_marked() -> None:
    """30 requests lie beyond p99: of TTFT worth 30/40, of TPOT 30/4 independent ones."""
    data = page_data("few", (), [summary()], [None], Slo(ttft_s=1.0), clock=False)
    places = {each["id"]: each["m"] for each in data["columns"] if "m" in each}
    (point,) = data["points"]
    assert point["few"] == [places["ttft_p99_s"], 0.8, places["tpot_p99_s"], 8]
    told = {card["title"]: card for card in cards(summary(), 2, Slo(ttft_s=1.0))}
    assert told["TTFT p99, ms"]["value"] == "~200"
    assert told["TTFT p99, ms"]["few"] == "rests on 0.75 independent requests"
    firm = page_data(
        "firm", (), [summary(measured_requests=1e6)], [None], Slo(ttft_s=1.0), clock=False
    )
    assert "few" not in firm["points"][0]


def test_columns_without_anything_are_left_out() -> None:
    table = Table(("name", "figure", "remark"), (("", "1", ""), ("", "2", "")))
    assert table.told() == Table(("name", "figure"), (("", "1"), ("", "2")))


def test_a_number_with_its_unit_is_no_text() -> None:
    rows = (("speed", "1.96 times", "none", "94.7 GFLOP", "the same"),)
    assert Table(("a", "b", "c", "d", "e"), rows).words == {0, 4}


def test_figures_of_tables_have_units() -> None:
    assert measured(3.4e12, "FLOP") == "3.4 TFLOP"
    assert measured(3_072_768_000, "bytes") == "3.07277 GB"
    assert measured(8_030_261_248, "") == "8,030,261,248"
    assert [measured(99.8, "%"), measured(2, "ms"), measured(None, "ms")] == ["99.8%", "2 ms", ""]


SIZE, STORE = "engine.kv_offloading_size", "cluster.kv_store"


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        # No tier, a tier and a store look different, though each key alone cannot tell them apart.
        (points((SIZE, STORE), (None, None), (50, None), (None, "a"), (25, "b")), [SIZE, STORE]),
        # Of many combinations names come before numbers, ...
        (points((TP, GPU), *((n, gpu) for n in range(5) for gpu in "ab")), [GPU]),
        # ... as many as stay few together, and the first one always.
        (points((GPU, CACHING), *((gpu, on) for gpu in "abcd" for on in "xy")), [GPU, CACHING]),
        (points((GPU, CACHING), *((gpu, on) for gpu in "abcde" for on in "xy")), [GPU]),
        (points((GPU,), *((gpu,) for gpu in "abcdefghijkl")), [GPU]),
        (points((USERS,), (1,), (2,)), [USERS]),
        ([{}], []),
    ],
)
def test_few_combinations_have_a_colour_each(rows: list[dict[str, Any]], found: list[str]) -> None:
    assert grouping_of(list(rows[0]), rows) == found
