"""The reference simulator of pools with roles: every transfer is looked at each time.

It shares with ``sim`` only the numbers of a link (``sim.settings.kv_transfer.link_of``).
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from sim.settings.kv_transfer import Link, link_of
from sim.settings.scenario import Scenario
from tests import reference_routers
from tests.reference_sequence import Seq
from tests.reference_world import SEEN, World
from workloads.requests import Requests

POSTED = -1  # of the ranks of events, the first


@dataclass(eq=False)
class Journey:
    """What happened to one request that two replicas serve."""

    seq: Seq
    prompt: Seq
    source: int
    sink: int
    prefilled_s: float = np.nan
    handed_s: float = np.nan
    blocks_s: float = np.nan
    loaded_s: float = np.nan
    kept_blocks: int = 0
    transferred_tokens: int = 0
    transferred_bytes: int = 0
    link: Link | None = None
    blocks: int = 0
    moved: float = 0.0  # of its way, when its transfer is over

    @property
    def way(self) -> tuple[int, int]:
        return self.source, self.sink


@dataclass
class Way:
    """What each of the transfers between two replicas has moved since the first of them began."""

    moved: float = 0.0  # blocks, at since_s
    block_s: float = inf
    since_s: float = 0.0


class Handovers(World):
    """A world in which some engines compute prompts for others."""

    def __init__(self, scenario: Scenario, requests: Requests) -> None:
        roles = [pool.role for pool in scenario.pools for _ in range(pool.replicas)]
        self.roles = roles
        self.pools = [pool for pool in scenario.pools for _ in range(pool.replicas)]
        self.answering = [n for n, role in enumerate(roles) if role != "prefill"]
        self.prefilling = [n for n, role in enumerate(roles) if role == "prefill"]
        self.journeys: dict[Seq, Journey] = {}
        self.of_prompt: dict[Seq, Journey] = {}
        self.on_links: list[Journey] = []  # in the order in which they began
        self.ways: dict[tuple[int, int], Way] = {}
        self.numbers: dict[Journey, int] = {}
        super().__init__(scenario, requests)
        self.at_source: list[list[Seq]] = [[] for _ in self.engines]
        self.route = self.router("router", self.answering, self.outstanding)
        self.route_prompt = self.router("prefill router", self.prefilling, self.at_source)
        for engine in self.engines:
            engine.load, engine.drop_unloaded = self.load, self.drop_unloaded

    def router(self, purpose: str, numbers: list[int], outstanding: list[list[Seq]]):
        world = reference_routers.World(
            self.scenario, self.requests, [outstanding[n] for n in numbers],
            [self.engines[n] for n in numbers], purpose,
        )  # fmt: skip
        choose, sent = reference_routers.reference_router(world)

        def route(seq: Seq, now_s: float) -> int:
            place = choose(seq, now_s)
            if self.takes(numbers[place], seq, purpose):
                sent(seq, place, now_s)
            return numbers[place]

        return route

    def takes(self, number: int, seq: Seq, purpose: str) -> bool:
        """Whether one that is sent there is not too long for it."""
        if purpose == "router":
            return self.engines[number].takes(seq)
        return self.engines[number].takes(Seq(seq.row, 0.0, seq.prompt, 1, seq.priority))

    def reach(self, seq: Seq, now_s: float) -> None:
        if seq.status:
            return
        takers = [n for n in self.answering if self.engines[n].takes(seq)]
        sink = self.route(seq, now_s) if takers else -1
        if sink not in takers:
            seq.status = "rejected"
            self.free(seq, now_s, False)
            return
        seq.home = sink
        engine = self.engines[sink]
        self.outstanding[sink].append(seq)
        least = self.scenario.kv_transfer.non_cached_tokens or 0
        far = self.roles[sink] == "decode"
        if far and least:
            far = seq.prompt - engine.cached_tokens(seq) >= least
        source = self.route_prompt(seq, now_s) if far else -1
        tokens = seq.prompt - self.engines[sink].left_out(seq)
        prompt = Seq(seq.row, seq.arrival_s, tokens, 1, seq.priority, seq.text, 0, tokens)
        if source < 0 or not self.engines[source].takes(prompt):
            engine.arrive(seq)
            return
        prompt.lent = True
        self.at_source[source].append(prompt)
        journey = Journey(seq, prompt, source, sink)
        self.journeys[seq] = self.of_prompt[prompt] = journey
        self.engines[source].arrive(prompt)

    def ended(self, seqs: list[Seq], now_s: float) -> None:
        for seq in seqs:
            if seq in self.of_prompt and seq.lent:
                self.prefilled(self.of_prompt[seq], now_s)
        super().ended([seq for seq in seqs if seq not in self.of_prompt], now_s)

    def prefilled(self, journey: Journey, now_s: float) -> None:
        journey.prefilled_s = now_s
        prompt = journey.prompt
        journey.kept_blocks = self.engines[journey.source].blocks_of(0, prompt.kv)
        journey.prompt.through = True
        api, prompt = self.scenario.api, journey.seq.prompt
        if api.output_s:
            self.at(now_s + api.output_s, SEEN, self.prompt_answered, journey.seq)
        else:
            self.prompt_answered(journey.seq, now_s)
        handed_s = now_s + api.output_s + (api.request_s + api.token_s * prompt)
        if handed_s == now_s:
            self.handed(journey.seq, now_s)
        else:
            self.at(handed_s, 2, self.handed, journey.seq)

    def prompt_answered(self, seq: Seq, now_s: float) -> None:
        journey = self.journeys[seq]
        self.at_source[journey.source].remove(journey.prompt)

    def handed(self, seq: Seq, now_s: float) -> None:
        journey = self.journeys[seq]
        if seq.status:
            return
        self.as_at_source(journey)
        seq.arrival_s = journey.handed_s = now_s
        seq.remote = True
        self.engines[journey.sink].arrive(seq)

    def as_at_source(self, journey: Journey) -> None:
        seq, prompt = journey.seq, journey.prompt
        seq.first_scheduled_s, seq.computed_s = prompt.first_scheduled_s, prompt.computed_s
        seq.preemptions, seq.cached = prompt.preemptions, prompt.cached

    def hang_up(self, seq: Seq, now_s: float) -> None:
        journey = self.journeys.get(seq)
        if journey is None or journey.handed_s >= 0:
            super().hang_up(seq, now_s)
            return
        self.as_at_source(journey)
        if journey.prefilled_s >= 0:  # on its way: the blocks stay until the lease ends
            over_s = max(journey.prefilled_s + self.scenario.kv_transfer.kv_lease_duration, now_s)
            self.at(over_s, POSTED, self.lease_ends, seq)
        else:
            journey.prompt.lent = False
            journey.prompt.status = "given up"
            self.at_source[journey.source].remove(journey.prompt)
            self.engines[journey.source].no_longer_wants(journey.prompt)

    def lease_ends(self, seq: Seq, now_s: float) -> None:
        journey = self.journeys[seq]
        self.engines[journey.source].told.append(journey.prompt)

    def drop_unloaded(self, seq: Seq) -> None:
        seq.remote = False
        self.lease_ends(seq, 0.0)
        self.again = True

    again = False

    def something_happens(self, now_s: float) -> bool:
        """A source that had its turn at this instant may be told of what a sink dropped."""
        happens = super().something_happens(now_s) or self.again
        self.again = False
        return happens

    def load(self, seq: Seq, past: int, now_s: float) -> None:
        journey = self.journeys[seq]
        seq.cached = journey.prompt.cached
        engine = self.engines[journey.sink]
        loaded = seq.prompt - engine.left_out(seq)
        journey.blocks = engine.blocks_of(past, loaded) - engine.states
        pools = self.pools[journey.source], self.pools[journey.sink]
        journey.link = link = link_of(self.scenario.kv_transfer, *pools)
        journey.blocks_s = now_s
        journey.transferred_tokens = loaded - past
        journey.transferred_bytes = link.bytes_of(journey.blocks)
        self.numbers[journey] = len(self.numbers)
        posted_s = now_s + link.posting_s(journey.blocks)
        self.at(posted_s, POSTED, self.posted, seq)

    def posted(self, seq: Seq, now_s: float) -> None:
        journey = self.journeys[seq]
        self.on_links.append(journey)
        self.share(now_s)
        journey.moved = self.ways[journey.way].moved + journey.link.size_of(journey.blocks)

    def share(self, now_s: float) -> None:
        """Everybody's pace follows from who else is on the links of the two replicas."""
        links = {journey.way: journey.link for journey in self.on_links}
        self.ways = {way: self.ways.get(way, Way()) for way in links}
        for (source, sink), link in links.items():
            senders = sum(other.source == source for other in self.on_links)
            readers = sum(other.sink == sink for other in self.on_links)
            assert link is not None
            block_s = max(link.source_s * senders, link.sink_s * readers)
            way = self.ways[source, sink]
            if block_s != way.block_s:
                if way.block_s < inf:
                    way.moved += (now_s - way.since_s) / way.block_s
                way.since_s, way.block_s = now_s, block_s

    def end_s(self, journey: Journey) -> float:
        way = self.ways[journey.way]
        return way.since_s + (journey.moved - way.moved) * way.block_s

    def more_times(self) -> list[float]:
        return [max(self.end_s(journey), self.now_s) for journey in self.on_links]

    now_s = 0.0

    def happens_first(self, now_s: float) -> None:
        """Transfers that are over, in the order in which they began."""
        self.now_s = now_s
        over = [journey for journey in self.on_links if self.end_s(journey) <= now_s]
        if not over:
            return
        self.on_links = [journey for journey in self.on_links if journey not in over]
        self.share(now_s)
        for journey in sorted(over, key=lambda each: self.numbers[each]):
            journey.loaded_s = now_s
            self.engines[journey.source].told.append(journey.prompt)
            self.engines[journey.sink].told.append(journey.seq)

    def run(self, stop_s: float) -> None:
        super().run(stop_s)
        for journey in self.journeys.values():
            if not journey.handed_s >= 0 and not journey.seq.status:
                self.as_at_source(journey)
