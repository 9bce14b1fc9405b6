"""A store of KV that replicas share: what one of them wrote there, any of them reads.

A replica's transfers follow one another in each direction, over its own link. A chunk is looked for
in the store when its turn to be written has come, and takes room then, if it is not there; it can
be found as soon as it is written. What is read or written stays; else the chunk that was used
longest ago makes room, and of one text the end before the beginning.
"""

from collections import deque
from math import inf

from sim.engine.agenda import TRANSFER, Agenda, Entry
from sim.engine.any_replica import AnyReplica
from sim.engine.sequence import Sequence
from sim.engine.tiers.chunk_list import PENDING
from sim.engine.tiers.eviction import Eviction
from sim.engine.tiers.store_links import READ, WRITE, StoreJob, StoreLinks


class StoreUser:
    """A replica's connector, as the store sees it; and what is counted of it.

    Args:
        number: of the replica.
        link_s: of a chunk on the replica's own link.
        store_s: of one on the store's, alone.
    """

    def __init__(self, number: int, link_s: float, store_s: float) -> None:
        self.number = number
        self.replica: AnyReplica | None = None
        """None: it comes by itself."""
        self.link_s, self.store_s = link_s, store_s
        self.lines: tuple[deque[StoreJob], deque[StoreJob]] = deque(), deque()
        """Transfers that have not ended, in order, by direction; the first is under way."""
        self.written = self.read = 0
        """Chunks."""
        self.evicted = 0
        """Of those that it wrote."""
        self.refused = 0
        """Chunks for which no room could be made."""
        self.moved_s = [0.0, 0.0]
        """Of its transfers, from their begin to their end, by direction."""
        self.waited_s = [0.0, 0.0]
        """The same from when they were sent on."""
        self.held_up_s = [0.0, 0.0]
        """What they took of that beyond their latency and the time on its own link, alone: they
        waited for one another, or for those of other replicas."""

    def is_over(self, job: StoreJob) -> None:
        """A transfer has ended, now."""
        raise NotImplementedError


class RemoteStore:
    """Chunks by key, and who moves them.

    Args:
        eviction: what keeps them in order, of as many as there is room for.
        links: of all replicas, and of the store.
    """

    def __init__(self, eviction: Eviction, links: StoreLinks) -> None:
        self.eviction = eviction
        self.links = links
        self.users: dict[int, StoreUser] = {}
        """By the numbers of their replicas."""
        self.clock: StoreClock | None = None
        """None: it goes on whenever a replica comes."""
        self.evictable = 0
        """Chunks that nobody reads or writes."""
        self.idle: dict[StoreUser, None] = {}
        """Who computes nothing, while somebody waits."""
        self._sent = 0
        self._offers = 0

    def find(self, keys: list[int], most: int) -> int:
        """Count those of the first ``most`` keys that can be read, up to the first that cannot."""
        chunks, count = self.eviction.chunks, 0
        while count < most:
            chunk = chunks.get(keys[count])
            if chunk is None or chunk.readers == PENDING:
                break
            count += 1
        return count

    def send(self, user: StoreUser, job: StoreJob) -> None:
        """A transfer waits for those before it, of its replica and in its direction."""
        self._sent += 1
        job.number = self._sent
        line = user.lines[job.way]
        line.append(job)
        if len(line) == 1:
            self._begin(user, job.way, job.sent_s)
            self._wait()

    def hold(self, key: int) -> None:
        """A chunk that was just found is going to be read."""
        chunk = self.eviction.chunks[key]
        self.evictable -= chunk.readers == 0
        chunk.readers += 1

    def release(self, key: int) -> None:
        """One that was held is not read."""
        chunk = self.eviction.chunks[key]
        chunk.readers -= 1
        self.evictable += chunk.readers == 0

    def read(self, user: StoreUser, sequence: Sequence, keys: list[int], now_s: float) -> None:
        """Chunks that are held are to be brought, from now on."""
        user.read += len(keys)
        self.send(user, StoreJob(user.number, READ, sequence, keys, now_s))

    def touch(self, keys: list[int]) -> None:
        """These are used, from the last to the first."""
        for place in range(len(keys) - 1, -1, -1):
            self.eviction.used(keys[place], True, False)

    def advance(self, now_s: float) -> None:
        """Let everything happen that is due by now."""
        while self.links.next_s() <= now_s:
            for job in self.links.over(now_s):
                self._end(self.users[job.replica], job, now_s)
        self._wait()

    def _begin(self, user: StoreUser, way: int, now_s: float) -> None:
        """The first in line begins; of writes, those for which there is anything to write."""
        line = user.lines[way]
        while line:
            job = line[0]
            if way == READ or self._takes_room(user, job, now_s):
                job.link_s, job.store_s = len(job.keys) * user.link_s, len(job.keys) * user.store_s
                self.links.begin(job, now_s)
                return
            line.popleft()
            user.is_over(job)

    def _takes_room(self, user: StoreUser, job: StoreJob, now_s: float) -> bool:
        """Leave those of its chunks that are not here, if there is room for them."""
        eviction, chunks = self.eviction, self.eviction.chunks
        self._offers += 1
        wanted: list[int] = []
        for key in job.keys:
            chunk = chunks.get(key)
            if chunk is None:
                wanted.append(key)
            else:
                chunk.offer = self._offers
        self.touch(job.keys)
        job.keys = wanted
        if not wanted:
            return False
        lacking = len(wanted) - (eviction.capacity - len(chunks))
        if lacking > 0:
            victims = eviction.victims(lacking, self._offers) if lacking <= self.evictable else None
            if victims is None:
                user.refused += len(wanted)
                return False
            for chunk in victims:
                eviction.remove(chunk)
                self.users[chunk.writer].evicted += 1
            self.evictable -= lacking
            self._changed(now_s)
        for key in wanted:
            eviction.insert(key).writer = user.number
        user.written += len(wanted)
        return True

    def _end(self, user: StoreUser, job: StoreJob, now_s: float) -> None:
        chunks = self.eviction.chunks
        for key in job.keys:
            chunk = chunks[key]
            if job.way == WRITE:
                chunk.readers = 0
                self.evictable += 1
            else:
                chunk.readers -= 1
                self.evictable += chunk.readers == 0
        self.touch(job.keys)
        user.moved_s[job.way] += now_s - job.begun_s
        alone_s = self.links.latency_s + job.link_s
        user.waited_s[job.way] += now_s - job.sent_s
        user.held_up_s[job.way] += max(0.0, (now_s - job.sent_s) - alone_s)
        line = user.lines[job.way]
        line.popleft()
        user.is_over(job)
        if job.way == WRITE:
            self._changed(now_s)
        elif user in self.idle:
            self._look_again(user, now_s)
        self._begin(user, job.way, now_s)

    def _changed(self, now_s: float) -> None:
        for user in list(self.idle):
            self._look_again(user, now_s)

    def _look_again(self, user: StoreUser, now_s: float) -> None:
        if user.replica is not None:
            user.replica.look_again(now_s)

    def _wait(self) -> None:
        if self.clock is not None:
            self.clock.due(self.links.next_s())


class StoreClock(Entry):
    """Lets a store go on when something is due there.

    Args:
        agenda: of the replicas that share it.
        store: the store.
    """

    def __init__(self, agenda: Agenda, store: RemoteStore) -> None:
        super().__init__(TRANSFER)
        self._agenda = agenda
        self._store = store
        store.clock = self

    def due(self, time_s: float) -> None:
        """It is to go on then; to look earlier does no harm."""
        if time_s < inf and (self.place < 0 or time_s < self.time_s):
            self._agenda.put(self, time_s)

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._store.advance(now_s)
        return now_s
