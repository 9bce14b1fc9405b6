"""The reference simulator of a store that replicas share: texts written out, every transfer looked
at each time.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf

from sim.settings.pools import Pool
from tests.reference_host import Kept
from tests.reference_sequence import Seq


@dataclass(eq=False)
class Held:
    """A chunk in the store."""

    writer: "User"
    written: bool = False
    readers: int = 0


@dataclass(eq=False)
class Job:
    """Chunks on their way."""

    number: int
    engine: "User"
    way: str
    seq: Seq
    texts: list[tuple]
    sent_s: float
    pinned: list[Kept] = field(default_factory=list)
    begun_s: float = inf
    moves: bool = False
    left: float = 1.0
    whole_s: float = inf
    since_s: float = 0.0
    due_s: float = inf


class Store:
    """What is there, in order of use, and what moves."""

    def __init__(self, room: int, latency_s: float) -> None:
        self.room, self.latency_s = room, latency_s
        self.chunks: OrderedDict[tuple, Held] = OrderedDict()
        self.active: list[Job] = []
        self.sent = 0

    def send(self, engine, way: str, seq: Seq, texts: list, now_s: float, pinned=()) -> None:
        self.sent += 1
        line = engine.lines[way]
        line.append(Job(self.sent, engine, way, seq, texts, now_s, list(pinned)))
        if len(line) == 1:
            self.begin(engine, way, now_s)

    def begin(self, engine: "User", way: str, now_s: float) -> None:
        line = engine.lines[way]
        while line:
            job = line[0]
            if way == "read" or self.takes_room(job):
                job.begun_s, job.due_s = now_s, now_s + self.latency_s
                self.active.append(job)
                return
            line.pop(0)
            engine.ended(job)

    def takes_room(self, job: Job) -> bool:
        wanted = [text for text in job.texts if text not in self.chunks]
        self.use(job.texts)
        own = {*job.texts}
        idle = [
            text
            for text, held in self.chunks.items()
            if held.written and not held.readers and text not in own
        ]
        lacking = max(0, len(wanted) - (self.room - len(self.chunks)))
        job.texts = wanted
        if lacking > len(idle):
            job.engine.refused += len(wanted)
            return False
        for text in idle[:lacking]:
            self.chunks.pop(text).writer.evicted += 1
        for text in wanted:
            self.chunks[text] = Held(job.engine)
        job.engine.wrote += len(wanted)
        return bool(wanted)

    def use(self, texts: list[tuple]) -> None:
        for text in reversed(texts):
            if text in self.chunks:
                self.chunks.move_to_end(text)

    def go_on(self, now_s: float) -> None:
        while due := [job for job in self.active if job.due_s <= now_s]:
            over = [job for job in due if job.moves]
            self.active = [job for job in self.active if job not in over]
            for job in due:
                job.moves = True
            self.share(now_s)
            for job in sorted(over, key=lambda each: each.number):
                self.end(job, now_s)

    def share(self, now_s: float) -> None:
        for job in self.active:
            if not job.moves:
                continue
            others = sum(other.moves and other.way == job.way for other in self.active)
            engine, count = job.engine, len(job.texts)
            whole_s = max(count * engine.link_s, count * engine.store_s * others)
            if whole_s != job.whole_s:
                if job.whole_s < inf:
                    job.left -= (now_s - job.since_s) / job.whole_s
                job.since_s, job.whole_s = now_s, whole_s
                job.due_s = now_s + job.left * whole_s

    def end(self, job: Job, now_s: float) -> None:
        engine = job.engine
        for text in job.texts:
            self.chunks[text].written = True
            self.chunks[text].readers -= job.way == "read"
        self.use(job.texts)
        engine.moved_s[job.way] += now_s - job.begun_s
        engine.lines[job.way].pop(0)
        engine.ended(job)
        self.begin(engine, job.way, now_s)


class User:
    """One replica that shares a store."""

    store: Store

    def uses_store(self, pool: Pool) -> None:
        shared = pool.store
        assert shared is not None
        self.link_s, self.store_s = shared.link_s, shared.store_s
        self.lines: dict[str, list[Job]] = {"read": [], "write": []}
        self.moved_s = {"read": 0.0, "write": 0.0}
        self.wrote = self.read = self.evicted = self.refused = 0
