"""What computes the steps of a pool where they are priced."""

from array import array

from hardware.steps.drafts import PassCost
from model.spec import DecoderSpec
from sim.engine.drafts.drafted_machine import AroundPasses, Drafted, Passes
from sim.engine.drafts.drafting import Drafting
from sim.engine.drafts.joint_drafts import JointDrafted, JointPass
from sim.engine.machine import Machine, Priced
from sim.engine.reach import ALL_POSITIONS
from sim.engine.sequence import Batch
from sim.settings.pools import PREFILL, Pool


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
    machine, first_s = steady_machine(pool), pool.engine.first_request_s
    return ColdStart(machine, first_s) if first_s else machine


def calm_s(pool: Pool) -> float:
    """Return a time that is over before the step ends that follows another one of a pool's run of
    equal steps; 0: none is known."""
    if pool.drafts is not None or pool.pipeline is not None or pool.ranks.count > 1:
        return 0.0
    return 0.9 * pool.price.prices.shortest_s()  # ends are rounded


def steady_machine(pool: Pool) -> Machine:
    """Return the same without a cold start, for an engine that is alone."""
    cost, plan = pool.draft_cost, pool.drafts
    if cost is None or plan is None:
        return Priced(pool.price.prices)
    drafter = plan.memory.drafter
    return Drafted(
        target=_passes(pool, cost.target, pool.spec),
        drafter=_passes(pool, cost.drafter, drafter.spec) if drafter and cost.drafter else None,
        around=_around(pool, plan.drafting, cost.sequence_s),
    )


def _around(pool: Pool, drafting: Drafting, sequence_s: float) -> AroundPasses:
    windows = [window or ALL_POSITIONS for window in pool.spec.windows]
    return AroundPasses(drafting, sequence_s, windows, once=pool.role == PREFILL)


def joint_drafts(pool: Pool) -> JointDrafted | None:
    """Return what steps with drafts of data-parallel ranks cost; None: there are no drafts."""
    cost, plan = pool.draft_cost, pool.drafts
    if cost is None or plan is None:
        return None
    drafter = plan.memory.drafter
    return JointDrafted(
        target=_joint(pool, cost.target, pool.spec),
        drafter=_joint(pool, cost.drafter, drafter.spec) if drafter and cost.drafter else None,
        around=_around(pool, plan.drafting, cost.sequence_s),
    )


def _joint(pool: Pool, of: PassCost, own: DecoderSpec) -> JointPass:
    assert of.joint is not None
    return JointPass(_passes(pool, of, own), of.joint)


def _passes(pool: Pool, of: PassCost, own: DecoderSpec) -> Passes:
    """Tables of a model that attends as the target of a pool does."""
    reaches = pool.spec.reaches
    return Passes(of.by_rows, of.logits_s, [reaches.index(each) for each in own.reaches])
