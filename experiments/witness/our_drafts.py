"""Scenarios with drafts, as ours: how they are made, what they cost, where they are cached."""

from dataclasses import replace

from experiments.witness.drafts import Drafts
from experiments.witness.scenario import TICKS_PER_S, Price, Scenario
from hardware.memory.kv_layout import KvGroup
from hardware.steps.adding_up import VECTOR_STEPS, add_up
from hardware.steps.prices import StepPrices
from sim.settings.pools import Pool

MODEL = "gpt2"
"""Of no account: a step costs what the scenario says, and blocks are given."""


def speculative_of(drafts: Drafts) -> dict[str, object]:
    """As a study has it; how many drafts are right is told otherwise."""
    return {
        "method": drafts.method,
        "num_speculative_tokens": drafts.tokens,
        "synthetic_acceptance_length": 1.0,
        "num_speculative_tokens_per_batch_size": drafts.by_sequences or None,
        **({"model": MODEL} if drafts.method == "draft_model" else {}),
    }


def with_drafts(pool: Pool, price: Price) -> Pool:
    """The same pool with prices of steps in whole ticks, and drafts for nothing."""
    cost = pool.draft_cost
    assert cost is not None
    tick = 1 / TICKS_PER_S
    of_one = pool.price.prices
    logits_s = [0.0] * len(cost.target.logits_s)
    bare = StepPrices(
        of_one.overhead_s, of_one.launch_s, of_one.token_s, [0.0] * len(of_one.sequence_s),
        of_one.decode_pieces, pool.price.chunk_cost.seconds, add_up, VECTOR_STEPS,
    )  # fmt: skip
    target = replace(cost.target, by_rows=[bare] * len(cost.target.by_rows), logits_s=logits_s)
    free = replace(cost, target=target, drafter=None, sequence_s=price.sequence * tick)
    return replace(pool, draft_cost=free)


def with_layout(pool: Pool, scenario: Scenario) -> Pool:
    """The same pool with the scenario's groups, whatever layers a drafter would have."""
    drafts, hybrid = scenario.drafts, scenario.hybrid
    assert drafts is not None
    size, windows = scenario.block_size, scenario.windows
    times = [1] * len(windows) if hybrid is None else hybrid.times
    groups = [
        KvGroup(
            layers=1, block_tokens=size * blocks, window=window, drafts=window in drafts.kinds,
            chunked=scenario.chunked and window is not None,
        )
        for window, blocks in zip(windows, times, strict=True)
    ]  # fmt: skip
    state = KvGroup(layers=1, block_tokens=size, state=True, states=1 + drafts.tokens)
    layout = replace(pool.ledger.layout, groups=(*groups, *[state] * scenario.states))
    return replace(pool, ledger=replace(pool.ledger, layout=layout))
