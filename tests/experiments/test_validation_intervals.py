"""Intervals of predictions of measured runs: what one run varies by counts, too."""

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from experiments.validation.figures import spreads_of, stalls_of
from experiments.validation.predict import _interval
from hardware.engines.table import vllm
from sim.recording.result import FINISHED, Result

Floats = np.ndarray


def result_of(ttft_s: Floats) -> Result:
    """A run whose requests take so long to their first token, and ten seconds more for ten."""
    count = len(ttft_s)
    columns = {
        "status": np.full(count, FINISHED),
        "sent_s": np.zeros(count),
        "first_token_s": ttft_s,
        "finish_s": ttft_s + 10.0,
        "output_tokens": np.full(count, 11),
    }
    return cast(Result, SimpleNamespace(requests=columns))


def p99_of_runs(count: int, rng: np.random.Generator) -> list[float]:
    return [float(np.quantile(rng.lognormal(0.0, 0.5, count), 0.99)) for _ in range(2000)]


@pytest.mark.parametrize("count", [500, 4000])
def test_a_percentile_varies_by_its_order_statistics(count: int) -> None:
    rng = np.random.default_rng(3)
    between_runs = float(np.std(np.log(p99_of_runs(count, rng))))
    told = [
        spreads_of(result_of(rng.lognormal(0.0, 0.5, count)), np.ones(count, dtype=np.bool_))
        for _ in range(50)
    ]
    of_order = [one["ttft_p99_ms"] for one in told]
    assert np.mean(of_order) == pytest.approx(between_runs, rel=0.2)
    assert np.mean([one["ttft_p50_ms"] for one in told]) < 0.7 * between_runs  # of the middle: less
    assert told[0]["tpot_p99_ms"] == 0.0  # all alike


def test_what_one_run_varies_by_widens_an_interval_and_makes_none() -> None:
    assert math.isnan(_interval([5.0], [], 0.3)[1])
    alone, wider = (_interval([5.0], [4.9, 5.1, 5.0], lone) for lone in (0.0, 0.3))
    assert alone[0] == wider[0] == 5.0
    half = [math.log(high / low) / 2 for _, low, high in (alone, wider)]
    assert half[1] == pytest.approx(math.hypot(half[0], 1.96 * 0.3), rel=1e-3)


def test_what_hosts_do_makes_the_highest_percentiles_of_ttft_longer_alone() -> None:
    tail = vllm().price_error.tail
    names = ("ttft_p90", "ttft_p95", "ttft_p99")
    known = {name: stalls_of(f"{name}_ms", "h100-sxm") for name in names}
    assert set(known.values()) == {tail}
    others = ("ttft_mean_ms", "ttft_p50_ms", "tpot_p99_ms", "e2e_p99_ms", "out_tok_s")
    assert {stalls_of(name, "h100-sxm") for name in others} == {0.0}
    alone, longer = (_interval([5.0], [4.9, 5.1, 5.0], 0.0, each) for each in (0.0, 0.3))
    assert longer[:2] == alone[:2]
    up = [math.log(high / mean) for mean, _, high in (alone, longer)]
    assert up[1] == pytest.approx(math.hypot(up[0], 1.96 * 0.3), rel=1e-3)


def test_first_tokens_of_other_servers_may_come_later() -> None:
    """Their host is another one than that of the runs that constants were fitted to."""
    tail = vllm().price_error.tail
    for gpu in ("h200-sxm", "b200-sxm", "l4"):
        assert {stalls_of(f"ttft_{of}_ms", gpu) for of in ("mean", "p50", "p99")} == {tail}
        others = ("tpot_mean_ms", "itl_p99_ms", "e2e_mean_ms", "out_tok_s", "req_s")
        assert {stalls_of(name, gpu) for name in others} == {0.0}


def test_a_figure_that_jumps_between_draws_has_an_interval_about_its_jump() -> None:
    """A percentile of gaps that lies among decodes in some draws and among prompts in others."""
    _, low, high = _interval([46.0], [46.0, 46.0, 600.0, 46.0])
    assert 2.0 < low < 46.0  # deviation of the logarithms: 1.28
    assert 300.0 < high < 1000.0
    small = [4.9, 5.1, 5.0]
    _, below, above = _interval([5.0], small)
    assert math.log(above / below) / 2 == pytest.approx(1.96 * np.std(small, ddof=1) / 5, rel=0.01)
