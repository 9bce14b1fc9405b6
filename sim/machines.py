"""What computes the steps of a pool where they are priced."""

from hardware.draft_cost import PassCost
from sim.engine.drafted_machine import Drafted, Passes
from sim.engine.machine import Machine, Priced
from sim.engine.reach import ALL_POSITIONS
from sim.pools import Pool


def priced_machine(pool: Pool) -> Machine:
    """Return a machine whose steps take as long as they cost, drafts included."""
    cost, plan = pool.draft_cost, pool.drafts
    if cost is None or plan is None:
        return Priced(pool.price.prices)
    reaches = pool.spec.reaches

    def passes(of: PassCost, own: tuple[object, ...]) -> Passes:
        return Passes(of.by_rows, of.logits_s, [reaches.index(each) for each in own])

    drafter = plan.memory.drafter
    return Drafted(
        target=passes(cost.target, reaches),
        drafter=passes(cost.drafter, drafter.spec.reaches) if drafter and cost.drafter else None,
        drafting=plan.drafting,
        sequence_s=cost.sequence_s,
        windows=[window or ALL_POSITIONS for window in pool.spec.windows],
    )
