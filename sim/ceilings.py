"""What a replica of a pool cannot exceed, whatever it is asked and however that is scheduled."""

from collections.abc import Callable

from sim.engine.drafts.drafted_machine import Drafted
from sim.engine.lockstep import dummy
from sim.engine.sequence import Batch
from sim.machines import joint_drafts, steady_machine
from sim.settings.pools import Pool

StepOf = Callable[[int], float]
"""Seconds of a step of so many sequences."""


def ceilings_of(pool: Pool) -> dict[str, float]:
    """Return ``StepCost.ceilings()``; with drafts, as if all of them were right.

    A step of s sequences then yields at most s (1 + k) tokens, and takes at least what target and
    drafter take for as many rows without context. Whoever makes no drafts, as in large batches, is
    bounded as before: the better of both holds. Of data-parallel ranks one has requests, and the
    others go along.
    """
    if pool.pipeline is not None:
        return pool.pipeline.ceilings(pool.price)
    plain = pool.price.ceilings()
    if pool.drafts is None:
        return plain
    rows = 1 + pool.drafts.drafting.tokens
    step_s = _of_drafts(pool, rows)
    most = max(1, min(pool.engine.max_num_seqs, pool.token_budget // rows))
    steps_s = [step_s(each) for each in range(1, most + 1)]
    per_s = [each * rows / seconds for each, seconds in enumerate(steps_s, start=1)]
    assert pool.draft_cost is not None
    bare_s = steps_s[-1] - pool.price.overhead_s - pool.draft_cost.sequence_s * most
    return plain | {
        "fastest_token_s": min(plain["fastest_token_s"], steps_s[0] / rows),
        "decode_tokens_per_s": max(plain["decode_tokens_per_s"], most * rows / bare_s),
        "output_tokens_per_s": max(plain["output_tokens_per_s"], *per_s),
    }


def _of_drafts(pool: Pool, rows: int) -> StepOf:
    """Steps of sequences that all have so many rows, and no context."""
    classes, ranks = len(pool.spec.reaches), pool.ranks.count
    if ranks > 1:
        joint, others = joint_drafts(pool), [dummy(classes, rows)] * (ranks - 1)
        assert joint is not None

        def step_s(sequences: int) -> float:
            """Return seconds of a step in which this rank has that many, and the others a dummy."""
            batch = Batch(classes)
            batch.decodes, batch.rows, batch.most_rows = sequences, sequences * rows, rows
            return joint.step_s([batch, *others], [False, *(True for _ in others)])

        return step_s
    machine, nothing = steady_machine(pool), [0] * classes
    assert isinstance(machine, Drafted)
    return lambda sequences: machine.step_s(sequences, sequences * rows, rows, nothing, [])
