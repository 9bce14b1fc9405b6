"""Sessions that are found in a trace: by hand, and what is replayed of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sim.recording.result import FINISHED
from sim.simulation import simulate
from tests.sim import small
from workloads.generate import generate
from workloads.workload import Workload

ROWS = [
    # at ms, prompt, answer, blocks of 16 tokens; the last of a prompt is partial unless it is full
    (0, 40, 8, [1, 2, 3]),
    (1000, 40, 8, [1, 7, 8]),  # shares one block with the first: another session
    (3000, 60, 5, [1, 2, 4, 5]),  # goes on with row 0: blocks 1 and 2 are all of its full ones
    (4000, 70, 5, [1, 2, 4, 5, 6]),  # not with row 2, whose three full blocks are 1 2 4: it does
    (5000, 70, 5, [1, 2, 4, 9, 6]),  # goes on with row 2 as well: too late
    (9000, 16, 3, [1]),  # a block that all have
]


def trace(folder: Path) -> str:
    path = folder / "trace.jsonl"
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    path.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in ROWS))
    return str(path)


def sessions(folder: Path, **more: object) -> dict[str, object]:
    return {"trace": trace(folder), "trace_block_tokens": 16, "trace_sessions": {}, **more}


def test_a_prompt_goes_on_with_the_one_whose_full_blocks_it_begins_with(tmp_path: Path) -> None:
    found = generate(Workload.model_validate(sessions(tmp_path)), 0)
    assert found.prompt_tokens.tolist() == [40, 60, 70, 40, 70, 16]
    assert found.session.tolist() == [0, 0, 0, 1, 2, 3]
    assert found.turn.tolist() == [0, 1, 2, 0, 0, 0]
    np.testing.assert_array_equal(found.arrival_s, [0, np.nan, np.nan, 1, 5, 9])
    np.testing.assert_array_equal(found.think_s, [0, 3, 1, 0, 0, 0])
    assert "6 turns of 4 sessions, at most 3 of one" in found.notes[-1]


def test_what_recorded_answers_took_is_no_gap(tmp_path: Path) -> None:
    took = {"recorded_ttft_s": 0.5, "recorded_tpot_s": 0.1}
    found = generate(Workload.model_validate(sessions(tmp_path, trace_sessions=took)), 0)
    # Three seconds less 0.5 and seven tokens; one second less 0.5 and four.
    np.testing.assert_allclose(found.think_s, [0, 1.8, 0.1, 0, 0, 0], atol=1e-12)
    scaled = sessions(tmp_path, trace_sessions=took, rate_scale=10.0)
    faster = generate(Workload.model_validate(scaled), 0)
    np.testing.assert_allclose(faster.think_s, found.think_s, atol=1e-12)
    np.testing.assert_allclose(faster.known_arrival_s, found.known_arrival_s / 10)


def test_a_late_turn_begins_a_session_of_its_own(tmp_path: Path) -> None:
    late = sessions(tmp_path, trace_sessions={"longest_gap_s": 2.0})
    found = generate(Workload.model_validate(late), 0)
    assert found.turn.tolist() == [0, 0, 0, 1, 0, 0]
    shared = sessions(tmp_path, trace_sessions={"shared_blocks": 3})
    assert generate(Workload.model_validate(shared), 0).turn.tolist() == [0, 0, 0, 1, 0, 0]


def test_turns_wait_for_answers_and_find_what_was_said(tmp_path: Path) -> None:
    """On a slow engine later turns are later than recorded; answers that are said again, too."""
    requests = generate(Workload.model_validate(sessions(tmp_path)), 0)
    engine = {"enable_prefix_caching": True, "block_size": 4, "num_gpu_blocks": 400}
    result = simulate(small.scenario(step_overhead_s=0.5, **engine), requests)
    columns = result.requests
    assert np.all(columns["status"] == FINISHED)
    for row in (1, 2):
        asked_s = columns["finish_s"][row - 1] + requests.think_s[row]
        assert columns["arrival_s"][row] == asked_s > [3.0, 4.0][row - 1]
    assert columns["cached_tokens"].tolist()[:3] == [0, 48, 64]
    # 48: of session 2, which was asked before; 64: all of 60 and 5 tokens but the last one.


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    again = sessions(tmp_path, resample={"window_s": 60})
    with pytest.raises(ValidationError, match="trace_sessions keeps turns as recorded"):
        Workload.model_validate(again)
    plain = tmp_path / "plain.csv"
    plain.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n1,9,5\n")
    bare = Workload.model_validate({"trace": str(plain), "trace_sessions": {}})
    with pytest.raises(ValueError, match="nothing tells which prompts go on with others"):
        generate(bare, 0)
    three = {"distribution": "constant", "value": 3}
    drawn = {
        "arrivals": {"process": "all_at_once"}, "num_requests": 3, "trace_sessions": {},
        "lengths": {"prompt": three, "output": three},
    }  # fmt: skip
    with pytest.raises(ValidationError, match="is for a trace"):
        Workload.model_validate(drawn)
