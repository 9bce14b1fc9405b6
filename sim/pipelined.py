"""An engine with pipeline stages on the simulation's clock."""

from hardware.interconnect import hop_s
from hardware.pipeline_cost import PipelineCost
from sim.clock import NORMAL, Clock
from sim.engine.agenda import Sleeper
from sim.engine.journal import Journal
from sim.engine.pipeline import Pipeline, Stages
from sim.engine.pipelined_journal import PipelinedJournal
from sim.engine.pipelined_prefill import PipelinedPrefill
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence
from sim.lockstep import Rank
from sim.pools import Pool
from sim.replica import OnFinish, Replica, queue_of


class Pipelined:
    """One replica, to which requests are sent and from which they are taken back.

    Steps end one by one, and who comes is seen when the oldest of them has: nothing is cut short.

    Args:
        loop: its own.
        clock: of the simulation.
    """

    def __init__(self, loop: Pipeline, clock: Clock) -> None:
        self.number = loop.number
        self.loop = loop
        self.scheduler = loop.scheduler
        self.journal = loop.journal
        self._clock = clock
        # At one instant, replicas go by their numbers.
        self._sleeper = Sleeper(clock.agenda, loop, NORMAL + loop.number)
        self._sleeper.sleep_until(0.0)

    def submit(self, sequence: Sequence) -> None:
        """Take a request, now."""
        self.scheduler.admit(sequence)
        if self._sleeper.asleep and not self.loop.under_way:
            self._sleeper.wake_at(self._clock.now)

    def abort(self, sequence: Sequence) -> None:
        """Nobody wants a request any more, now: it is dropped when the oldest step has ended.

        Not to be called by whoever is told of an end: clients give up between events of their own.
        """
        if self.loop.under_way:
            self.loop.aborted.append(sequence)
        else:
            self.scheduler.abort(sequence)
            self._sleeper.wake_at(self._clock.now)

    def tell(self, sequence: Sequence) -> None:
        """Blocks were filled from elsewhere, or read: none of a pipeline ever are."""
        raise NotImplementedError(f"request {sequence.request}: no KV comes to a pipeline")

    def outstanding_tokens(self) -> int:
        """Tokens of the requests here: their prompts, and what was generated until now."""
        return self.scheduler.outstanding_tokens()

    def steps_ended(self) -> int:
        """Count the steps of the run under way that ended until now: each is completed at once."""
        return 0

    def queue(self) -> tuple[int, int, float]:
        """How many wait, how many run, and the share of the KV cache in use, now."""
        return queue_of(self.scheduler, 0)

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens of a prompt, without its last one, that the prefix cache has now."""
        return self.scheduler.look(sequence, 0)

    def unsettled(self) -> bool:
        """Tell whether these tokens are also of somebody who has left, until the step has ended."""
        return bool(self.loop.aborted)

    def halt(self, stop_s: float) -> None:
        """The clock has stopped: what ended by then was completed, what is under way is not."""


AnyReplica = Replica | Rank | Pipelined
"""Whatever has a scheduler of its own."""


def pipelined(
    number: int,
    pool: Pool,
    clock: Clock,
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
        pool.price.idle_start_s, pool.engine.first_request_s, journal, clock.agenda, on_finish,
    )  # fmt: skip
    return Pipelined(loop, clock)


def stages_of_pool(pool: Pool, cost: PipelineCost) -> Stages:
    """Return what computes the steps of a pool's replica."""
    return_s = hop_s(pool.gpu, pool.tensor_parallel_size * pool.pipeline_parallel_size)
    return Stages(
        cost.prices,
        [list(places) for places in cost.places],
        return_s + pool.calibration.collective_overhead_s,
    )
