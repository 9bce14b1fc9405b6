"""Users, client, router and engines, one event after the other."""

from math import inf

from sim.settings.scenario import Scenario
from tests import reference_routers
from tests.reference_engines import engine_of, store_of
from tests.reference_ranks import (
    begin_together,
    end_together,
    route_to_ranks,
    units_of,
)
from tests.reference_sequence import Seq
from workloads.requests import Requests

GIVE_UP, SEEN, REACH, ARRIVE = range(4)  # at one instant in this order, and then ends of steps


class World:
    """Users, client, router and engines, one event after the other."""

    def __init__(self, scenario: Scenario, requests: Requests) -> None:
        self.scenario, self.requests = scenario, requests
        self.engines = [
            engine_of(pool, scenario, requests)
            for pool in scenario.pools
            for _ in range(pool.replicas)
        ]
        self.units = units_of(scenario, self.engines)
        self.store = store_of(scenario, self.engines)
        self.outstanding: list[list[Seq]] = [[] for _ in self.engines]
        self.seen = reference_routers.World(scenario, requests, self.outstanding, self.engines)
        self.route, self.sent = reference_routers.reference_router(self.seen)
        if any(pool.data_parallel_size > 1 for pool in scenario.pools):
            self.route = route_to_ranks(scenario, self.outstanding, self.engines)
        self.limit = scenario.client.max_concurrency or inf
        self.timeout_s = scenario.client.timeout_s or inf
        self.events: list[tuple] = []
        self.counter = 0
        self.queue: list[Seq] = []
        self.in_flight = 0
        # Who begins something, in order; behind each, what its user says afterwards.
        self.openings: list[Seq] = []
        self.following: dict[Seq, list[Seq]] = {}
        self.unanswered: dict[Seq, list[Seq]] = {}
        self.under_way: dict[int, list[Seq]] = {}
        self.seqs = [
            Seq(i, 0.0, int(requests.prompt_tokens[i]), int(requests.output_tokens[i]),
                int(requests.priority[i]), target=int(requests.prompt_tokens[i]))
            for i in range(len(requests))
        ]  # fmt: skip
        for seq in self.seqs:
            seq.text = text_of(requests, seq)
            if requests.turn is None or requests.turn[seq.row] == 0:
                self.openings.append(seq)
            else:
                self.unanswered[seq] = [self.seqs[row] for row in rows_before(requests, seq.row)]
                for before in self.unanswered[seq]:
                    self.following.setdefault(before, []).append(seq)
        if requests.users is not None:
            for _ in range(min(requests.users, len(self.openings))):
                self.think(self.openings.pop(0), 0.0, False)
        else:
            self.come_next(0.0)

    def come_next(self, now_s: float) -> None:
        """Wait for the next open arrival; those of the same moment are asked together."""
        if self.openings:
            first_s = float(self.requests.arrival_s[self.openings[0].row])
            self.at(first_s, ARRIVE, self.come, self.openings[0])

    def come(self, _: Seq, now_s: float) -> None:
        while self.openings and self.requests.arrival_s[self.openings[0].row] == now_s:
            self.ask(self.openings.pop(0), now_s)
        self.come_next(now_s)

    def at(self, time_s: float, rank: int, action, seq: Seq) -> None:
        self.counter += 1
        self.events.append((time_s, rank, self.counter, action, seq))

    def think(self, seq: Seq, now_s: float, at_once: bool) -> None:
        then_s = now_s + float(self.requests.think_s[seq.row])
        if at_once and then_s == now_s:
            self.ask(seq, then_s)
        else:
            self.at(then_s, ARRIVE, self.ask, seq)

    def ask(self, seq: Seq, now_s: float) -> None:
        seq.asked_s = now_s
        if self.in_flight < self.limit:
            self.send(seq, now_s)
        else:
            self.queue.append(seq)

    def send(self, seq: Seq, now_s: float) -> None:
        self.in_flight += 1
        seq.sent_s = now_s
        if self.timeout_s < inf:
            self.at(now_s + self.timeout_s, GIVE_UP, self.give_up, seq)
        api = self.scenario.api
        seq.arrival_s = now_s + (api.request_s + api.token_s * seq.prompt)
        if seq.arrival_s == now_s:
            self.reach(seq, now_s)
        else:
            self.at(seq.arrival_s, REACH, self.reach, seq)

    def reach(self, seq: Seq, now_s: float) -> None:
        if seq.status:
            return
        some = any(engine.takes(seq) for engine in self.engines)
        home = self.route(seq, now_s) if some else -1
        if home < 0 or not self.engines[home].takes(seq):
            seq.status = "rejected"
            self.free(seq, now_s, False)
            return
        seq.home = home
        self.sent(seq, home, now_s)
        seq.claimed, seq.metrics_age_s = self.seen.claimed, self.seen.age_s
        self.outstanding[seq.home].append(seq)
        self.engines[seq.home].arrive(seq)

    def ended(self, seqs: list[Seq], now_s: float) -> None:
        seqs = [seq for seq in seqs if not seq.status]
        output_s = self.scenario.api.output_s
        if not output_s:
            for seq in seqs:
                self.outstanding[seq.home].remove(seq)
        for seq in seqs:
            seq.through = True
            if now_s + output_s >= seq.sent_s + self.timeout_s:
                continue  # complete, and too late
            seq.status = "answered"
            if not output_s:
                self.free(seq, now_s, True)
        answered = [seq for seq in seqs if seq.status]
        if output_s and answered:
            self.at(now_s + output_s, SEEN, lambda _, then_s: self.see(answered, then_s), answered)

    def see(self, seqs: list[Seq], now_s: float) -> None:
        """The last tokens of one step are sent: for the router these are gone."""
        for seq in seqs:
            self.outstanding[seq.home].remove(seq)
        for seq in seqs:
            self.free(seq, now_s, True)

    def give_up(self, seq: Seq, now_s: float) -> None:
        if seq.status:
            return
        seq.status, seq.given_up_s = "given up", now_s
        if seq.home >= 0 and seq in self.outstanding[seq.home]:
            self.outstanding[seq.home].remove(seq)
            if not seq.through:
                self.hang_up(seq, now_s)
        self.free(seq, now_s, True)

    def hang_up(self, seq: Seq, now_s: float) -> None:
        self.engines[seq.home].no_longer_wants(seq)

    def free(self, seq: Seq, now_s: float, at_once: bool) -> None:
        self.in_flight -= 1
        while self.queue and self.in_flight < self.limit:
            self.send(self.queue.pop(0), now_s)
        ready = []
        if seq.status == "answered":
            for after in self.following.get(seq, []):
                self.unanswered[after].remove(seq)
                if not self.unanswered[after]:
                    ready.append(after)
        session = seq.row if self.requests.session is None else self.requests.session[seq.row]
        others = self.under_way.setdefault(session, [seq])
        others.remove(seq)
        others.extend(ready)
        nobody_is_left = not others
        for after in ready:
            self.think(after, now_s, at_once)
        if nobody_is_left and self.requests.users is not None and self.openings:
            self.think(self.openings.pop(0), now_s, at_once)

    def run(self, stop_s: float) -> None:
        while True:
            times = [engine.step["end_s"] for engine in self.engines if engine.step]
            times += [engine.deadline_s for engine in self.engines if not engine.step]
            times += self.more_times()
            if self.events:
                times.append(min(self.events)[0])
            now_s = min(times, default=inf)
            if now_s == inf or now_s > stop_s:
                return
            while self.something_happens(now_s):
                pass

    def more_times(self) -> list[float]:
        """When something else may happen."""
        return [job.due_s for job in self.store.active] if self.store else []

    def happens_first(self, now_s: float) -> None:
        """What comes before all other events of an instant."""
        if self.store:
            self.store.go_on(now_s)

    def something_happens(self, now_s: float) -> bool:
        """All events of this instant, then the first engine that ends or begins a step."""
        self.happens_first(now_s)
        while self.events and min(self.events)[0] == now_s:
            event = min(self.events)
            self.events.remove(event)
            event[3](event[4], now_s)
            self.happens_first(now_s)
        for unit in self.units:
            if unit[0].step and unit[0].step["end_s"] == now_s:
                for ended in end_together(unit):
                    self.ended(ended, now_s)
                begin_together(unit, now_s, False)
                return True
            if not unit[0].step:
                begin_together(unit, now_s, True)
                if unit[0].step:
                    return True
        return False


def rows_before(requests: Requests, row: int) -> list[int]:
    """The rows whose answers a row waits for."""
    if requests.after is None:
        return [row - 1]
    first, last = requests.after.offsets[row : row + 2]
    return requests.after.rows[first:last].tolist()


def text_of(requests: Requests, seq: Seq) -> list[tuple]:
    """What every token of a request is: of a stream that others may have, or its own."""
    text: list[tuple] = []
    if requests.prefixes is not None:
        offsets, streams, ends = (
            values.tolist()
            for values in (
                requests.prefixes.offsets, requests.prefixes.streams, requests.prefixes.ends
            )
        )  # fmt: skip
        for place in range(offsets[seq.row], offsets[seq.row + 1]):
            text += [(streams[place], at) for at in range(len(text), ends[place])]
    own = range(len(text), seq.prompt + seq.output)
    return text + [("own", seq.row, at) for at in own]
