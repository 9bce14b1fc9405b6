"""Sessions: prompts that say again what was said before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tries import tries
from workloads.generate import generate
from workloads.requests import Requests
from workloads.workload import Workload

POISSON = {"process": "poisson", "rate_per_s": 4.0}
USERS = {"process": "closed_loop", "users": 3, "think_s": 2.0, "think_law": "constant"}


def fixed(value: int) -> dict[str, object]:
    return {"distribution": "constant", "value": value}


def upto(most: int) -> dict[str, object]:
    return {"distribution": "uniform", "min": 1, "max": most}


def workload(arrivals: object = USERS, **config: object) -> Workload:
    sessions = {"turns": fixed(3), "added": fixed(3), **config.pop("sessions", {})}
    base = {"lengths": {"prompt": fixed(10), "output": fixed(4)}, "num_requests": 7}
    return Workload.model_validate({"arrivals": arrivals, "sessions": sessions, **base, **config})


def texts(requests: Requests) -> list[list[tuple[int, int]]]:
    """Of every row, which token of which stream each of its tokens is."""
    prefixes, found = requests.prefixes, []
    assert prefixes is not None
    for row in range(len(requests)):
        text: list[tuple[int, int]] = []
        for place in range(*prefixes.offsets[row : row + 2].tolist()):
            stream, end = int(prefixes.streams[place]), int(prefixes.ends[place])
            text += [(stream, at) for at in range(len(text), end)]
        found.append(text)
    return found


def test_a_prompt_is_all_that_was_said_and_the_new_text() -> None:
    requests = generate(workload(sessions={"system_tokens": 20}), 0)
    assert requests.session is not None
    assert requests.session.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert requests.turn is not None
    assert requests.turn.tolist() == [0, 1, 2, 0, 1, 2, 0]
    # 20 + 10; then the answer of 4 and 3 new tokens more, each time.
    assert requests.prompt_tokens.tolist() == [30, 37, 44, 30, 37, 44, 30]
    assert requests.output_tokens.tolist() == [4] * 7
    assert np.isnan(requests.arrival_s).all()
    assert requests.users == 3
    assert requests.waits
    assert requests.think_s is not None
    assert requests.think_s.tolist() == [2.0] * 7


def test_later_turns_tell_the_text_of_earlier_ones_with_their_answers() -> None:
    said = texts(generate(workload(sessions={"system_tokens": 20}), 0))
    for earlier, later in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert said[later][: len(said[earlier])] == said[earlier]
    assert [len(text) for text in said] == [
        34,
        41,
        44,
        34,
        41,
        44,
        30,
    ]  # the last is not said again
    common = [one == other for one, other in zip(said[0], said[3], strict=True)]
    assert common == [True] * 20 + [False] * 14


def test_a_session_ends_before_the_turn_that_is_too_long() -> None:
    requests = generate(workload(sessions={"max_context_tokens": 21, "turns": fixed(9)}), 0)
    assert requests.prompt_tokens.tolist() == [10, 17, 10, 17, 10, 17, 10]  # 24 + 4 is too much


def test_a_session_has_as_many_turns_as_fit() -> None:
    """Each says a token and is answered with one: five turns of ten tokens, of a hundred drawn."""
    lengths = {"prompt": fixed(1), "output": fixed(1)}
    few = {"turns": fixed(100), "added": fixed(1), "max_context_tokens": 10}
    requests = generate(workload(lengths=lengths, sessions=few, num_requests=12), 0)
    assert requests.turn is not None
    assert requests.turn.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_or_its_prompt_loses_the_oldest_tokens_behind_the_system_prompt() -> None:
    config = {"max_context_tokens": 40, "at_max_context": "truncate", "system_tokens": 20}
    requests = generate(workload(sessions={**config, "turns": fixed(4)}), 0)
    assert requests.prompt_tokens[:4].tolist() == [30, 36, 36, 36]
    said = texts(requests)
    assert said[0][:30] == said[1][:20] + said[0][20:30]  # only the system prompt is left
    assert all(one != other for one, other in zip(said[0][20:], said[1][20:], strict=False))
    assert not set(said[1][20:]) & set(said[2][20:])


def test_new_text_that_is_too_long_by_itself_ends_the_session() -> None:
    config = {"max_context_tokens": 40, "at_max_context": "truncate", "system_tokens": 20}
    requests = generate(workload(sessions={**config, "added": fixed(17)}), 0)
    assert requests.prompt_tokens.tolist() == [30] * 7


def test_sessions_that_cannot_begin_are_told() -> None:
    lengths = {"prompt": upto(100), "output": fixed(1)}
    requests = generate(workload(lengths=lengths, sessions={"max_context_tokens": 50}), 0)
    assert requests.turn is not None
    assert requests.session is not None
    assert len(requests) == 7
    assert np.array_equal(requests.session, np.cumsum(requests.turn == 0) - 1)
    (note,) = requests.notes
    assert "never begin, as their first turn alone is more than max_context_tokens(=50)" in note
    with pytest.raises(ValueError, match=r"sessions.max_context_tokens\(=5\): no session begins"):
        generate(workload(sessions={"max_context_tokens": 5}), 0)


def test_sessions_that_come_by_themselves() -> None:
    sessions = {"think_s": 5.0, "turns": upto(4)}
    requests = generate(workload(POISSON, sessions=sessions, num_requests=40), 3)
    alone = generate(
        Workload.model_validate(
            {"arrivals": POISSON, "lengths": {"prompt": fixed(1), "output": fixed(1)},
             "num_requests": 40}
        ), 3,
    )  # fmt: skip
    first = requests.turn == 0
    assert requests.users is None
    assert requests.waits
    assert np.isnan(requests.arrival_s[~first]).all()
    known = requests.known_arrival_s
    assert known.tolist() == alone.arrival_s[: len(known)].tolist()
    timed = generate(
        workload(POISSON, sessions=sessions, num_requests=None, duration_s=float(known[3])), 3
    )
    assert timed.known_arrival_s.tolist() == known[:3].tolist()


def test_users_pause_before_a_new_session_and_think_in_it() -> None:
    requests = generate(workload(sessions={"think_s": 0.5, "think_law": "constant"}), 0)
    assert requests.think_s is not None
    assert requests.think_s.tolist() == [2.0, 0.5, 0.5, 2.0, 0.5, 0.5, 2.0]


def test_all_turns_of_a_session_have_its_priority() -> None:
    requests = generate(workload(priorities={0: 1, 7: 1}, num_requests=60), 1)
    assert requests.session is not None
    of_session = [set(requests.priority[requests.session == n].tolist()) for n in range(20)]
    assert all(len(each) == 1 for each in of_session)
    assert set.union(*of_session) == {0, 7}


@tries(40)
@given(
    seed=st.integers(0, 2**63), few=st.integers(1, 30), more=st.integers(0, 90),
    limit=st.sampled_from([{}, {"max_context_tokens": 60},
                           {"max_context_tokens": 60, "at_max_context": "truncate"}]),
)  # fmt: skip
def test_a_longer_workload_begins_with_the_shorter(
    seed: int, few: int, more: int, limit: dict[str, object]
) -> None:
    lengths = {"prompt": upto(70), "output": upto(20)}
    sessions = {"turns": upto(9), "added": upto(9), "think_s": 1, "think_law": "exponential"}
    short, long = (
        generate(
            workload(POISSON, lengths=lengths, sessions={**sessions, **limit}, num_requests=count),
            seed,
        )
        for count in (few, few + more)
    )
    assert len(short) == few
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "think_s", "session", "turn"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:few])
    assert (
        short.prompt_tokens + short.output_tokens <= limit.get("max_context_tokens", 10**9)
    ).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"arrivals": POISSON}, "sessions.think_s is missing"),
        ({"prefixes": {"groups": 1, "shared_tokens": 1}}, "in common is sessions.system_tokens"),
        ({"sessions": {"think_law": "exponential"}}, "think_s is missing beside it"),
        ({"sessions": {"at_max_context": "truncate"}}, "needs max_context_tokens"),
        (
            {"sessions": {"turns": {"distribution": "constant", "value": 0}}},
            "greater than or equal",
        ),
        ({"sessions": {"tool": 1}}, "Extra inputs"),
    ],
)
def test_senseless_sessions_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        workload(**config)


def test_a_trace_brings_no_sessions() -> None:
    with pytest.raises(ValidationError, match="sessions is for generated requests"):
        Workload.model_validate({"trace": "t.csv", "sessions": {"turns": fixed(1)}})


def test_far_too_many_turns_are_refused() -> None:
    sessions = {"turns": fixed(10**6), "think_s": 1.0}
    with pytest.raises(ValueError, match=r"sessions.turns: \d+ sessions have [\d,]+ turns"):
        generate(workload(POISSON, sessions=sessions, num_requests=None, duration_s=10.0), 0,
                 most=1000)  # fmt: skip


def test_files_of_laws_are_found_from_the_folder_of_the_study(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("turns,prompt_tokens,output_tokens\n2,4,1\n2,4,1\n")
    law = {"distribution": "empirical", "path": "t.csv", "column": "turns"}
    config = workload(sessions={"turns": law})
    assert config.files == ("t.csv",)
    assert config.is_random
    assert any("sessions.turns is drawn from" in told for told in config.anchored(tmp_path).told())
    requests = generate(config, 0, tmp_path)
    assert requests.turn is not None
    assert requests.turn.tolist() == [0, 1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("session", "turn", "message"),
    [
        ([0, 0], None, "belong together"),
        ([0, 0], [0, 2], "turn: expected 0, 1, 2"),
        ([0, 0], [1, 2], "turn: expected 0, 1, 2"),
        ([0, 0], [0, 0], "session: expected 0, 1, 2"),
        ([0], [0, 1], "expected 2 rows"),
        ([0, 0], [0, 1], "sessions need think_s"),
    ],
)
def test_broken_columns_are_refused(session, turn, message) -> None:
    ones = np.ones(2, dtype=np.int64)
    with pytest.raises(ValueError, match=message):
        Requests(
            arrival_s=np.array([0.0, np.nan]), prompt_tokens=ones, output_tokens=ones,
            priority=ones, session=np.array(session), turn=None if turn is None else np.array(turn),
        )  # fmt: skip


def test_reasoning_is_answered_and_not_said_again() -> None:
    requests = generate(workload(sessions={"reasoning": fixed(50), "system_tokens": 20}), 0)
    assert requests.output_tokens.tolist() == [54] * 7
    assert requests.prompt_tokens.tolist() == [30, 37, 44, 30, 37, 44, 30]
    text = texts(requests)
    assert len(text[0]) == 30  # what is answered stands elsewhere when it is said again
    assert text[1][:30] == text[0]
    limits = {"reasoning": fixed(50), "max_context_tokens": 90}
    short = generate(workload(sessions=limits, num_requests=4), 0)
    assert short.prompt_tokens.tolist() == [10, 17, 24, 10]
    limits["max_context_tokens"] = 75  # 24 + 54 are too many
    shorter = generate(workload(sessions=limits, num_requests=4), 0)
    assert shorter.prompt_tokens.tolist() == [10, 17, 10, 17]
