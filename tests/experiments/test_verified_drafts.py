"""A real decoder with a small draft: the tokens without drafts, in the steps that are simulated."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from experiments.calibrating.verifying import Verifying, accepted_drafts
from model.torch.decoder import Decoder, random_decoder
from sim.acceptance import Given
from sim.engine.scheduler import Scheduler
from sim.simulation import simulate
from tests.sim import small

DRAFTS = 3


def decoders() -> tuple[Decoder, Decoder]:
    """A random target, and a draft that is its first layer alone."""
    spec = small.tiny_spec(vocab_size=61)
    target = random_decoder(spec, seed=5, dtype=torch.float64)
    draft = Decoder(spec, num_layers=1, dtype=torch.float64)
    known = target.state_dict()
    draft.load_state_dict({name: known[name] for name in draft.state_dict()})
    return target, draft


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "engine",
    [
        {"max_num_seqs": 4, "max_num_batched_tokens": 40},
        {"max_num_seqs": 12, "num_gpu_blocks": 24, "block_size": 8},
        {"max_num_seqs": 5, "max_num_batched_tokens": 17},
    ],
    ids=["seats", "blocks", "budget"],
)
def test_the_same_tokens_in_the_simulated_steps(engine: dict[str, object]) -> None:
    target, draft = decoders()
    rng = np.random.default_rng(1)
    prompt_tokens, output_tokens = rng.integers(3, 40, 12), rng.integers(2, 40, 12)
    prompts = [rng.integers(0, 61, count).tolist() for count in prompt_tokens]
    plain, right = zip(
        *(
            accepted_drafts(target, draft, prompt, int(count), DRAFTS)
            for prompt, count in zip(prompts, output_tokens, strict=True)
        ),
        strict=True,
    )
    drafts = {
        "method": "draft_model", "num_speculative_tokens": DRAFTS,
        "synthetic_acceptance_length": 2.0, "model": str(small.draft_config()),
    }  # fmt: skip
    scenario = small.scenario(speculative=drafts, **engine)
    requests = small.requests([0.0] * 12, prompt_tokens.tolist(), output_tokens.tolist())
    made: list[Verifying] = []

    def machine(scheduler: Scheduler) -> Verifying:
        made.append(Verifying(scheduler, target, draft, prompts, 128))
        return made[0]

    given = Given(list(right))
    real = simulate(scenario, requests, machine=machine, acceptance=given)
    assert made[0].answers == list(plain)
    for request, found in enumerate(made[0].accepted):
        for place, accepted in found:
            told = right[request][place]
            assert accepted == told or (accepted < told and "max_num_batched_tokens" in engine)
    simulated = simulate(scenario, requests, acceptance=given)
    for name in ("decodes", "chunks", "prefill_tokens", "kv_blocks", "rows", "gained", "drafted"):
        assert real.segments[name].tolist() == simulated.segments[name].tolist(), name
    assert real.requests["preemptions"].tolist() == simulated.requests["preemptions"].tolist()
    accepted = real.segments["gained"].sum() - real.segments["decodes"].sum()
    assert 0.1 < accepted / real.segments["drafted"].sum() < 0.9
    if "num_gpu_blocks" in engine:
        assert real.requests["preemptions"].any()
