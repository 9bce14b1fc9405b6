"""Wires one scenario together and runs it."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as SequenceOf
from math import inf

import numpy as np
import numpy.typing as npt

from sim.client import Client
from sim.clock import Clock, without_collector
from sim.engine.chunked_prefill import ChunkedPrefill
from sim.engine.kv_cache import BlockPool
from sim.engine.prefix_cache import PrefixCache
from sim.engine.scheduler import Scheduler
from sim.engine.sequence import Sequence
from sim.engine.waiting import waiting_queue
from sim.engine.whole_prompts import PrefillFirst, Static
from sim.recording import Part, Recorder, result_of
from sim.replica import Replica
from sim.result import REJECTED, UNFINISHED, Result
from sim.router import BLIND, make_router
from sim.scenario import NO_CLIENT, Scenario
from sim.source import ClosedLoop, open_arrivals, sequences
from sim.tape import Scratch
from workloads.requests import Prefixes, Requests
from workloads.streams import stream


def make_scheduler(scenario: Scenario, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine = scenario.engine
    num_blocks, size = scenario.ledger.num_gpu_blocks - engine.null_block, engine.block_size
    pool = BlockPool(num_blocks, size)
    if engine.enable_prefix_caching:
        spans_of = None if prefixes is None else block_spans(prefixes, size)
        pool = PrefixCache(
            num_blocks, size, spans_of, engine.reuse_unhashed_first, scenario.async_scheduling
        )
    queue, windows = waiting_queue(engine.order), scenario.spec.windows
    seats, budget = engine.max_num_seqs, scenario.token_budget
    watermark = scenario.watermark_blocks
    if engine.scheduler == "static":
        return Static(
            pool, queue, seats, budget, watermark, windows, batch_timeout_s=engine.batch_timeout_s
        )
    if engine.scheduler == "prefill_first":
        return PrefillFirst(pool, queue, seats, budget, watermark, windows)
    return ChunkedPrefill(
        pool, queue, seats, budget, watermark, windows,
        ahead=scenario.async_scheduling,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        long_prefill_limits_alone=engine.long_prefill_limits_alone,
        scheduler_reserve_full_isl=engine.scheduler_reserve_full_isl,
    )  # fmt: skip


def block_spans(prefixes: Prefixes, block_size: int) -> Callable[[int], list[tuple[int, int]]]:
    """Of a request, its streams, and how many blocks lie wholly in them and in those before."""
    offsets, streams, blocks = prefixes.offsets, prefixes.streams, prefixes.ends // block_size

    def spans_of(request: int) -> list[tuple[int, int]]:
        row = slice(*offsets[request : request + 2].tolist())
        return list(zip(streams[row].tolist(), blocks[row].tolist(), strict=True))

    return spans_of


def simulate(
    scenario: Scenario, requests: Requests, stop_s: float = inf, scratch: Scratch | None = None
) -> Result:
    """Simulate until every request has ended, or until ``stop_s``.

    Requests that cannot ever fit (longer than ``max_model_len``, or than the KV cache) are rejected
    when they arrive. Those unfinished at ``stop_s`` are in the result, with status 0. The steps of
    a long run go to ``scratch``, by default a file in the system's folder for temporary files.
    """
    everything = range(scenario.cluster.replicas)
    part = simulate_part(scenario, requests, everything, stop_s, scratch)
    return whole(scenario, requests, [part], stop_s)


def can_be_split(scenario: Scenario, requests: Requests) -> bool:
    """Whether replicas know nothing of each other, so that ``simulate_part`` can take some only."""
    cluster = scenario.cluster
    return cluster.replicas > 1 and _is_dealt(scenario, requests)


def simulate_part(
    scenario: Scenario,
    requests: Requests,
    numbers: SequenceOf[int],
    stop_s: float = inf,
    scratch: Scratch | None = None,
) -> Part:
    """Simulate some replicas of a scenario: all, or any of one that ``can_be_split``.

    Raises:
        ValueError: some only, of replicas that depend on each other.
    """
    if len(numbers) < scenario.cluster.replicas and not can_be_split(scenario, requests):
        raise ValueError(
            f"replicas = {list(numbers)} of {scenario.cluster.replicas} depend on the others, "
            f"expected all, or open arrivals and a router of {', '.join(BLIND)}"
        )
    cluster = _Cluster(scenario, requests, numbers, stop_s, scratch)
    cluster.run()
    return cluster.part()


def whole(
    scenario: Scenario, requests: Requests, parts: SequenceOf[Part], stop_s: float = inf
) -> Result:
    """Put the parts of a run together: the same as if it had been simulated at once."""
    end_s = max(part.end_s for part in parts)
    if requests.users is None and len(requests):
        end_s = max(end_s, float(requests.arrival_s[-1]))
    return result_of(requests, parts, scenario.api, end_s, stop_s)


def _is_dealt(scenario: Scenario, requests: Requests) -> bool:
    """Whether it is known beforehand which replica takes which request."""
    cluster = scenario.cluster
    known = requests.users is None and scenario.client == NO_CLIENT
    return known and (cluster.replicas == 1 or cluster.router in BLIND)


def _nobody(_: int) -> Iterator[Sequence]:
    return iter(())


class _Cluster:
    """Replicas, and how requests come to them.

    Where the router looks at nothing (or there is one replica only) and arrivals are known, every
    replica is dealt its own beforehand, and lives by itself. Otherwise each request is sent when
    its time has come.
    """

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        numbers: SequenceOf[int],
        stop_s: float,
        scratch: Scratch | None,
    ) -> None:
        self.clock = Clock()
        self.scenario = scenario
        self.requests = requests
        self.stop_s = stop_s
        count, router = scenario.cluster.replicas, scenario.cluster.router
        self.recorder = Recorder(requests, count, scenario.spec.reaches, scenario.api, scratch)
        self.schedulers = {
            number: make_scheduler(scenario, requests.prefixes) for number in numbers
        }
        fitting = self.schedulers[numbers[0]].longest_request_tokens
        self.longest = min(scenario.max_model_len, fitting)  # prompt and output tokens together
        self.router = make_router(
            router,
            count,
            lambda number: self.replicas[number].outstanding_tokens(),
            lambda number: bool(self.replicas[number].loop.aborted),
            stream(scenario.seed, "router"),
        )
        closed = requests.users is not None
        self.client = self._client(closed)
        self.dealt = dealt = _is_dealt(scenario, requests)
        dealt_to = self._deal(count) if dealt else _nobody
        self.replicas = {
            number: Replica(
                number, self.clock, self.schedulers[number], scenario.price,
                self.recorder.replicas[number],
                self.recorder.outcomes.finished if dealt else self._finished,
                dealt_to(number), alone=dealt,
            )
            for number in numbers
        }  # fmt: skip
        self.loop = ClosedLoop(self.clock, requests, self._ask) if closed else None
        if self.client is not None:
            self.client.loop = self.loop
        if self.loop is not None:
            self.loop.start()
        elif not dealt:
            self.clock.process(open_arrivals(self.clock, self._in_order(), self._ask))

    def run(self) -> None:
        """Let everything happen that happens until ``stop_s``."""
        if not self.dealt:
            self.clock.run_through(self.stop_s)
            return
        with without_collector():
            for replica in self.replicas.values():
                replica.run_alone(self.stop_s)

    def _client(self, closed: bool) -> Client | None:
        """A client where there is something for it to do."""
        scenario = self.scenario
        if scenario.client == NO_CLIENT and not (closed and scenario.api):
            return None
        return Client(
            self.clock, scenario.client, scenario.api, self.recorder, self._deliver, self._hang_up
        )

    def _in_order(self) -> Iterator[Sequence]:
        """Open arrivals at the client, if there is one, else at the router."""
        if self.client is not None:
            return sequences(self.requests, self.requests.arrival_s)
        return sequences(self.requests, *self._reached())

    def _reached(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
        """When each request of an open workload is at the router, and in which order they come.

        None is the order of their rows, so that without an API nothing is held twice.
        """
        requests, api = self.requests, self.scenario.api
        if not api:
            return requests.arrival_s, None
        reached_s = api.reached_s(requests.arrival_s, requests.prompt_tokens)
        return reached_s, np.argsort(reached_s, kind="stable")

    def part(self) -> Part:
        """What happened until now."""
        for replica in self.replicas.values():
            replica.halt(self.stop_s)
        if self.client is not None:
            self.client.stop()
        held_blocks = {}
        for number, scheduler in self.schedulers.items():
            dropped = self.replicas[number].loop.aborted
            unfinished = [each for each in scheduler.unfinished() if each not in dropped]
            if unfinished and self.stop_s == inf:
                raise RuntimeError(
                    f"{len(unfinished)} requests never finished: a scheduler is stuck"
                )
            for sequence in unfinished:
                self.recorder.outcomes.ended(sequence, number, UNFINISHED, -1.0)
            held_blocks[number] = scheduler.pool.held
        alone_s = [replica.loop.now_s for replica in self.replicas.values() if self.dealt]
        end_s = max(alone_s, default=self.clock.now)
        return self.recorder.part(held_blocks, scheduler.pool.num_blocks, end_s)

    def _deal(self, count: int) -> Callable[[int], Iterator[Sequence]]:
        """Route all arrivals until ``stop_s`` beforehand; reject those that can never fit.

        Returns what gives a replica its own.
        """
        requests = self.requests
        reached_s, order = self._reached()
        arrived = int(np.searchsorted(reached_s, self.stop_s, side="right", sorter=order))
        rows = slice(arrived) if order is None else order[:arrived]
        fit = requests.prompt_tokens[rows] + requests.output_tokens[rows] <= self.longest
        replica = np.full(arrived, -1, dtype=np.int32)
        fitting = int(fit.sum())
        if count == 1:
            replica[fit] = 0
        else:
            replica[fit] = np.fromiter(iter(self.router.choose, None), np.int32, fitting)
        owner = np.full(len(requests), -1, dtype=np.int32)
        owner[rows] = replica
        refused = np.zeros(len(requests), dtype=np.bool_)
        refused[rows] = ~fit
        self.recorder.rejected(refused)
        return lambda number: sequences(requests, reached_s, order, owner, number)

    def _ask(self, sequence: Sequence) -> None:
        """A request arrives, now: at the client if there is one, else at the router."""
        if self.loop is not None:
            self.recorder.arrived(sequence.request, sequence.arrival_s)
        if self.client is not None:
            self.client.ask(sequence)
        else:
            self._deliver(sequence)

    def _deliver(self, sequence: Sequence) -> int:
        """A request reaches the router, now; return the replica, -1 for none."""
        if sequence.prompt_tokens + sequence.output_tokens > self.longest:
            self.recorder.outcomes.ended(sequence, -1, REJECTED, -1.0)
            if self.client is not None:
                self.client.rejected(sequence, sequence.arrival_s)
            elif self.loop is not None:
                self.loop.start_thinking(sequence.arrival_s)
            return -1
        number = self.router.choose()
        self.router.sent(number)
        self.replicas[number].submit(sequence)
        return number

    def _hang_up(self, sequence: Sequence, number: int) -> None:
        """A client no longer wants what a replica has, now."""
        self.replicas[number].abort(sequence)
        self.router.left(number, 1)

    def _finished(self, finished: list[Sequence], number: int, now_s: float) -> None:
        client, loop = self.client, self.loop
        self.clock.now_is(now_s)
        self.clock.turn, self.clock.turn_s = number, now_s
        if client is not None:
            finished = client.wanted(finished)
        self.router.left(number, len(finished))
        if client is not None:
            finished = client.ended(finished, now_s)
        self.recorder.outcomes.finished(finished, number, now_s)
        if client is None and loop is not None:
            for _ in finished:
                loop.start_thinking(now_s, at_once=True)
