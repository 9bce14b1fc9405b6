"""Workloads as configured, and what they generate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from workloads.generate import generate
from workloads.requests import Requests
from workloads.traces import TraceError
from workloads.workload import Workload

POISSON = {"process": "poisson", "rate_per_s": 4.0}
LOGNORMAL = {"distribution": "lognormal", "mean": 300.0, "cv": 1.0}
CONSTANT = {"distribution": "constant", "value": 8}
LENGTHS = {"prompt": LOGNORMAL, "output": {"distribution": "exponential", "mean": 60.0}}
FIXED = {"prompt": CONSTANT, "output": CONSTANT}
TRACE = "arrival_s,prompt_tokens,output_tokens\n1,10,1\n2,20,2\n4,40,4\n8,80,8\n"


def workload(**config):
    return Workload.model_validate(config)


def columns(requests: Requests) -> list[list[float]]:
    return [
        requests.arrival_s.tolist(),
        requests.prompt_tokens.tolist(),
        requests.output_tokens.tolist(),
        requests.priority.tolist(),
    ]


@pytest.fixture
def trace_dir(tmp_path):
    (tmp_path / "t.csv").write_text(TRACE)
    return tmp_path


def test_the_whole_log_of_a_deterministic_workload():
    metronome = workload(
        arrivals={"process": "deterministic", "rate_per_s": 2.0}, lengths=FIXED, num_requests=3
    )
    assert not metronome.is_random
    expected = [[0.5, 1.0, 1.5], [8, 8, 8], [8, 8, 8], [0, 0, 0]]
    assert columns(generate(metronome, 0)) == expected
    assert columns(generate(metronome, 1)) == expected


@settings(deadline=None)
@given(seed=st.integers(0, 2**63), few=st.integers(1, 30), more=st.integers(0, 30))
def test_same_seed_same_requests_and_a_longer_workload_begins_with_the_shorter(seed, few, more):
    config = {"arrivals": POISSON, "lengths": LENGTHS, "priorities": {0: 1.0, 5: 2.0}}
    short = generate(workload(**config, num_requests=few), seed)
    long = generate(workload(**config, num_requests=few + more), seed)
    assert columns(short) == columns(generate(workload(**config, num_requests=few), seed))
    assert columns(short) == [column[:few] for column in columns(long)]


def test_seeds_and_purposes_are_apart():
    base = {"arrivals": POISSON, "lengths": LENGTHS, "num_requests": 50}
    one, two = generate(workload(**base), 1), generate(workload(**base), 2)
    assert not np.array_equal(one.arrival_s, two.arrival_s)
    faster = generate(
        workload(**{**base, "arrivals": {"process": "poisson", "rate_per_s": 8.0}}), 1
    )
    np.testing.assert_array_equal(faster.arrival_s * 2, one.arrival_s)
    np.testing.assert_array_equal(faster.prompt_tokens, one.prompt_tokens)
    shorter = generate(workload(**{**base, "lengths": {**LENGTHS, "prompt": CONSTANT}}), 1)
    np.testing.assert_array_equal(shorter.arrival_s, one.arrival_s)
    np.testing.assert_array_equal(shorter.output_tokens, one.output_tokens)


@pytest.mark.parametrize("duration_s", [0.5, 20.0, 500.0])
def test_a_duration_takes_all_that_arrive_before_it(duration_s):
    timed = generate(workload(arrivals=POISSON, lengths=LENGTHS, duration_s=duration_s), 3)
    counted = generate(workload(arrivals=POISSON, lengths=LENGTHS, num_requests=len(timed) + 1), 3)
    assert timed.arrival_s.tolist() == counted.arrival_s[:-1].tolist()
    assert timed.arrival_s[-1] < duration_s <= counted.arrival_s[-1]


def test_a_duration_in_which_nothing_arrives_is_an_error():
    slow = {"process": "deterministic", "rate_per_s": 0.1}
    with pytest.raises(ValueError, match=r"no request arrives before duration_s\(=10\)"):
        generate(workload(arrivals=slow, lengths=FIXED, duration_s=10), 0)


def test_a_closed_loop_has_users_and_think_times_instead_of_arrivals():
    loop = {"process": "closed_loop", "users": 3, "think_s": 2.0, "think_law": "constant"}
    requests = generate(workload(arrivals=loop, lengths=FIXED, num_requests=4), 0)
    assert requests.users == 3
    assert requests.think_s.tolist() == [2.0] * 4
    assert np.all(np.isnan(requests.arrival_s))
    assert len(requests) == 4


def test_priorities_follow_their_weights():
    config = {"arrivals": POISSON, "lengths": FIXED, "num_requests": 20000}
    requests = generate(workload(**config, priorities={-1: 1.0, 3: 3.0}), 4)
    assert set(requests.priority.tolist()) == {-1, 3}
    # Binomial: 4.9 standard deviations are exceeded with probability 1e-6.
    assert abs(np.sum(requests.priority == -1) - 5000) < 4.9 * np.sqrt(20000 * 0.25 * 0.75)


def test_a_trace_is_replayed_cut_and_scaled(trace_dir):
    plain = generate(workload(trace="t.csv"), 0, trace_dir)
    assert columns(plain) == [[0, 1, 3, 7], [10, 20, 40, 80], [1, 2, 4, 8], [0, 0, 0, 0]]
    cut = workload(trace="t.csv", rate_scale=2.0, start_s=1.0, stop_s=7.0, limit=5)
    assert columns(generate(cut, 0, trace_dir)) == [[0, 1], [20, 40], [2, 4], [0, 0]]
    mixed = generate(workload(trace="t.csv", priorities={7: 1.0}), 0, trace_dir)
    assert mixed.priority.tolist() == [7] * 4


def test_arrivals_may_take_the_lengths_of_a_trace(trace_dir):
    config = workload(arrivals=POISSON, lengths={"trace": "t.csv"}, num_requests=100)
    requests = generate(config, 0, trace_dir)
    assert set(requests.prompt_tokens.tolist()) == {10, 20, 40, 80}
    np.testing.assert_array_equal(requests.prompt_tokens, 10 * requests.output_tokens)


def test_paths_are_listed_and_anchored(trace_dir):
    law = {"distribution": "empirical", "path": "t.csv", "column": "prompt_tokens"}
    configs = [
        {"trace": "t.csv"},
        {"arrivals": POISSON, "lengths": {"trace": "t.csv"}, "num_requests": 5},
        {"arrivals": POISSON, "lengths": {"prompt": law, "output": law}, "num_requests": 5},
    ]
    for config in configs:
        config = workload(**config)
        assert config.files == ("t.csv",)
        anchored = config.anchored(trace_dir)
        assert anchored.files == (str(trace_dir / "t.csv"),)
        assert anchored.anchored(trace_dir / "elsewhere") == anchored
        assert columns(generate(anchored, 1)) == columns(generate(config, 1, trace_dir))
    assert workload(arrivals=POISSON, lengths=FIXED, num_requests=1).files == ()


@pytest.mark.parametrize(
    ("config", "random"),
    [
        ({"trace": "t.csv"}, False),
        ({"trace": "t.csv", "priorities": {1: 1.0}}, False),
        ({"trace": "t.csv", "priorities": {1: 1.0, 2: 1.0}}, True),
        ({"arrivals": {"process": "all_at_once"}, "lengths": FIXED}, False),
        ({"arrivals": {"process": "all_at_once"}, "lengths": LENGTHS}, True),
        ({"arrivals": {"process": "all_at_once"}, "lengths": {"trace": "t.csv"}}, True),
        ({"arrivals": POISSON, "lengths": FIXED}, True),
        (
            {"arrivals": {"process": "closed_loop", "users": 2}, "lengths": FIXED},
            False,
        ),
    ],
)
def test_is_random_says_whether_the_seed_matters(trace_dir, config, random):
    if "arrivals" in config:
        config = {**config, "num_requests": 20}
    config = workload(**config)
    assert config.is_random == random
    one, two = (generate(config, seed, trace_dir) for seed in (1, 2))
    same = all(map(np.array_equal, columns(one)[1:], columns(two)[1:]))
    same = same and np.array_equal(one.arrival_s, two.arrival_s, equal_nan=True)
    assert same != random


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected trace, clients, or arrivals with lengths and num_requests"),
        ({"arrivals": POISSON, "num_requests": 1}, "lengths is missing"),
        ({"lengths": FIXED, "num_requests": 1}, "arrivals is missing"),
        ({"arrivals": POISSON, "lengths": FIXED}, "expected either num_requests or duration_s"),
        (
            {"arrivals": POISSON, "lengths": FIXED, "num_requests": 1, "duration_s": 1},
            "expected either num_requests or duration_s",
        ),
        (
            {"arrivals": POISSON, "lengths": FIXED, "num_requests": 1, "limit": 3, "rate_scale": 2},
            r"rate_scale\(=2\.0\) is for a trace; limit\(=3\) is for a trace",
        ),
        (
            {"arrivals": {"process": "closed_loop", "users": 1}, "lengths": FIXED, "duration_s": 1},
            "closed_loop needs num_requests instead of duration_s",
        ),
        ({"trace": "t", "arrivals": POISSON}, r"write lengths: \{trace: \.\.\.\} beside arrivals"),
        ({"trace": "t", "lengths": FIXED}, "trace brings its own arrivals and lengths"),
        ({"trace": "t", "num_requests": 5}, "a trace is cut with limit, start_s and stop_s"),
        ({"trace": "t", "start_s": 5, "stop_s": 4}, r"stop_s\(=4\) must be > start_s\(=5\)"),
        ({"trace": "t", "rate_scale": 0}, "greater than 0"),
        ({"trace": ""}, "at least 1 character"),
        ({"trace": "t", "priorities": {}}, "at least 1 item"),
        ({"trace": "t", "priorities": {1: 0}}, "greater than 0"),
        ({"trace": "t", "speed": 2}, "Extra inputs are not permitted"),
    ],
)
def test_senseless_workloads_are_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        workload(**config)


def test_a_workload_survives_being_written_out():
    config = workload(arrivals=POISSON, lengths=LENGTHS, num_requests=5, priorities={0: 1, 1: 2})
    assert Workload.model_validate(config.model_dump(mode="json")) == config
    assert Workload.model_validate_json(config.model_dump_json()) == config


def test_a_missing_trace_is_named_with_its_folder(trace_dir):
    with pytest.raises(TraceError, match=r"T\.csv: no such file; nearest in that folder: t\.csv"):
        generate(workload(trace="T.csv"), 0, trace_dir)


def request_columns(**changes):
    ones = np.ones(2, dtype=np.int64)
    base = {"arrival_s": np.array([0.0, 1.0]), "prompt_tokens": ones, "output_tokens": ones,
            "priority": ones}  # fmt: skip
    return {**base, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"priority": np.zeros(3)}, "priority has 3 rows, expected 2 as in arrival_s"),
        ({"arrival_s": np.array([1.0, 0.0])}, "arrival_s must be sorted and must not hold NaN"),
        ({"arrival_s": np.array([1.0, np.nan])}, "arrival_s must be sorted and must not hold NaN"),
        ({"users": 1}, "a closed loop needs think_s, one row per request"),
        ({"prompt_tokens": np.array([1, 0])}, r"prompt_tokens\[1\] = 0, expected at least 1 token"),
    ],
)
def test_broken_columns_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Requests(**request_columns(**changes))
