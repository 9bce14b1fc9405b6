"""Rates, dispersions and mean lengths, against long samples of what they are the limits of."""

import numpy as np
import pytest
from pydantic import TypeAdapter

from workloads.arrivals import Arrivals
from workloads.lengths import Lengths
from workloads.steady import mean_output_tokens, steady

ARRIVALS = [
    {"process": "poisson", "rate_per_s": 10},
    {"process": "gamma", "rate_per_s": 10, "cv": 2},
    {"process": "gamma", "rate_per_s": 10, "cv": 0.5},
    {"process": "on_off", "rate_on_per_s": 30, "mean_on_s": 2, "mean_off_s": 4},
    {"process": "markov", "rates_per_s": [2, 10, 40], "mean_dwell_s": [3, 1, 0.5]},
]


@pytest.mark.parametrize("law", ARRIVALS, ids=str)
def test_counts_have_the_rate_and_the_dispersion(law: dict[str, object]) -> None:
    """Counts of 400 s of a sample of 2 million: the variance of some thousand is good to 3%."""
    arrivals = TypeAdapter(Arrivals).validate_python(law)
    found = steady(arrivals)
    assert found is not None
    times = arrivals.times_s(2_000_000, np.random.default_rng(3))
    counts = np.histogram(times, np.arange(0, times[-1], 400.0))[0]
    assert counts.mean() == pytest.approx(400 * found.rate_per_s, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(found.dispersion, rel=0.25)


def test_what_has_no_steady_state() -> None:
    for law in (
        {"process": "all_at_once"},
        {"process": "closed_loop", "users": 3},
        {"process": "diurnal", "mean_rate_per_s": 1, "peak_to_trough": 2},
        {"process": "piecewise", "steps": [{"duration_s": 1, "rate_per_s": 1}]},
    ):
        assert steady(TypeAdapter(Arrivals).validate_python(law)) is None
    assert steady(None) is None
    metronome = TypeAdapter(Arrivals).validate_python({"process": "deterministic", "rate_per_s": 2})
    found = steady(metronome)
    assert found is not None
    assert (found.rate_per_s, found.dispersion) == (2, 0)


@pytest.mark.parametrize(
    "law",
    [
        {"distribution": "constant", "value": 7},
        {"distribution": "uniform", "min": 3, "max": 8},
        {"distribution": "lognormal", "mean": 200, "cv": 1.2},
        {"distribution": "lognormal", "mean": 200, "cv": 1.2, "min": 50, "max": 300},
        {"distribution": "exponential", "mean": 30},
        {"distribution": "exponential", "mean": 30, "min": 10, "max": 40},
    ],
    ids=str,
)
def test_mean_lengths(law: dict[str, object]) -> None:
    lengths = Lengths.model_validate({"prompt": {"distribution": "constant", "value": 1}} | {
        "output": law
    })  # fmt: skip
    outputs = lengths.sample(1_000_000, np.random.default_rng(0))[1]
    assert mean_output_tokens(lengths) == pytest.approx(outputs.mean(), rel=0.005)


def test_mean_lengths_of_files(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "lengths.csv"
    path.write_text("prompt_tokens,output_tokens\n10,1\n20,5\n30,9\n")
    column = {"distribution": "empirical", "path": str(path), "column": "output_tokens"}
    prompt = {"distribution": "constant", "value": 1}
    lengths = Lengths.model_validate({"prompt": prompt, "output": column})
    assert mean_output_tokens(lengths) == 5
