"""The replicas of a scenario, and how requests come to them."""

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from functools import lru_cache
from math import inf

import numpy as np
import numpy.typing as npt

from model.counts import count_of
from model.same import Same
from sim.acceptance import Synthetic
from sim.api_server import all_reached_s, own_loops, shared_loops
from sim.caches import make_store
from sim.clock import Clock, without_collector
from sim.dealing import deal
from sim.disaggregation import Disaggregated, Route
from sim.engine.agenda import ARRIVAL, STEP_END, Agenda
from sim.engine.any_replica import AnyReplica
from sim.engine.arrivals import Arrivals, Coming
from sim.engine.drafts.drafting import Acceptance
from sim.engine.loop import Loop, OnFinish
from sim.engine.machine import Machine
from sim.engine.rank import ranks_of
from sim.engine.replica import Replica
from sim.engine.scheduler import Scheduler
from sim.machines import calm_s, priced_machine
from sim.pipelined import pipelined
from sim.ranks import lockstep, router_of, show
from sim.recording.run import BlockCount, Part, Recorder
from sim.recording.store_use import store_count
from sim.recording.tape import Scratch
from sim.recording.tiers import have_tiers, tier_count
from sim.routers.prompts import prompts_of
from sim.routers.registry import make_router
from sim.routers.router import ReplicaFacts, Router
from sim.schedulers import facts_of, make_scheduler
from sim.settings.cluster_config import NO_CLIENT
from sim.settings.pools import PREFILL, Pool
from sim.settings.scenario import ApiTime, Scenario
from sim.source import first_rows, sequences, users_of
from sim.traffic.client import Client
from sim.traffic.dispatch import Dispatch
from sim.traffic.inbox import Inbox
from sim.traffic.sending import Sending
from workloads.requests import Requests
from workloads.streams import stream

KEPT_REQUESTS = 1 << 16
"""Of a longer workload it is worked out anew when requests reach the router."""
MachineOf = Callable[[Scheduler], Machine]
"""What computes the batches of a scheduler."""


class Cluster:
    """Some replicas of a scenario, or all, that serve a workload until ``stop_s``.

    Where the router looks at nothing (or there is one replica only) and arrivals are known, every
    replica is dealt its own beforehand, and lives by itself. Otherwise each request is sent when
    its time has come. Steps take as long as they cost, or as long as another ``machine`` takes.
    """

    def __init__(
        self,
        scenario: Scenario,
        requests: Requests,
        numbers: SequenceOf[int],
        stop_s: float,
        scratch: Scratch | None,
        machine: MachineOf | None = None,
        acceptance: Acceptance | None = None,
    ) -> None:
        self.machine = machine
        self.clock = Clock()
        self.scenario = scenario
        self.requests = requests
        self.stop_s = stop_s
        self.pools = [pool for pool in scenario.pools for _ in range(pool.replicas)]
        drafting = any(pool.drafts for pool in scenario.pools)
        self.recorder = Recorder(
            requests, scenario.replicas, scenario.spec.reaches, scenario.api, scratch, drafting,
            [n for n, pool in enumerate(self.pools) if pool.pipeline],
        )  # fmt: skip
        if have_tiers(scenario.pools):
            self.recorder.begin_tiers()
        facts = [each for pool in scenario.pools for each in [facts_of(pool)] * pool.replicas]
        right = {id(pool): acceptance or self._acceptance(pool) for pool in scenario.pools}
        self.store = make_store(scenario.pools)
        self.schedulers = {
            number: make_scheduler(
                self.pools[number], requests.prefixes, right[id(self.pools[number])],
                None if self.store is None else (self.store, number),
            )
            for number in numbers
        }  # fmt: skip
        self.dealt = scenario.routing(not requests.waits).dealt
        waits = machine is None and len(self.recorder.outboxes) > 0
        self._calm_s = {id(pool): calm_s(pool) for pool in scenario.pools if waits}
        self.replicas: dict[int, AnyReplica] = {}
        self.dispatch = self._dispatch(facts)
        self._dealt_to = self._deal() if self.dealt else _nobody
        for number in numbers:
            if number not in self.replicas:
                self.replicas |= self._replicas(number)
        if self.store is not None:
            from sim.engine.tiers.remote_store import StoreClock

            StoreClock(self.clock.agenda, self.store)
            for number, user in self.store.users.items():
                user.replica = self.replicas[number]
        self._show()
        self._connect()

    def _acceptance(self, pool: Pool) -> Acceptance | None:
        """Which drafts are right in a pool; None: it makes none."""
        if pool.drafts is None:
            return None
        return Synthetic(pool.drafts.speculative, self.requests, self.scenario.seed)

    def run(self) -> None:
        """Let everything happen that happens until ``stop_s``."""
        if not self.dealt:
            self.clock.run_through(self.stop_s)
            return
        with without_collector():
            for replica in self.replicas.values():
                assert isinstance(replica, Replica)
                replica.loop.go_on(0.0, self.stop_s)

    def part(self) -> Part:
        """What happened until now."""
        for replica in self.replicas.values():
            replica.halt(self.stop_s)
        if self.dispatch.client is not None:
            self.dispatch.client.stop()
        self.dispatch.stop()
        blocks = {}
        for number, scheduler in self.schedulers.items():
            dropped = self.replicas[number].aborted
            unfinished = [each for each in scheduler.unfinished() if each not in dropped]
            if unfinished and self.stop_s == inf:
                raise RuntimeError(
                    f"{count_of(len(unfinished), 'request')} never finished: a scheduler is stuck"
                )
            for sequence in () if self.pools[number].role == PREFILL else unfinished:
                self.recorder.outcomes.unfinished(sequence, number)
            pool = scheduler.pool
            tier, store = tier_count(scheduler), store_count(scheduler, self.pools[number])
            blocks[number] = BlockCount(pool.num_blocks, pool.held, tier, store)
        alone_s = [replica.reached_s() for replica in self.replicas.values() if self.dealt]
        end_s = max(alone_s, default=self.clock.now)
        return self.recorder.part(blocks, end_s)

    def _dispatch(self, facts: list[ReplicaFacts]) -> Dispatch:
        scenario = self.scenario
        if not scenario.has_roles:
            router = router_of(scenario, tuple(facts), prompts_of(self.requests))
            if router.claims:
                self.recorder.claims()
            self._router = router
            longest = router.view.longest_request_tokens
            recorder, api = self.recorder, scenario.api
            return Dispatch(
                self.clock.agenda, router, longest, recorder.outcomes, self.replicas,
                Sending(recorder.outboxes, api.output_s, recorder.replicas),
            )  # fmt: skip
        dispatch = Disaggregated(
            self.clock, self._route("router", scenario.answering, facts),
            self._route("prefill router", scenario.prefilling, facts),
            self.recorder, self.replicas, self.pools, scenario.kv_transfer, scenario.api,
        )  # fmt: skip
        for number, scheduler in self.schedulers.items():
            if (connector := dispatch.connector(number)) is not None:
                scheduler.connect(connector)
        return dispatch

    def _route(self, name: str, numbers: list[int], facts: list[ReplicaFacts]) -> Route:
        scenario, own = self.scenario, [facts[number] for number in numbers]
        kind = scenario.router if name == "router" else scenario.prefill_router or scenario.router
        return Route(self._make_router(kind, name, own), numbers)

    def _show(self) -> None:
        """Let routers see their replicas, all of which are there."""
        if isinstance(self.dispatch, Disaggregated):
            self.dispatch.show()
        else:
            show(self._router, self.replicas)

    def _make_router(self, kind: str, name: str, facts: list[ReplicaFacts]) -> Router:
        """Make a router; ``name`` is that of its random numbers."""
        scenario = self.scenario
        settings = scenario.router_settings if kind == scenario.router else {}
        router = make_router(kind, tuple(facts), stream(scenario.seed, name), settings)
        router.view.prompts = prompts_of(self.requests)
        return router

    def _replicas(self, number: int) -> dict[int, AnyReplica]:
        """One replica, or all ranks that compute their steps with it."""
        pool, machine = self.pools[number], self.machine
        if pool.pipeline is not None:
            if machine is not None:
                raise ValueError("pipeline stages are priced, and computed by no machine")
            return {number: self._pipelined(number)}
        if pool.ranks.count == 1:
            return {number: self._replica(number)}
        if machine is not None:
            raise ValueError("ranks that work together are priced, and computed by no machine")
        numbers, agenda = range(number, number + pool.ranks.count), self.clock.agenda
        loops = [self._loop(each, priced_machine(pool), 0.0) for each in numbers]
        # At one instant, replicas go by their numbers.
        ranks = ranks_of(lockstep(pool, loops, agenda), STEP_END + number)
        return dict(zip(numbers, ranks, strict=True))

    def _pipelined(self, number: int) -> AnyReplica:
        scheduler, journal = self.schedulers[number], self.recorder.replicas[number]
        return pipelined(
            number, self.pools[number], self.clock.agenda, scheduler, journal,
            self.dispatch.finished,
        )  # fmt: skip

    def _replica(self, number: int) -> Replica:
        of, pool = self.machine, self.pools[number]
        if of is None:
            loop = self._loop(number, priced_machine(pool), pool.price.idle_start_s)
        else:
            loop = self._loop(number, of(self.schedulers[number]), 0.0)
        if self._calm_s:
            self.recorder.outboxes[number].calm_s = self._calm_s[id(pool)]
        replica = Replica(loop, STEP_END + number)
        if not self.dealt:
            replica.start()
        return replica

    def _loop(self, number: int, machine: Machine, idle_start_s: float) -> Loop:
        """The loop of a replica, on the common clock unless all its requests are known."""
        on_finish: OnFinish = self.dispatch.finished
        agenda = self.clock.agenda
        if self.dealt:
            on_finish, agenda = self.recorder.outcomes.finished, Agenda([])
        return Loop(
            number, self.schedulers[number], machine, idle_start_s,
            self.recorder.replicas[number], self._dealt_to(number), agenda, on_finish,
        )  # fmt: skip

    def _connect(self) -> None:
        """Let requests come, from users or as they arrive; past a client if it has work to do."""
        scenario, dispatch, requests = self.scenario, self.dispatch, self.requests
        agenda = self.clock.agenda
        waits = bool(requests.waits and scenario.api)
        if scenario.client != NO_CLIENT or waits or scenario.api.shared:
            dispatch.client = self.recorder.client = self._client()
        if requests.waits:
            dispatch.users = users_of(agenda, requests, dispatch.ask)
            if dispatch.client is not None:
                dispatch.client.users = dispatch.users
            dispatch.users.start()
        if requests.users is None and not self.dealt:
            Arrivals(agenda, ARRIVAL, self._in_order(), dispatch.ask).start()

    def _client(self) -> Client:
        config, api, dispatch = self.scenario.client, self.scenario.api, self.dispatch
        agenda, recorder = self.clock.agenda, self.recorder
        reads: Inbox = own_loops(api, self.scenario.replicas)
        if api.shared:
            reads = shared_loops(api, agenda, recorder.shared_outboxes, self.replicas)
        return Client(
            agenda, len(self.requests), config.max_concurrency or len(self.requests),
            config.timeout_s or inf, reads, recorder.outcomes, dispatch.arrives,
            dispatch.given_up, dispatch.turned_away,
        )  # fmt: skip

    def _in_order(self) -> Coming:
        """Open arrivals, of sessions their first turns: at the client, or else at the router."""
        if self.dispatch.client is not None or self.requests.waits:
            return sequences(self.requests, self.requests.arrival_s, first_rows(self.requests))
        return sequences(self.requests, *self._reached())

    def _reached(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
        """When each request of an open workload is at the router, and in which order they come.

        None is the order of their rows, so that without an API nothing is held twice.
        """
        requests, api = self.requests, self.scenario.api
        if not api:
            return requests.arrival_s, None
        at_once = _at_once if len(requests) <= KEPT_REQUESTS else _at_once.__wrapped__
        reached_s, order = at_once(api, self.scenario.replicas, Same(requests))
        self.recorder.reached_s = reached_s
        return reached_s, order

    def _deal(self) -> Callable[[int], Coming]:
        """Send everybody beforehand; return what gives a replica its own."""
        requests = self.requests
        reached_s, order = self._reached()
        owner, refused = deal(requests, reached_s, order, self.stop_s, self._router)
        self.recorder.rejected(refused)
        return lambda number: sequences(requests, reached_s, order, owner, number)


@lru_cache(maxsize=1)
def _at_once(
    api: ApiTime, replicas: int, requests: Same[Requests]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """When open arrivals reach the router, and their order: neighbouring points share them."""
    of = requests.value
    reached_s = all_reached_s(api, replicas, of.arrival_s, of.prompt_tokens)
    reached_s.setflags(write=False)
    return reached_s, np.argsort(reached_s, kind="stable")


def _nobody(_: int) -> Coming:
    return Coming(iter(()))
