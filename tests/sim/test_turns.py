"""Sessions on a simulated server: when turns are asked, what they find in the cache, who ends."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from sim.measuring.steady_state import measured_window
from sim.recording.result import FINISHED, REJECTED, TIMED_OUT, UNFINISHED, Result
from sim.settings.cluster_config import ClientConfig
from sim.simulation import can_be_split, simulate
from tests.sim import small
from workloads.generate import generate
from workloads.requests import After, Requests
from workloads.workload import Workload

OPEN = {"process": "poisson", "rate_per_s": 20.0}
USERS = {"process": "closed_loop", "users": 3, "think_s": 0.01, "think_law": "constant"}


def upto(most: int, least: int = 1) -> dict[str, object]:
    return {"distribution": "uniform", "min": least, "max": most}


def sessions(arrivals: Mapping[str, object], count: int = 60, **more: object) -> Requests:
    """Sessions of four turns of a few dozen tokens."""
    own = {"turns": upto(4, 4), "added": upto(30), "think_s": 0.02, "think_law": "constant", **more}
    lengths = {"prompt": upto(60), "output": upto(40)}
    config = {"arrivals": arrivals, "lengths": lengths, "sessions": own, "num_requests": count}
    return generate(Workload.model_validate(config), 1)


def full_blocks(tokens: np.ndarray) -> np.ndarray:
    return tokens // 16 * 16


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("arrivals", [OPEN, USERS])
def test_an_endless_cache_has_the_full_blocks_of_all_that_was_computed(
    arrivals: Mapping[str, object], ahead: bool
) -> None:
    """The last token of an answer is sampled and never computed, so it is in no block."""
    requests = sessions(arrivals, system_tokens=40)
    scenario = small.scenario(
        enable_prefix_caching=True, num_gpu_blocks=4096, async_scheduling=ahead
    )
    cached = simulate(scenario, requests).requests["cached_tokens"]
    later = np.flatnonzero(requests.turn)
    computed = requests.prompt_tokens + requests.output_tokens - 1
    np.testing.assert_array_equal(cached[later], full_blocks(computed[later - 1]))
    first = np.flatnonzero(requests.turn == 0)
    assert cached[first[0]] == 0
    assert set(cached[first[5:]].tolist()) == {32}  # of the system prompt's 40


def test_without_a_cache_nothing_is_found_and_prompts_are_computed_whole() -> None:
    requests = sessions(USERS)
    result = simulate(small.scenario(), requests)
    assert not result.requests["cached_tokens"].any()
    assert result.segments["prefill_tokens"].sum() == requests.prompt_tokens.sum()


def test_a_prompt_that_lost_its_beginning_finds_the_system_prompt_alone() -> None:
    requests = sessions(
        USERS, system_tokens=48, max_context_tokens=160, at_max_context="truncate",
        turns=upto(12, 12),
    )  # fmt: skip
    cached = simulate(small.scenario(enable_prefix_caching=True), requests).requests[
        "cached_tokens"
    ]
    full = requests.prompt_tokens + requests.output_tokens == 160
    cut = full & np.append(False, full[:-1]) & (requests.turn > 0)  # what follows a full one is cut
    assert cut.sum() > 10
    assert set(cached[cut].tolist()) == {48}


@pytest.mark.parametrize("arrivals", [OPEN, USERS])
def test_a_rejected_turn_ends_its_session(arrivals: Mapping[str, object]) -> None:
    requests = sessions(arrivals, turns=upto(9, 9))
    result = simulate(small.scenario(max_model_len=200), requests)
    status, asked = ended(result)
    assert (status == REJECTED).sum() > 3
    assert (status[asked] == FINISHED).sum() > 20
    assert asked[requests.turn == 0].all()  # whoever's session ended goes on to the next


@pytest.mark.parametrize("arrivals", [OPEN, USERS])
def test_a_turn_that_is_given_up_ends_its_session(arrivals: Mapping[str, object]) -> None:
    requests = sessions(arrivals)
    result = simulate(small.scenario(client=ClientConfig(timeout_s=0.03)), requests)
    status, asked = ended(result)
    assert (status == TIMED_OUT).sum() > 3
    assert (status == FINISHED).sum() > 3
    assert asked[requests.turn == 0].all()


def ended(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Status of each row and whether it was asked; no turn is behind one that failed."""
    columns = result.requests
    status, asked = columns["status"], ~np.isnan(columns["arrival_s"])
    assert (status[~asked] == UNFINISHED).all()
    for row in np.flatnonzero(columns["turn"]):
        assert asked[row] == (asked[row - 1] and status[row - 1] == FINISHED)
    return status, asked


def test_users_have_one_session_after_the_other() -> None:
    requests = sessions(USERS)
    result = simulate(small.scenario(), requests)
    columns = result.requests
    begun_s = columns["arrival_s"][requests.turn == 0]
    ends_s = columns["finish_s"][np.append(requests.turn[1:] == 0, True)]
    assert begun_s[:3].tolist() == [0.01] * 3
    np.testing.assert_allclose(begun_s[3:], np.sort(ends_s)[: len(begun_s) - 3] + 0.01, rtol=1e-12)


def test_sessions_make_replicas_depend_on_each_other() -> None:
    scenario = small.scenario(replicas=2)
    alone = small.requests([0.0, 0.1], [1, 1], [1, 1])
    assert can_be_split(scenario, alone)
    assert not can_be_split(scenario, sessions(OPEN))


@pytest.mark.parametrize("arrivals", [OPEN, USERS])
def test_what_is_measured_ends_when_no_session_can_begin(arrivals: Mapping[str, object]) -> None:
    requests = sessions(arrivals)
    result = simulate(small.scenario(), requests)
    window = measured_window(result, 0.0)
    arrival_s, finish_s = result.requests["arrival_s"], result.requests["finish_s"]
    last_s = arrival_s[requests.turn == 0].max()
    if requests.users:  # the first user who finds no session left
        ends_s = finish_s[np.append(requests.turn[1:] == 0, True)]
        last_s = np.sort(ends_s)[len(ends_s) - requests.users]
        thinks_s = requests.think_s[requests.turn == 0]
        begun_s = arrival_s[requests.turn == 0] - thinks_s
        assert (begun_s <= last_s).all()  # nobody takes a session afterwards
        assert (
            begun_s > ends_s[ends_s < last_s].max() - 1e-9
        ).any()  # and somebody did just before
    assert 0 < (~window.measured).sum() < 20
    np.testing.assert_array_equal(window.measured, arrival_s <= last_s)
    assert window.stop_s == arrival_s[window.measured].max()


def test_users_with_sessions_obey_the_interactive_response_time_law() -> None:
    """R = N / X - Z in the window, during which all users are there."""
    users = {"process": "closed_loop", "users": 10, "think_s": 0.03, "think_law": "constant"}
    requests = sessions(users, 6000, turns=upto(8), think_s=None, think_law=None)
    result = simulate(small.scenario(), requests)
    window = measured_window(result, 0.0)
    columns = result.requests
    spent_s = (columns["finish_s"] - columns["arrival_s"])[window.measured].mean()
    rate_per_s = window.measured.sum() / window.length_s
    assert abs(spent_s / (10 / rate_per_s - 0.03) - 1) < 0.01


def branching(prompts: list[int], outputs: list[int], users: int | None = None) -> Requests:
    """Two sessions of five turns: the first, three at once after it, and one after these three."""
    rows = np.array([0, 0, 0, 1, 2, 3], dtype=np.int64)
    counts = np.array([0, 1, 1, 1, 3] * 2)
    arrival_s = np.full(10, np.nan)
    if users is None:
        arrival_s[[0, 5]] = [0.0, 0.5]
    return Requests(
        arrival_s=arrival_s,
        prompt_tokens=np.array(prompts * 2, dtype=np.int64),
        output_tokens=np.array(outputs * 2, dtype=np.int64),
        priority=np.zeros(10, dtype=np.int64),
        users=users,
        think_s=np.array([0.0, 0.01, 0.02, 0.02, 0.05] * 2),
        session=np.repeat([0, 1], 5),
        turn=np.tile(np.arange(5), 2),
        after=After(np.append(0, np.cumsum(counts)), np.concatenate((rows, rows + 5))),
    )


def test_turns_branch_and_wait_for_all_of_their_branches() -> None:
    requests = branching([20, 10, 10, 10, 30], [5, 3, 40, 8, 2])
    columns = simulate(small.scenario(), requests).requests
    arrival_s, finish_s = columns["arrival_s"], columns["finish_s"]
    for first in (0, 5):
        branches = slice(first + 1, first + 4)
        np.testing.assert_array_equal(
            arrival_s[branches], finish_s[first] + requests.think_s[branches]
        )
        assert arrival_s[first + 4] == finish_s[branches].max() + 0.05
        assert finish_s[branches].argmax() == 1  # the one with the long answer


def test_what_waits_for_a_failed_branch_is_never_asked_and_its_user_goes_on() -> None:
    requests = branching([20, 10, 500, 10, 30], [5, 3, 40, 8, 2], users=1)
    columns = simulate(small.scenario(max_model_len=200), requests).requests
    status, asked = columns["status"], ~np.isnan(columns["arrival_s"])
    assert asked.tolist() == [True, True, True, True, False] * 2
    assert status[[2, 7]].tolist() == [REJECTED] * 2
    assert columns["arrival_s"][5] == columns["finish_s"][[1, 3]].max()  # her session is over


def test_turns_wait_for_earlier_rows_of_their_session() -> None:
    requests = branching([20, 10, 10, 10, 30], [5, 3, 40, 8, 2])
    good = requests.after
    assert good is not None
    for rows in ([1, 0, 0, 1, 2, 3], [0, 0, 0, 1, 2, 5], [0, 0, 0, 1, 2, -1]):
        bad = After(good.offsets, np.append(rows, good.rows[6:]))
        with pytest.raises(ValueError, match="expected earlier rows of the same session"):
            replace(requests, after=bad)
    with pytest.raises(ValueError, match="expected nothing before a first turn"):
        replace(requests, after=After(np.minimum(good.offsets, 3) + 0, good.rows[:3]))
