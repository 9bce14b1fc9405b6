"""Intervals over seeds: their coverage, their columns, and differences paired by seed."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.reporting.differences import paired_difference
from experiments.reporting.means import mean_interval
from experiments.reporting.records import Records
from experiments.reporting.stats import summarise_points
from experiments.reporting.student import t_quantile

KEYS = ["engine.max_num_seqs", "engine.scheduler"]


def runs_of(seeds: int = 3) -> pd.DataFrame:
    """Two points; the second is 1 s slower on every seed, and noisier than that between seeds."""
    noise = np.random.default_rng(0).normal(10, 5, seeds)
    rows = [
        {
            KEYS[0]: limit, KEYS[1]: "static", "seed": seed, "point": point,
            "measured_requests": 1800.0, "saturated": float(point and seed == 0),
            "rejected": 0.0, "timed_out": 0.0, "unfinished": 0.0,
            "ttft_p99_s": noise[seed] + point,
            "usd_per_hour": 2.0,
        }
        for point, limit in enumerate((16, 4))
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def summarised(runs: pd.DataFrame, *arguments: list[str]) -> pd.DataFrame:
    """The same of and as frames, which are easier to take apart."""
    return summarise_points(Records.of_frame(runs), *arguments).frame()


def test_columns_and_values() -> None:
    runs = runs_of()
    summary = summarised(runs, KEYS)
    assert list(summary) == [
        *KEYS, "seeds", "rejected", "rejected_lo", "rejected_hi", "timed_out", "timed_out_lo",
        "timed_out_hi", "unfinished", "unfinished_lo", "unfinished_hi",
        "measured_requests", "ttft_p99_s", "ttft_p99_s_lo", "ttft_p99_s_hi",
        "saturated", "usd_per_hour", "notes",
    ]  # fmt: skip
    assert summary[KEYS[0]].tolist() == [16, 4]
    assert summary["saturated"].tolist() == [0, pytest.approx(1 / 3)]
    assert summary["notes"][0] == ""
    assert summary["notes"][1].startswith("saturated")
    assert summary["rejected_lo"].isna().all()  # every seed says 0: no interval
    first = runs["ttft_p99_s"][:3]
    mean, error = first.mean(), first.std() / math.sqrt(3)
    span = stats.t.ppf(0.975, 2) * error / mean
    expected = (mean * math.exp(-span), mean * math.exp(span))
    assert summary["ttft_p99_s"][0] == pytest.approx(mean)
    assert (summary["ttft_p99_s_lo"][0], summary["ttft_p99_s_hi"][0]) == pytest.approx(expected)


def test_bytes_do_not_depend_on_the_order_of_the_seeds() -> None:
    runs = runs_of(7)
    shuffled = pd.concat([runs[:7].sample(frac=1, random_state=1), runs[7:]])
    texts = [summarised(frame, KEYS).to_csv(index=False) for frame in (runs, shuffled)]
    assert texts[0] == texts[1]


def test_one_seed_and_no_sweep() -> None:
    summary = summarised(runs_of(1)[:1], [])
    assert len(summary) == 1
    assert summary["ttft_p99_s"].notna().all()
    assert summary["ttft_p99_s_lo"].isna().all()


def test_missing_keys_are_a_value_of_their_own() -> None:
    runs = runs_of()
    runs[KEYS[1]] = ["a", "a", "a", None, None, None]
    assert len(summarised(runs, [KEYS[1]])) == 2


def test_metrics_can_be_named() -> None:
    summary = summarised(runs_of(), KEYS, ["point"])
    assert list(summary) == [*KEYS, "seeds", "point", "point_lo", "point_hi", "notes"]
    runs = runs_of().drop(columns="saturated")
    assert summarised(runs, KEYS)["notes"].tolist() == ["", ""]


def test_refuses_unknown_columns_and_repeated_seeds() -> None:
    with pytest.raises(ValueError, match=r"no column 'ttft_p9_s': did you mean 'ttft_p99_s'\?"):
        summarised(runs_of(), KEYS, ["ttft_p9_s"])
    with pytest.raises(ValueError, match="seed 0 occurs twice in point"):
        summarised(pd.concat([runs_of(), runs_of()]), KEYS)
    with pytest.raises(ValueError, match="values is empty"):
        mean_interval([])


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0], [1.0, math.inf], [1.0, math.nan]])
def test_no_interval_without_knowledge(values: list[float]) -> None:
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(np.mean(values), nan_ok=True)
    assert math.isnan(low)
    assert math.isnan(high)


def test_coverage() -> None:
    """Of normal samples the interval is exact: it misses 5% of the means.

    The number of misses in 4000 is Binomial(4000, 0.05); a right interval leaves the accepted
    range with a probability of 1e-6 over all seeds of this test.
    """
    samples = np.random.default_rng(7).normal(3.0, 2.0, (4000, 5))
    misses = sum(not low <= 3.0 <= high for _, low, high in map(mean_interval, samples))
    low, high = stats.binom.ppf([0.5e-6, 1 - 0.5e-6], 4000, 0.05)
    assert low <= misses <= high


def test_pairing_removes_what_seeds_share() -> None:
    runs = runs_of(5)
    runs["ttft_p99_s"] += np.random.default_rng(1).normal(0, 0.01, len(runs))
    baseline = {KEYS[0]: 16.0, KEYS[1]: "static"}
    same, slower = paired_difference(Records.of_frame(runs), KEYS, "ttft_p99_s", baseline).rows()
    assert same["difference"] == 0
    assert slower["difference_lo"] < 1 < slower["difference_hi"]
    assert slower["difference_hi"] - slower["difference_lo"] < 0.1
    summary = summarised(runs, KEYS)
    assert (summary["ttft_p99_s_hi"] - summary["ttft_p99_s_lo"]).min() > 5  # unpaired: useless


def test_pairing_refuses() -> None:
    runs = runs_of()
    with pytest.raises(ValueError, match="is no point of the sweep, expected one of"):
        paired_difference(Records.of_frame(runs), KEYS, "ttft_p99_s", {KEYS[0]: 5})
    with pytest.raises(ValueError, match=r"seeds \[0, 1\] of a point differ"):
        paired_difference(
            Records.of_frame(runs[:-1]), KEYS, "ttft_p99_s", {KEYS[0]: 16, KEYS[1]: "static"}
        )


@pytest.mark.parametrize("freedom", [0.7, 1, 1.3, 2, 4.8, 9, 29, 1000, 1e6])
def test_quantiles_of_student_s_t_are_scipy_s(freedom: float) -> None:
    from scipy.special import stdtrit

    for probability in (0.5, 0.8, 0.975, 0.9995):
        expected = pytest.approx(float(stdtrit(freedom, probability)), rel=1e-8, abs=1e-12)
        assert t_quantile(probability, freedom) == expected
    if freedom < 1000:
        assert t_quantile(0.975, freedom) == pytest.approx(stdtrit(freedom, 0.975), rel=1e-12)


@pytest.mark.parametrize(
    ("probability", "freedom"), [(0.4, 3), (1.0, 3), (0.9, 0), (0.9, math.nan)]
)
def test_quantiles_of_student_s_t_refuse(probability: float, freedom: float) -> None:
    with pytest.raises(ValueError, match=r"expected 0.5 <= probability < 1 and freedom > 0"):
        t_quantile(probability, freedom)
