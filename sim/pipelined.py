"""Engines of a pool that has pipeline stages."""

from hardware.links.interconnect import hop_s
from hardware.steps.pipeline import PipelineCost
from sim.engine.agenda import STEP_END, Agenda
from sim.engine.journal import Journal
from sim.engine.loop import OnFinish
from sim.engine.scheduler import Scheduler
from sim.engine.stages.pipeline import Pipeline, Stages
from sim.engine.stages.pipelined import Pipelined
from sim.engine.stages.pipelined_journal import PipelinedJournal
from sim.engine.stages.pipelined_prefill import PipelinedPrefill
from sim.settings.pools import Pool


def pipelined(
    number: int,
    pool: Pool,
    agenda: Agenda,
    scheduler: Scheduler,
    journal: Journal,
    on_finish: OnFinish,
) -> Pipelined:
    """Return a replica of a pool that has stages, idle."""
    cost = pool.pipeline
    assert cost is not None
    assert isinstance(scheduler, PipelinedPrefill)
    assert isinstance(journal, PipelinedJournal)
    loop = Pipeline(
        number, scheduler, stages_of_pool(pool, cost), cost.rules.batches, cost.rules.fills,
        pool.price.idle_start_s, pool.engine.first_request_s, journal, agenda, on_finish,
    )  # fmt: skip
    return Pipelined(loop, STEP_END + number)


def stages_of_pool(pool: Pool, cost: PipelineCost) -> Stages:
    """Return what computes the steps of a pool's replica."""
    return_s = hop_s(pool.gpu, pool.tensor_parallel_size * pool.pipeline_parallel_size)
    return Stages(
        cost.prices,
        [list(places) for places in cost.places],
        return_s + pool.calibration.collective_overhead_s,
    )
