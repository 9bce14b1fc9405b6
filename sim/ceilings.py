"""What a replica of a pool cannot exceed, whatever it is asked and however that is scheduled."""

from sim.engine.drafts.drafted_machine import Drafted
from sim.machines import priced_machine
from sim.settings.pools import Pool


def ceilings_of(pool: Pool) -> dict[str, float]:
    """Return ``StepCost.ceilings()``; with drafts, as if all of them were right.

    A step of s sequences then yields at most s (1 + k) tokens, and takes at least what target and
    drafter take for as many rows without context. Whoever makes no drafts, as in large batches, is
    bounded as before: the better of both holds.
    """
    if pool.pipeline is not None:
        return pool.pipeline.ceilings(pool.price)
    plain = pool.price.ceilings()
    machine = priced_machine(pool)
    if not isinstance(machine, Drafted):
        return plain
    rows = 1 + machine.around.drafting.tokens
    nothing = [0] * len(pool.spec.reaches)
    most = max(1, min(pool.engine.max_num_seqs, pool.token_budget // rows))
    steps_s = [machine.step_s(each, each * rows, rows, nothing, []) for each in range(1, most + 1)]
    per_s = [each * rows / step_s for each, step_s in enumerate(steps_s, start=1)]
    bare_s = steps_s[-1] - pool.price.overhead_s - machine.around.sequence_s * most
    return plain | {
        "fastest_token_s": min(plain["fastest_token_s"], steps_s[0] / rows),
        "decode_tokens_per_s": max(plain["decode_tokens_per_s"], most * rows / bare_s),
        "output_tokens_per_s": max(plain["output_tokens_per_s"], *per_s),
    }
