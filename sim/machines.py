"""What computes the steps of a pool where they are priced."""

from array import array

from hardware.draft_cost import PassCost
from sim.engine.drafted_machine import Drafted, Passes
from sim.engine.machine import Machine, Priced
from sim.engine.reach import ALL_POSITIONS
from sim.engine.sequence import Batch
from sim.pools import Pool


class ColdStart(Machine):
    """A machine whose first step takes longer: what is compiled and allocated then."""

    def __init__(self, machine: Machine, first_s: float) -> None:
        self.machine, self.first_s = machine, first_s

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """See ``Machine``."""
        first_s, self.first_s = self.first_s, 0.0
        return self.machine.compute(batch, start_s + first_s, until_s, ends_s)


def priced_machine(pool: Pool) -> Machine:
    """Return a machine whose steps take as long as they cost, drafts and a cold start included."""
    machine, first_s = _priced(pool), pool.engine.first_request_s
    return ColdStart(machine, first_s) if first_s else machine


def _priced(pool: Pool) -> Machine:
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
