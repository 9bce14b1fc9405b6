"""Wires one scenario together and runs it."""

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np

from sim.async_scheduling import AsyncCachingChunkedPrefill, AsyncChunkedPrefill
from sim.chunked_prefill import CachingChunkedPrefill, ChunkedPrefill
from sim.client import Client
from sim.clock import Clock
from sim.recorder import Recorder
from sim.replica import Replica
from sim.result import REJECTED, UNFINISHED, Result
from sim.router import BLIND, make_router
from sim.scenario import NO_CLIENT, Scenario
from sim.scheduler import PrefillFirst, Scheduler, Static
from sim.sequence import Sequence
from sim.source import ClosedLoop, open_arrivals, sequences
from workloads.requests import Prefixes, Requests
from workloads.streams import stream


def make_scheduler(scenario: Scenario, prefixes: Prefixes | None = None) -> Scheduler:
    """Return a fresh scheduler of one replica; a real engine can be driven by it, too.

    ``prefixes`` are those of the requests, by their rows: what a prefix cache can use.
    """
    engine = scenario.engine
    settings: dict[str, Any] = {
        "num_blocks": scenario.ledger.num_gpu_blocks,
        "block_size": engine.block_size,
        "max_num_seqs": engine.max_num_seqs,
        "token_budget": scenario.token_budget,
        "watermark_blocks": scenario.watermark_blocks,
        "order": engine.order,
        "sliding_window": scenario.spec.sliding_window,
    }
    if engine.scheduler == "static":
        return Static(batch_timeout_s=engine.batch_timeout_s, **settings)
    if engine.scheduler == "prefill_first":
        return PrefillFirst(**settings)
    settings["long_prefill_token_threshold"] = engine.long_prefill_token_threshold
    ahead = scenario.async_scheduling
    if engine.enable_prefix_caching:
        settings["prefixes"] = prefixes
        return (AsyncCachingChunkedPrefill if ahead else CachingChunkedPrefill)(**settings)
    return (AsyncChunkedPrefill if ahead else ChunkedPrefill)(**settings)


def simulate(scenario: Scenario, requests: Requests, stop_s: float = inf) -> Result:
    """Simulate until every request has ended, or until ``stop_s``.

    Requests that cannot ever fit (longer than ``max_model_len``, or than the KV cache) are rejected
    when they arrive. Those unfinished at ``stop_s`` are in the result, with status 0.
    """
    cluster = _Cluster(scenario, requests, stop_s)
    cluster.clock.run_through(stop_s)
    return cluster.result()


class _Cluster:
    """Replicas, and how requests come to them.

    Where the router looks at nothing (or there is one replica only) and arrivals are known, every
    replica is dealt its own beforehand, and lives by itself. Otherwise each request is sent when
    its time has come.
    """

    def __init__(self, scenario: Scenario, requests: Requests, stop_s: float) -> None:
        self.clock = Clock()
        self.scenario = scenario
        self.requests = requests
        self.stop_s = stop_s
        count, router = scenario.cluster.replicas, scenario.cluster.router
        self.recorder = Recorder(requests, count, scenario.spec.sliding_window, scenario.api)
        self.schedulers = [make_scheduler(scenario, requests.prefixes) for _ in range(count)]
        fitting = self.schedulers[0].longest_request_tokens
        self.longest = min(scenario.max_model_len, fitting)  # prompt and output tokens together
        self.loads = [0] * count  # requests sent to each replica and not finished
        self.route = make_router(
            router,
            self.loads,
            lambda number: self.replicas[number].outstanding_tokens(),
            stream(scenario.seed, "router"),
        )
        closed = requests.users is not None
        self.client = self._client(closed)
        dealt = not closed and self.client is None and (count == 1 or router in BLIND)
        arrivals = self._deal(count) if dealt else [iter(())] * count
        on_finish = self.recorder.finished if dealt else self._finished
        self.replicas = [
            Replica(
                number, self.clock, self.schedulers[number], scenario.price,
                self.recorder.replicas[number], on_finish, arrivals[number],
            )
            for number in range(count)
        ]  # fmt: skip
        self.loop = ClosedLoop(self.clock, requests, self._ask) if closed else None
        if self.client is not None:
            self.client.loop = self.loop
        if self.loop is not None:
            self.loop.start()
        elif not dealt:
            self.clock.process(open_arrivals(self.clock, self._in_order(), self._ask))

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
        requests, rows = self.requests, np.arange(len(self.requests))
        if self.client is not None:
            return sequences(requests, rows, requests.arrival_s)
        reached_s = self.scenario.api.reached_s(requests.arrival_s, requests.prompt_tokens)
        return sequences(requests, np.argsort(reached_s, kind="stable"), reached_s)

    def result(self) -> Result:
        """What happened until now."""
        stop_s, requests = self.stop_s, self.requests
        for replica in self.replicas:
            replica.halt(stop_s)
        if self.client is not None:
            self.client.stop()
        for number, scheduler in enumerate(self.schedulers):
            dropped = self.replicas[number].aborted
            unfinished = [each for each in scheduler.unfinished() if each not in dropped]
            if unfinished and stop_s == inf:
                raise RuntimeError(
                    f"{len(unfinished)} requests never finished: a scheduler is stuck"
                )
            for sequence in unfinished:
                self.recorder.ended(sequence, number, UNFINISHED, -1.0)
        pools = [scheduler.pool for scheduler in self.schedulers]
        end_s = self.clock.now
        if requests.users is None and len(requests):
            end_s = max(end_s, float(requests.arrival_s[-1]))
        return self.recorder.result(
            [(pool.allocated, pool.freed, pool.held) for pool in pools],
            pools[0].num_blocks,
            end_s,
            stop_s,
        )

    def _deal(self, count: int) -> list[Iterator[Sequence]]:
        """Route all arrivals until ``stop_s`` beforehand; reject those that can never fit."""
        requests = self.requests
        reached_s = self.scenario.api.reached_s(requests.arrival_s, requests.prompt_tokens)
        order = np.arange(len(requests))
        if self.scenario.api:
            order = np.argsort(reached_s, kind="stable")
        arrived = int(np.searchsorted(reached_s, self.stop_s, side="right", sorter=order))
        order = order[:arrived]
        tokens = requests.prompt_tokens[order] + requests.output_tokens[order]
        fit = tokens <= self.longest
        for sequence in sequences(requests, order[~fit], reached_s):
            self.recorder.ended(sequence, -1, REJECTED, -1.0)
        rows = order[fit]
        if count == 1:
            return [sequences(requests, rows, reached_s)]
        replica = np.fromiter((self.route() for _ in rows), dtype=np.int64, count=len(rows))
        return [sequences(requests, rows[replica == number], reached_s) for number in range(count)]

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
            self.recorder.ended(sequence, -1, REJECTED, -1.0)
            if self.client is not None:
                self.client.rejected(sequence, sequence.arrival_s)
            elif self.loop is not None:
                self.loop.start_thinking(sequence.arrival_s)
            return -1
        number = self.route()
        self.loads[number] += 1
        self.replicas[number].submit(sequence)
        return number

    def _hang_up(self, sequence: Sequence, number: int) -> None:
        """A client no longer wants what a replica has, now."""
        self.loads[number] -= 1
        self.replicas[number].abort(sequence)

    def _finished(self, finished: list[Sequence], number: int, now_s: float) -> None:
        client, loop = self.client, self.loop
        if client is not None:
            finished = client.wanted(finished)
        self.loads[number] -= len(finished)
        if client is not None:
            finished = client.ended(finished, now_s)
        self.recorder.finished(finished, number, now_s)
        if client is None and loop is not None:
            self.clock.turn = number
            for _ in finished:
                loop.start_thinking(now_s, at_once=True)
            self.clock.turn = -1
