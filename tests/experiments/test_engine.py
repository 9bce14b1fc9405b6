"""The real engine: the scheduler that the simulator uses, driving a real (tiny) decoder."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from experiments.calibrating.engine import Executor, run_step, serve
from model.torch.decoder import Decoder, random_decoder
from model.torch.generation import generate
from sim.engine.sequence import Sequence
from sim.schedulers import make_scheduler
from sim.settings.scenario import Scenario
from sim.simulation import simulate
from tests.sim import small
from workloads.requests import Requests

SCHEDULERS = ("static", "prefill_first", "chunked_prefill")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return random_decoder(small.tiny_spec(), dtype=torch.float64)


def scenario(scheduler: str, **settings: object) -> Scenario:
    defaults: dict[str, object] = {
        "scheduler": scheduler, "max_num_seqs": 6, "max_num_batched_tokens": 40,
        "num_gpu_blocks": 24, "block_size": 4, "max_model_len": 90, "batch_timeout_s": 0.0,
    }  # fmt: skip
    return small.scenario(**(defaults | settings))


def at_once(rows: int) -> Requests:
    rng = np.random.default_rng(5)
    prompts, outputs = rng.integers(1, 40, rows).tolist(), rng.integers(1, 30, rows).tolist()
    return small.requests([0.0] * rows, prompts, outputs)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_it_takes_the_very_steps_that_the_simulation_takes(
    decoder: Decoder, scheduler: str
) -> None:
    """All at time 0, so that the clock decides nothing: preemptions and padding included."""
    setup, requests = scenario(scheduler), at_once(25)
    real, simulated = serve(decoder, setup, requests), simulate(setup, requests)
    assert simulated.requests["preemptions"].sum() > 0
    for name in ("decodes", "padding", "chunks", "prefill_tokens", "joined"):
        assert real.steps()[name].tolist() == simulated.steps()[name].tolist(), name
    for name in ("status", "preemptions", "replica"):
        assert real.requests[name].tolist() == simulated.requests[name].tolist(), name
    assert real.total("blocks_held") == 0


def test_it_refuses_what_it_does_not_have(decoder: Decoder) -> None:
    setup = scenario("chunked_prefill", enable_prefix_caching=True)
    with pytest.raises(ValueError, match="the real engine has no prefix cache, expected false"):
        serve(decoder, setup, at_once(1))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_its_tokens_are_those_of_plain_generation(decoder: Decoder, scheduler: str) -> None:
    """Through chunks, moving slots, padding and recomputation nobody's text gets lost."""
    setup, requests = scenario(scheduler), at_once(20)
    engine = make_scheduler(setup.pool)
    executor = Executor(decoder, 6, 90)
    waiting = [
        Sequence(row, 0.0, int(requests.prompt_tokens[row]), int(requests.output_tokens[row]), 0)
        for row in range(len(requests))
    ]
    for sequence in waiting:
        engine.admit(sequence)
    texts: dict[int, list[int]] = {}
    while (batch := engine.next_batch(1e9)) is not None:
        run_step(engine, executor, batch)
        for sequence in engine.complete(batch):
            texts[sequence.request] = list(executor._tokens[sequence])
    assert sum(sequence.preemptions for sequence in waiting) > 0
    for row in range(len(requests)):
        prompt = executor._text[row % 90 :][: requests.prompt_tokens[row]].tolist()
        (expected,) = generate(decoder, [prompt], int(requests.output_tokens[row]))
        assert texts[row] == expected, row


def test_it_waits_for_arrivals_and_rejects_what_never_fits(decoder: Decoder) -> None:
    requests = small.requests([0.0, 0.05, 0.05], [5, 80, 6], [2, 40, 3])
    columns = serve(decoder, scenario("chunked_prefill"), requests).requests
    assert columns["status"].tolist() == [1, 2, 1]
    assert columns["first_scheduled_s"][2] >= 0.05
    # Order, not speed: the first is worked on at once, whatever the machine does besides.
    assert columns["first_scheduled_s"][0] < columns["first_scheduled_s"][2]
    assert columns["first_scheduled_s"][0] < columns["first_token_s"][0]


def test_it_serves_a_closed_loop(decoder: Decoder) -> None:
    rows = 8
    requests = small.requests([], [4] * rows, [3] * rows, users=2, think_s=[0.001] * rows)
    columns = serve(decoder, scenario("prefill_first"), requests).requests
    assert columns["status"].tolist() == [1] * rows
    # Never more than two in the system: the third is issued after the first answer.
    assert columns["arrival_s"][2] >= np.sort(columns["finish_s"])[0] + 0.001


def test_one_device_is_one_replica(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="replicas = 2, tensor_parallel_size = 1: the real engine"):
        serve(decoder, small.scenario(replicas=2), at_once(1))
