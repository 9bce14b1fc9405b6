"""A simulated cluster cannot beat its own roofline."""

import numpy as np
import pytest

from hardware.calibration import Calibration
from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.engine.decoding import DecodeSet
from sim.engine.sequence import Batch, Sequence
from sim.measuring.metrics import summarise
from sim.recording.result import FINISHED, REJECTED
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from tests.sim import small

HOST = Calibration(
    name="host",
    source="made up",
    step_overhead_s=2e-4,
    sequence_overhead_s=1e-6,
    sync_step_s=1e-3,
    sync_sequence_s=5e-6,
)


def llama(calibration: Calibration | None = None, **engine: object) -> Scenario:
    return build_scenario(
        load_spec("llama-3-8b"),
        load_gpu("a100-80gb-sxm"),
        ClusterConfig(gpu="a100-80gb-sxm"),
        EngineConfig.model_validate(engine),
        *([calibration] if calibration else []),
    )


@pytest.mark.parametrize("scheduler", ["static", "prefill_first", "chunked_prefill"])
def test_one_request_takes_what_the_roofline_says(scheduler: str) -> None:
    scenario = llama(scheduler=scheduler, batch_timeout_s=0.0)
    result = simulate(scenario, small.requests([1.5], [700], [50]))
    price = scenario.pool.price
    columns = result.requests
    end_s = 1.5 + price.step_s(0, 0, [(700, 0)])
    assert columns["first_token_s"][0] == end_s
    for token in range(49):
        end_s += price.step_s(1, 701 + token, [])
    assert columns["finish_s"][0] == end_s


def test_a_decode_step_reads_all_weights_at_least_once() -> None:
    """Llama-3-8B in bf16: 15.01 GB over 2.039 TB/s is 7.36 ms; one row of the embedding is read.

    All 16.06 GB would take 7.88 ms, which a step with its host overhead does not undercut either.
    """
    spec = load_spec("llama-3-8b")
    weights = 2 * spec.parameters()
    embedding = 2 * spec.vocab_size * spec.hidden_size
    bare = llama(step_overhead_s=0.0, sequence_overhead_s=0.0).pool.price.step_s(1, 1, [])
    assert (weights - embedding) / 2.039e12 <= bare == pytest.approx(7.36e-3, rel=2e-3)
    assert (
        llama().pool.price.step_s(1, 1, [])
        >= weights / 2.039e12
        == pytest.approx(7.88e-3, rel=1e-3)
    )


def test_asynchronous_scheduling_hides_host_time() -> None:
    def step_s(**engine: object) -> float:
        return llama(HOST, **engine).pool.price.step_s(8, 800, [])

    hidden, shown = step_s(async_scheduling=True), step_s(async_scheduling=False)
    assert shown - hidden == pytest.approx(1e-3 + 8 * 5e-6)
    # What a study gives is all there is.
    given = {"step_overhead_s": 0.0, "sequence_overhead_s": 0.0}
    bare = step_s(async_scheduling=False, **given)
    assert hidden - bare == pytest.approx(2e-4 + 8 * 1e-6)


@pytest.mark.parametrize("max_num_seqs", [1, 16, 256])
def test_throughput_stays_under_the_ceiling(max_num_seqs: int) -> None:
    scenario = llama(max_num_seqs=max_num_seqs)
    rows = 4 * max_num_seqs
    result = simulate(scenario, small.requests([0.0] * rows, [100] * rows, [100] * rows))
    tokens_per_s = rows * 100 / result.requests["finish_s"].max()
    ceiling = scenario.pool.price.ceilings()["decode_tokens_per_s"]
    assert 0.3 * ceiling < tokens_per_s < ceiling


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mistral-7b"])
@pytest.mark.parametrize(("prompt", "output"), [(30_000, 1500), (4_000, 300), (100, 500)])
def test_no_more_work_is_counted_than_the_peaks_allow(model: str, prompt: int, output: int) -> None:
    """MFU and MBU on datasheet peaks stay below 1, with a sliding window (Mistral) too."""
    scenario = build_scenario(
        load_spec(model),
        load_gpu("a100-80gb-sxm"),
        ClusterConfig(gpu="a100-80gb-sxm"),
        EngineConfig(step_overhead_s=0.0, sequence_overhead_s=0.0),
    )
    result = simulate(scenario, small.requests([0.0] * 12, [prompt] * 12, [output] * 12))
    values = summarise(result, scenario)
    assert 0.0 < values["mfu"] <= 1.0
    assert 0.1 < values["mbu"] <= 1.0


def test_a_window_shortens_the_long_contexts_of_a_batch_only() -> None:
    """8 sequences far past a window of 4,096 and 56 short ones attend 8 * 4,096 and 56 * 200."""
    decodes = DecodeSet(16, (None, 4096))
    for row in range(64):
        sequence = Sequence(row, 0.0, 30_000 if row < 8 else 200, 100, 0)
        sequence.kv_tokens = sequence.prompt_tokens
        sequence.generated_tokens = 1
        decodes.join(sequence)
    decodes.tell(batch := Batch(classes=2))
    assert batch.decodes == 64
    assert batch.reads == [8 * 30_001 + 56 * 201, 8 * 4096 + 56 * 201]
    assert batch.growth == [64, 56]


def test_requests_that_can_never_fit_are_rejected_and_counted() -> None:
    scenario = small.scenario(num_gpu_blocks=8, max_model_len=200)
    requests = small.requests([0, 1, 2, 3], [10, 150, 120, 128], [10, 60, 20, 1])
    result = simulate(scenario, requests)
    assert result.requests["status"].tolist() == [FINISHED, REJECTED, REJECTED, FINISHED]
    assert result.requests["replica"].tolist() == [0, -1, -1, 0]
    assert np.isnan(result.requests["finish_s"][1])


def test_requests_unfinished_at_the_end_are_counted() -> None:
    requests = small.requests([0.0, 0.0, 5.0], [10, 10, 10], [5, 400, 5])
    result = simulate(small.scenario(), requests, stop_s=0.1)
    assert result.requests["status"].tolist() == [1, 0, 0]
    assert result.end_s == 0.1
    assert result.total("blocks_held") > 0


def test_a_budget_below_the_batch_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"_tokens = 8 is smaller than .*max_num_seqs"):
        small.scenario(max_num_batched_tokens=8)
