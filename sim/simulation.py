"""Wires one scenario together and runs it."""

from math import inf

from sim.clock import Clock
from sim.recorder import Recorder
from sim.replica import Replica
from sim.result import FINISHED, REJECTED, UNFINISHED, Result
from sim.router import make_router
from sim.scenario import Scenario
from sim.scheduler import ChunkedPrefill, PrefillFirst, Scheduler, Static
from sim.sequence import Sequence
from sim.source import ClosedLoop, open_arrivals
from workloads.requests import Requests
from workloads.streams import stream


def make_scheduler(scenario: Scenario) -> Scheduler:
    """Return a fresh scheduler of one replica; a real engine can be driven by it, too."""
    engine = scenario.engine
    settings = {
        "num_blocks": scenario.ledger.num_gpu_blocks,
        "block_size": engine.block_size,
        "max_num_seqs": engine.max_num_seqs,
        "token_budget": scenario.token_budget,
        "watermark_blocks": scenario.watermark_blocks,
        "order": engine.order,
    }
    if engine.scheduler == "static":
        return Static(batch_timeout_s=engine.batch_timeout_s, **settings)
    if engine.scheduler == "prefill_first":
        return PrefillFirst(**settings)  # type: ignore[arg-type]
    return ChunkedPrefill(
        long_prefill_token_threshold=engine.long_prefill_token_threshold, **settings
    )


def simulate(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    """Simulate until every request has ended, or until ``stop_s``.

    Requests that cannot ever fit (longer than ``max_model_len``, or than the KV cache) are rejected
    when they arrive. Those unfinished at ``stop_s`` are in the result, with status 0.
    """
    clock = Clock()
    count = scenario.cluster.replicas
    recorder = Recorder(requests, count)
    in_flight: dict[Sequence, int] = {}
    loop: ClosedLoop | None = None

    def on_finish(sequence: Sequence, replica: int, now_s: float) -> None:
        recorder.ended(sequence, replica, FINISHED, now_s)
        del in_flight[sequence]
        if loop is not None:
            loop.start_thinking(now_s, at_once=True)

    replicas = [
        Replica(
            number, clock, make_scheduler(scenario), scenario.price, recorder.replicas[number],
            on_finish,
        )
        for number in range(count)
    ]  # fmt: skip
    route = make_router(scenario.cluster.router, replicas, stream(scenario.seed, "router"))
    longest = scenario.max_model_len

    def send(sequence: Sequence) -> None:
        if loop is not None:
            recorder.arrived(sequence.request, sequence.arrival_s)
        prompt, output = sequence.prompt_tokens, sequence.output_tokens
        if prompt + output > longest or not replicas[0].scheduler.fits(prompt, output):
            recorder.ended(sequence, -1, REJECTED, -1.0)
            if loop is not None:
                loop.start_thinking(sequence.arrival_s)
            return
        number = route()
        in_flight[sequence] = number
        replicas[number].submit(sequence)

    if requests.users is None:
        clock.process(open_arrivals(clock, requests, send))
    else:
        loop = ClosedLoop(clock, requests, send)
    clock.run_through(stop_s)

    end_s = min(clock.now, stop_s)
    if stop_s < inf:
        for replica in replicas:
            replica.halt(stop_s)
        end_s = stop_s
    elif in_flight:
        raise RuntimeError(f"{len(in_flight)} requests never finished: a scheduler is stuck")
    for sequence, number in in_flight.items():
        recorder.ended(sequence, number, UNFINISHED, -1.0)
    pools = [replica.scheduler.pool for replica in replicas]
    return recorder.result(
        [(pool.allocated, pool.freed, pool.held) for pool in pools], pools[0].num_blocks, end_s
    )
