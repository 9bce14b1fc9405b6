"""Runs longer than the memory: steps written away, measured in blocks, split over processes."""

import pickle
import tracemalloc
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.engine.journal import SEGMENT_BYTES, Journal
from sim.measuring.metrics import summarise
from sim.measuring.timeline import timeline
from sim.recording import blocks, recorder
from sim.recording import run as recording
from sim.recording.tape import Scratch, Tape, joined
from sim.settings.scenario import Scenario
from sim.simulation import can_be_split, simulate, simulate_part, whole
from tests.sim import small
from tests.sim.random_clusters import scenarios, workloads
from tests.sim.test_against_reference import assert_equal_to_reference
from tests.sim.test_fast_path import split_prompts
from tests.tries import tries
from workloads.requests import Requests


def poisson(rows: int, seed: int = 0, gap_s: float = 2e-3) -> Requests:
    rng = np.random.default_rng(seed)
    return small.requests(
        np.cumsum(rng.exponential(gap_s, rows)).tolist(),
        rng.integers(1, 60, rows).tolist(),
        rng.integers(1, 40, rows).tolist(),
    )


def hand_over_often(patch: pytest.MonkeyPatch) -> None:
    """Every few steps go to the file, and every few outcomes to the columns."""
    patch.setattr(recorder, "FULL_STEPS", 1)
    patch.setattr(recording, "_FULL_BYTES", 1)


def measure_in_bits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(blocks, "SEGMENTS", 3)
    patch.setattr(blocks, "STEPS", 7)


@tries(100)
@given(scenarios(), workloads(), st.sampled_from([inf, inf, 0.02]))
def test_what_is_written_away_equals_the_reference(
    scenario: Scenario, requests: Requests, stop_s: float
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        hand_over_often(patch)
        assert_equal_to_reference(scenario, requests, stop_s)


@pytest.mark.parametrize("scheduler", ["prefill_first", "chunked_prefill"])
def test_so_do_preemptions_of_those_who_had_just_joined(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change rows that were recorded before: these must not be written away yet."""
    hand_over_often(monkeypatch)
    setup = small.scenario(
        scheduler=scheduler, max_num_seqs=12, num_gpu_blocks=70, block_size=1,
        max_num_batched_tokens=64, max_model_len=70,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    prompts, outputs = rng.integers(1, 6, 90).tolist(), rng.integers(1, 20, 90).tolist()
    result = assert_equal_to_reference(setup, small.requests([0.0] * 90, prompts, outputs))
    assert len(result.resumed_gap_s) > 5


@pytest.mark.parametrize(("seed", "budget"), [(77, 12), (101, 16), (134, 9)])
def test_so_do_decodes_that_were_held_back(
    seed: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over_often(monkeypatch)
    measure_in_bits(monkeypatch)
    # From 0.33 on those behind a victim are served in the same round.
    result = assert_equal_to_reference(*split_prompts(seed, budget, version="0.32"))
    assert len(result.returned_step)


@pytest.mark.parametrize("decoding", [0, 3])
def test_prompts_alone_are_written_away_or_seldom_copied(
    decoding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without decode steps nothing has to stay; behind the last one rows stay, and add up."""
    hand_over_often(monkeypatch)
    copied, left, take = 0, 0, recorder.take

    def counted(journal: Journal, everything: bool, classes: int) -> recorder.Taken:
        nonlocal copied, left
        copied += len(journal.segments)
        taken = take(journal, everything, classes)
        left = max(left, len(journal.segments))
        return taken

    monkeypatch.setattr(recorder, "take", counted)
    rows = 500
    outputs = [9] * decoding + [1] * (rows - decoding)
    requests = small.requests([0.05 * row for row in range(rows)], [20] * rows, outputs)
    result = assert_equal_to_reference(small.scenario(num_gpu_blocks=100), requests)
    row_bytes = SEGMENT_BYTES
    assert copied <= 4 * len(result.segments["steps"]) * row_bytes
    assert decoding or left == 0


@pytest.mark.parametrize("replicas", [1, 3])
def test_where_blocks_end_does_not_matter(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and percentiles are the same to the last bit; sums are rounded elsewhere."""
    setup = small.scenario(
        replicas=replicas, router="least_requests", num_gpu_blocks=30, max_num_seqs=8, block_size=4
    )
    requests = poisson(300)
    result = simulate(setup, requests)
    assert len(result.resumed_gap_s) > 20
    at_once, line = summarise(result, setup), timeline(result)
    measure_in_bits(monkeypatch)
    assert len(list(blocks.blocks(result))) > 100
    bit_by_bit = summarise(result, setup)
    for name, value in at_once.items():
        assert bit_by_bit[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name
        if "_p" in name or "throughput" in name:
            assert bit_by_bit[name] == value, name
    for name, values in timeline(result).items():
        assert values == pytest.approx(line[name], rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("router", ["round_robin", "random"])
@pytest.mark.parametrize("stop_s", [inf, 0.3])
def test_split_over_processes_it_is_the_same_to_the_last_bit(
    router: str, stop_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts go through pickle, as they do between processes; the workload has misfits, too."""
    hand_over_often(monkeypatch)
    setup = small.scenario(replicas=5, router=router, max_num_seqs=3, seed=4, num_gpu_blocks=30)
    requests = poisson(400, gap_s=1e-3)
    requests.prompt_tokens[::50] = 1000
    assert can_be_split(setup, requests)
    parts = []
    for numbers in ([0, 2, 4], [1, 3]):
        part = simulate_part(setup, requests, numbers, stop_s, Scratch(tmp_path, shared=True))
        parts.append(pickle.loads(pickle.dumps(part)))
    assert list(tmp_path.iterdir()) == [], "whoever gets a part takes its file away"
    split, at_once = whole(setup, requests, parts, stop_s), simulate(setup, requests, stop_s)
    small.assert_same(split, at_once)
    exactly = pytest.approx(summarise(at_once, setup), rel=0, abs=0, nan_ok=True)
    assert summarise(split, setup) == exactly
    assert (split.requests["replica"] == -1).any()


def test_replicas_that_know_of_each_other_cannot_be_split() -> None:
    requests = poisson(5)
    loop = small.requests([], [9] * 4, [9] * 4, users=2, think_s=[0.0] * 4)
    assert not can_be_split(small.scenario(replicas=2, router="least_requests"), requests)
    assert not can_be_split(small.scenario(replicas=2), loop)
    assert not can_be_split(small.scenario(replicas=1), requests)
    with pytest.raises(ValueError, match=r"replicas = \[0\] of 2 depend on the others"):
        simulate_part(small.scenario(replicas=2), loop, [0])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8),
    st.integers(0, 80),
    st.integers(0, 80),
)
def test_a_tape_reads_like_an_array(pieces: list[tuple[int, bool]], start: int, stop: int) -> None:
    scratch, tape, column = Scratch(), Tape(np.int64), np.empty(0, dtype=np.int64)
    for rows, in_file in pieces:
        values = np.arange(len(column), len(column) + rows)
        tape.append(scratch.keep(values) if in_file else values)
        column = np.append(column, values)
    assert len(tape) == len(column)
    assert tape[start:stop].tolist() == column[start:stop].tolist()
    assert np.asarray(tape).tolist() == tape.array().tolist() == column.tolist()
    assert np.asarray(joined([tape, tape], np.int64)).tolist() == [*column, *column]


def test_a_tape_is_read_forwards_and_as_a_copy_but_in_one_piece() -> None:
    values = np.arange(3)
    tape = Tape(np.int64, [values])
    assert tape.array() is values
    assert tape[:] is not values
    with pytest.raises(ValueError, match="slice step = -1, expected 1"):
        tape[::-1]
    with pytest.raises(ValueError, match="copy=None or True"):
        np.asarray(tape, copy=False)


def test_scratch_file_that_somebody_cut_is_told(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, shared=True)
    piece = scratch.keep(np.arange(100_000))
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"")
    with pytest.raises(OSError, match="cut short at byte 400000"):
        piece[50_000:]


def test_memory_grows_by_at_most_145_bytes_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that numpy and Python allocate, workload, simulation and metrics included.

    Buffers are made small, so that they are full in a short run; what grows are columns.
    """
    monkeypatch.setattr(recorder, "FULL_STEPS", 2048)
    monkeypatch.setattr(blocks, "SEGMENTS", 1024)
    monkeypatch.setattr(blocks, "STEPS", 1024)
    monkeypatch.setattr("sim.measuring.weighted.SHORT", 1024)
    monkeypatch.setattr("sim.measuring.weighted.FEW", 1024)
    monkeypatch.setattr("sim.measuring.weighted._DIGIT_BITS", 8)
    monkeypatch.setattr("sim.source._BLOCK", 64)
    setup = small.scenario(max_num_seqs=16)
    _peak_bytes(setup, 100)  # loads what is loaded late
    growth = _peak_bytes(setup, 9000) - _peak_bytes(setup, 3000)
    assert 50 < growth / 6000 <= 145


def _peak_bytes(setup: Scenario, rows: int) -> int:
    """Most memory that a run and its metrics take, above what was there before."""
    tracemalloc.start()
    rng = np.random.default_rng(1)
    requests = Requests(
        arrival_s=np.cumsum(rng.exponential(0.01, rows)),
        prompt_tokens=rng.integers(1, 60, rows),
        output_tokens=rng.integers(1, 30, rows),
        priority=np.zeros(rows, dtype=np.int64),
    )
    result = simulate(setup, requests)
    assert len(result.step_end_s) > 5 * rows
    summarise(result, setup)
    timeline(result)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak
