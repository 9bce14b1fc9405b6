"""Engines without CUDA graphs: the host launches every kernel of a step."""

from array import array

import numpy as np
import pytest

from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from hardware.prices.graphs import largest_graph
from hardware.prices.lines import at_least
from hardware.steps.cost import StepCost
from hardware.steps.setup import StepSetup, step_cost
from model.precision import precision
from model.spec import load_spec
from sim.settings.engine_config import EngineConfig
from sim.settings.pool_building import ledger_of
from sim.settings.resolved_engine import resolved

DRAFTED = {"method": "ngram", "num_speculative_tokens": 2, "synthetic_acceptance_length": 1.5}


def cost_of(model: str, gpu: str = "a100-80gb-sxm", *, eager: bool = True) -> StepCost:
    one = load_gpu(gpu)
    return step_cost(
        StepSetup(
            spec=load_spec(model), gpu=one, precision=precision(), max_tokens=4096, max_seqs=256,
            calibration=engine_calibration("vllm-0.15", one), enforce_eager=eager,
        )
    )  # fmt: skip


def test_a_small_step_takes_as_long_as_its_launches() -> None:
    """28 layers of a 7B on one A800: 22 to 23 ms a token, and 13 with graphs.

    vllm-project/vllm-omni issue 7960 (2026-09), the model that thinks.
    """
    eager, graphs = (cost_of("qwen2.5-7b", eager=each) for each in (True, False))
    assert eager.step_s(1, 500, ()) == pytest.approx(22.5e-3, rel=0.3)
    assert graphs.step_s(1, 500, ()) == pytest.approx(13e-3, rel=0.25)
    assert eager.step_s(8, 4000, ()) == pytest.approx(eager.step_s(1, 500, ()), rel=0.01)
    assert eager.step_s(1, 1, [(16, 0)]) > 1.3 * graphs.step_s(1, 1, [(16, 0)])


def test_launches_of_other_hosts_are_within_a_quarter() -> None:
    """Gaps of four runs of Llama-3.1-8B, 20.0 to 21.8 ms, and of Qwen3-14B, 0.5 ms a layer.

    llm-d's runs on A100 of May 2025; vllm-project/vllm issue 20469.
    """
    assert cost_of("llama-3.1-8b").step_s(4, 30_000, ()) == pytest.approx(20.9e-3, rel=0.1)
    assert cost_of("qwen3-14b").eager_s == pytest.approx(40 * 0.5e-3, rel=0.25)


def test_graphs_are_of_twice_the_seats_at_most_512_or_what_is_told() -> None:
    """vllm/config/vllm.py, ``_set_cudagraph_sizes``: of 60 seats 120 tokens; 100 are told as 96."""
    assert [largest_graph(seats) for seats in (1, 60, 64, 256, 1024)] == [2, 120, 128, 512, 512]
    assert [largest_graph(64, most) for most in (1, 32, 100, 1024)] == [1, 32, 96, 1024]


def test_a_large_step_hides_them() -> None:
    eager, graphs = (cost_of("llama-3.1-8b", eager=each) for each in (True, False))
    for step in ((256, 512_000, ()), (0, 0, [(4096, 0)]), (8, 80_000, [(2048, 0)])):
        np.testing.assert_allclose(eager.step_s(*step), graphs.step_s(*step), rtol=1e-12)


def test_steps_one_after_the_other_are_those_alone() -> None:
    """Across the context from which on attention is longer than the launches."""
    cost, decodes = cost_of("llama-3.1-8b"), 16
    times = [cost.step_s(decodes, 16 * context, ()) for context in (100, 30_000)]
    assert times[0] < times[1]
    reads, ends_s, added = 16 * 2_000, array("d"), 0.0
    cost.decode_ends_s(0.0, decodes, reads, 16 * 10, 2_000, 1e9, ends_s)
    for step in range(2_000):
        added += cost.step_s(decodes, reads + step * 160, ())
        assert ends_s[step] == pytest.approx(added, rel=1e-12)


def test_at_least_is_flat_up_to_where_it_is_passed() -> None:
    pieces = ((100, 1.0, 0.1), (10, 3.0, 0.08), (0, 3.8, 0.0))
    assert at_least(pieces, 2.0) == pieces
    assert at_least(pieces, 5.0) == ((100, 1.0, 0.1), (25, 3.0, 0.08), (0, 5.0, 0.0))
    assert at_least(pieces, 20.0) == ((190, 1.0, 0.1), (0, 20.0, 0.0))
    assert at_least(((0, 1.0, 0.0),), 2.0) == ((0, 2.0, 0.0),)


def test_graphs_that_are_not_there_take_no_memory() -> None:
    spec, gpu = load_spec("qwen3-8b"), load_gpu("h100-sxm")
    eager, graphs = (
        ledger_of(spec, gpu, 1, resolved(EngineConfig(enforce_eager=each), gpu, spec))
        for each in (True, False)
    )
    assert eager.graphs_bytes == 0 < graphs.graphs_bytes
    assert eager.kv_bytes - graphs.kv_bytes == graphs.graphs_bytes


@pytest.mark.parametrize(
    "other",
    [
        {"max_cudagraph_capture_size": 64},
        {"speculative": DRAFTED},
    ],
)
def test_what_means_nothing_without_graphs_is_refused(other: dict[str, object]) -> None:
    spec, gpu = load_spec("qwen3-8b"), load_gpu("h100-sxm")
    given = EngineConfig.model_validate({"enforce_eager": True, **other})
    with pytest.raises(ValueError, match="enforce_eager: true"):
        resolved(given, gpu, spec)


def decodes_alone(model: str, gpu: str = "b200-sxm", tp: int = 8) -> tuple[StepCost, StepCost]:
    """With graphs of decodes alone, and with all."""
    one, spec = load_gpu(gpu), load_spec(model)
    setups = [
        StepSetup(
            spec=spec, gpu=one, tp=tp, precision=precision(), max_tokens=8192, max_seqs=64,
            calibration=engine_calibration("vllm-0.15", one), graphs_of_decodes=each,
        )
        for each in (True, False)
    ]  # fmt: skip
    return step_cost(setups[0]), step_cost(setups[1])


def test_graphs_of_decodes_alone_leave_chunks_to_the_host() -> None:
    alone, all_steps = decodes_alone("llama-3.1-70b")
    # Steps of decodes are replayed: nothing changes.
    for decodes in (1, 16, 64):
        assert alone.step_s(decodes, 500, ()) == all_steps.step_s(decodes, 500, ())
    # 80 layers at 0.6 ms, whatever the prompt, with decodes beside or without.
    floor_s = 80 * 0.6e-3
    for step in ((0, 0, [(200, 0)]), (8, 4000, [(200, 0)])):
        assert floor_s < alone.step_s(*step) < 1.2 * floor_s
        assert all_steps.step_s(*step) < floor_s / 2
    # What takes the GPU longer is not touched.
    long = (0, 0, [(8192, 0)])
    assert alone.step_s(*long) == pytest.approx(all_steps.step_s(*long), rel=1e-12)


@pytest.mark.parametrize("other", [{"enforce_eager": True}, {"speculative": DRAFTED}])
def test_graphs_of_decodes_alone_beside_what_has_others_are_refused(
    other: dict[str, object],
) -> None:
    spec, gpu = load_spec("qwen3-8b"), load_gpu("h100-sxm")
    given = EngineConfig.model_validate({"cudagraph_mode": "FULL_DECODE_ONLY", **other})
    with pytest.raises(ValueError, match=r"engine\.cudagraph_mode = FULL_DECODE_ONLY"):
        resolved(given, gpu, spec)
