"""Degenerate studies agree with closed forms of queueing theory.

Each statistical test compares a mean over 20 independent seeds with the exact value and allows the
two-sided Student t quantile at 1e-4: with fresh seeds it would raise a false alarm once in 10,000
runs. The seeds are fixed, so it is deterministic.
"""

import numpy as np
from scipy import stats

from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from workloads.requests import Requests

SEEDS = 20
FALSE_ALARM = 1e-4
WARM_UP = 0.2


def one_at_a_time(**engine: object) -> Scenario:
    return small.scenario(max_num_seqs=1, **engine)


def poisson(
    rng: np.random.Generator, rate_per_s: float, outputs: np.ndarray, prompt: int = 1
) -> Requests:
    rows = len(outputs)
    arrival_s = np.cumsum(rng.exponential(1.0 / rate_per_s, rows))
    return small.requests(arrival_s.tolist(), [prompt] * rows, outputs.tolist())


def assert_mean(samples: list[float], expected: float, bias: float = 0.0) -> None:
    """``bias``: a known relative difference between the model and the closed form."""
    values = np.asarray(samples)
    half = stats.t.ppf(1 - FALSE_ALARM / 2, len(values) - 1) * stats.sem(values)
    assert abs(values.mean() - expected) <= half + bias * expected, (values.mean(), expected, half)
    assert half < 0.2 * expected, "the test has no power"


def test_m_d_1_waiting_time() -> None:
    """Pollaczek-Khinchine with constant service: W = rho * S / (2 * (1 - rho))."""
    scenario = one_at_a_time()
    service_s = scenario.pool.price.step_s(0, 0, [(100, 0)])
    for load in (0.5, 0.8):
        waits = []
        for seed in range(SEEDS):
            rng = np.random.default_rng([seed, 1])
            requests = poisson(rng, load / service_s, np.ones(4000, dtype=int), prompt=100)
            columns = simulate(scenario, requests).requests
            wait_s = columns["first_scheduled_s"] - columns["arrival_s"]
            waits.append(float(wait_s[int(WARM_UP * len(wait_s)) :].mean()))
        assert_mean(waits, load * service_s / (2 * (1 - load)))


def test_m_m_1_waiting_time() -> None:
    """Geometric output lengths of mean 50 are M/M/1 service in steps of 2%.

    Exact for the geometric law: W = lambda * E[S^2] / (2 * (1 - rho)), with E[S^2] = (2 - p) / p^2
    steps; M/M/1's rho / (1 - rho) * E[S] is 1% above it. Steps are equal within 1e-4 (the tiny
    model's cache costs next to nothing beside 1 ms of overhead), which is the bias allowed.
    """
    scenario = one_at_a_time(max_model_len=100_000, num_gpu_blocks=10_000)
    step_s = scenario.pool.price.step_s(1, 50, [])
    p, load = 1 / 50, 0.6
    rate_per_s = load / (step_s / p)
    expected_s = rate_per_s * (2 - p) / p**2 * step_s**2 / (2 * (1 - load))
    assert abs(load / (1 - load) * step_s / p / expected_s - 1) < 0.011
    waits = []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 2])
        requests = poisson(rng, rate_per_s, rng.geometric(p, 6000))
        columns = simulate(scenario, requests).requests
        wait_s = columns["first_scheduled_s"] - columns["arrival_s"]
        waits.append(float(wait_s[int(WARM_UP * len(wait_s)) :].mean()))
    assert_mean(waits, expected_s, bias=1e-3)


def test_little_s_law_and_what_arrivals_see() -> None:
    """Poisson arrivals see time averages (PASTA), and L = lambda * W (Little 1961)."""
    scenario = small.scenario(max_num_seqs=8)
    seen, predicted = [], []
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, 3])
        rate_per_s = 150.0
        requests = poisson(rng, rate_per_s, rng.integers(1, 60, 3000), prompt=20)
        columns = simulate(scenario, requests).requests
        arrival_s, finish_s = columns["arrival_s"], np.sort(columns["finish_s"])
        first = int(WARM_UP * len(arrival_s))
        in_system = np.arange(len(arrival_s)) - np.searchsorted(finish_s, arrival_s)
        seen.append(float(in_system[first:].mean()))
        sojourn_s = (columns["finish_s"] - arrival_s)[first:]
        predicted.append(rate_per_s * float(sojourn_s.mean()))
    differences = np.asarray(seen) - np.asarray(predicted)
    half = stats.t.ppf(1 - FALSE_ALARM / 2, SEEDS - 1) * stats.sem(differences)
    assert abs(differences.mean()) <= half
    assert half < 0.1 * np.mean(predicted), "the test has no power"


def test_closed_loop_obeys_the_interactive_response_time_law() -> None:
    """R = N / X - Z, exactly over a long run (Denning and Buzen 1978): users, throughput, think."""
    scenario = small.scenario(max_num_seqs=4)
    users, think_s, rows = 10, 0.03, 8000
    rng = np.random.default_rng(4)
    requests = small.requests(
        [], [10] * rows, rng.integers(1, 40, rows).tolist(), users=users, think_s=[think_s] * rows
    )
    columns = simulate(scenario, requests).requests
    throughput_per_s = rows / columns["finish_s"].max()
    response_s = float((columns["finish_s"] - columns["arrival_s"]).mean())
    # The only slack: users run out of requests at the end, at most N cycles of 8,000.
    assert abs(response_s / (users / throughput_per_s - think_s) - 1) < 2 * users / rows * 10
