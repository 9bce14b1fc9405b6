"""A trace with other luck: the same hours, other moments."""

from pathlib import Path

import numpy as np
import pytest

from workloads.generate import generate
from workloads.requests import Prefixes, Requests
from workloads.resampling import Resample, resampled
from workloads.workload import Workload


def recorded() -> Requests:
    """Two windows of 100 s: 1,000 short prompts, then 100 long ones."""
    early = np.sort(np.random.default_rng(0).random(1000) * 100)
    late = 300 + np.sort(np.random.default_rng(1).random(100) * 100)
    prompts = np.concatenate((np.full(1000, 10), np.full(100, 500)))
    return Requests(
        arrival_s=np.concatenate((early, late)),
        prompt_tokens=prompts,
        output_tokens=np.arange(1, 1101),
        priority=np.zeros(1100, dtype=np.int64),
    )


def test_each_window_has_about_as_many_of_its_own() -> None:
    """Poisson counts: 1,000 +- 5 standard deviations of 32, 100 +- 5 of 10; once in a million."""
    found = resampled(recorded(), Resample(window_s=100), np.random.default_rng(3))
    early, late = found.arrival_s < 100, found.arrival_s >= 300
    assert abs(early.sum() - 1000) < 160
    assert abs(late.sum() - 100) < 50
    assert early.sum() + late.sum() == len(found)
    assert set(found.prompt_tokens[early].tolist()) == {10}
    assert set(found.prompt_tokens[late].tolist()) == {500}
    assert found.arrival_s[-1] <= recorded().arrival_s[-1]


def test_lengths_are_those_of_a_window_and_its_neighbours() -> None:
    """Four windows of 300 requests, told by their prompts."""
    prompts = np.repeat([1, 2, 3, 4], 300)
    day = Requests(
        arrival_s=np.arange(1200) / 3.0,
        prompt_tokens=prompts,
        output_tokens=np.ones(1200, dtype=np.int64),
        priority=np.zeros(1200, dtype=np.int64),
    )
    found = resampled(day, Resample(window_s=100), np.random.default_rng(5))
    window = (found.arrival_s / 100).astype(int)
    for number, expected in enumerate([{1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4}]):
        drawn = found.prompt_tokens[window == number]
        assert set(drawn.tolist()) == expected
        shares = np.bincount(drawn)[sorted(expected)] / len(drawn)
        assert shares == pytest.approx(1 / len(expected), abs=0.15)


def test_scale_brings_more_at_the_same_hours() -> None:
    found = resampled(recorded(), Resample(window_s=100, scale=3), np.random.default_rng(3))
    assert abs((found.arrival_s < 100).sum() - 3000) < 300
    assert found.arrival_s[-1] <= 400


def test_lengths_stay_with_their_prefixes() -> None:
    one = recorded()
    streams = np.arange(len(one))
    prefixes = Prefixes(np.arange(len(one) + 1), streams, one.prompt_tokens)
    found = resampled(
        Requests(
            arrival_s=one.arrival_s, prompt_tokens=one.prompt_tokens,
            output_tokens=one.output_tokens, priority=one.priority, prefixes=prefixes,
        ),
        Resample(window_s=100), np.random.default_rng(3),
    )  # fmt: skip
    assert found.prefixes is not None
    assert (found.prefixes.streams + 1 == found.output_tokens).all()


def test_seeds_differ_and_repeat_and_a_trace_alone_does_not(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = [f"{at},{10 + at},5" for at in range(50)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    plain = Workload(trace=str(path))
    again = Workload(trace=str(path), resample=Resample(window_s=10))
    assert not plain.is_random
    assert again.is_random
    first, second = generate(again, 1), generate(again, 2)
    assert first.arrival_s.tolist() != second.arrival_s.tolist()
    assert first.arrival_s.tolist() == generate(again, 1).arrival_s.tolist()
    faster = generate(again.model_copy(update={"rate_scale": 2.0}), 1)
    assert faster.arrival_s == pytest.approx(first.arrival_s / 2)


def test_it_is_for_a_trace() -> None:
    with pytest.raises(ValueError, match=r"resample\(.* is for a trace"):
        Workload.model_validate(
            {
                "arrivals": {"process": "poisson", "rate_per_s": 1},
                "lengths": {
                    "prompt": {"distribution": "constant", "value": 1},
                    "output": {"distribution": "constant", "value": 1},
                },
                "num_requests": 5,
                "resample": {"window_s": 10},
            }
        )
