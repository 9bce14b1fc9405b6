"""API processes whose one event loop both reads requests and sends tokens, as vLLM's does.

::

    sends     |== step 1 ==|        |== step 2 ==|  |=== step 3 ===|
    reads     |            |-- r1 --|            |r1|              |-- r1, r2 ...

The tokens of a step are sent at once, one stream after the other, behind those of the step before
it. To read a request takes many turns of the loop (the connection, the body, the tokeniser, the
queue to the engine), and each of them lets the tokens that are there go first: so requests are read
one after the other in what the tokens leave of a process. Tokens do not wait for requests.

A request goes to the replicas in turn, and there to the process that is free first; the streams of
a step are dealt evenly among the processes of its replica.
"""

from array import array
from heapq import heappop, heappush, heapreplace

from sim.engine.agenda import DELIVERY, Agenda, Entry
from sim.engine.any_replica import AnyReplica
from sim.engine.journal import Journal
from sim.engine.sequence import Sequence
from sim.traffic.inbox import Comes, Inbox
from sim.traffic.outbox import Outbox, streams_from


class SharedOutbox(Outbox):
    """Tokens on their way out of one replica, and the time that they leave for reading."""

    def __init__(self, each_s: float) -> None:
        super().__init__(each_s)
        self.seen_of_steps_s = array("d")
        """Of steps that are in the journal still."""
        self.rows = 0
        """Segments there whose steps all are among them."""
        self._ended_s = 0.0  # the last step
        self._left_s = 0.0  # for reading, until then
        self.sent = 0
        """Steps so far."""

    def catch_up(self, replica: AnyReplica) -> None:
        """Every step that has ended is sent, or waits to be: also those of the run under way."""
        journal = replica.journal
        if len(self.seen_of_steps_s) < journal.steps:
            self.last_seen_s(journal)
        done, ended = len(self.seen_of_steps_s), journal.steps + replica.steps_ended()
        if done < ended:  # of a run of decodes: nobody joins but in the last step of one
            batch = replica.under_way()
            assert batch is not None
            self._send(batch.decodes, journal.step_end_s[done:ended].tolist())

    def left_s(self, now_s: float) -> float:
        """Time until now that a process had for reading; all steps until now are known."""
        return self._left_s + max(0.0, now_s - max(self._ended_s, self.free_s))

    def due_s(self, now_s: float, left_s: float) -> float:
        """Return when a process will have had so much time, if no further step ends."""
        return max(now_s, self.free_s) + (left_s - self.left_s(now_s))

    def last_seen_s(self, journal: Journal) -> float:
        """See ``Outbox``."""
        streams, steps = streams_from(journal, self.rows)
        done = len(self.seen_of_steps_s)
        self.add(streams, steps, journal.step_end_s[done : journal.steps].tolist())
        return self.seen_of_steps_s[-1]

    def add(self, streams: list[int], steps: list[int], ends_s: list[float]) -> None:
        """Add segments, but those steps of them that were under way and are added already."""
        known, at = sum(steps) - len(ends_s), 0
        for place, count in enumerate(steps):
            new = count - min(known, count)
            known -= count - new
            self._send(streams[place], ends_s[at : at + new])
            at += new
        self.rows += len(streams)

    def _send(self, streams: int, ends_s: list[float]) -> None:
        work_s = streams * self.each_s
        for end_s in ends_s:
            self._left_s = self.left_s(end_s)
            self._ended_s = end_s
            begun_s = max(end_s, self.free_s)
            self.seen_of_steps_s.append(begun_s + work_s / 2)
            self.free_s = begun_s + work_s
        self.sent += len(ends_s)


class SharedLoops(Inbox):
    """The processes of all replicas, as they read.

    Args:
        request_s: from sending a request to its being at the scheduler, if it meets nobody.
        token_s: besides, for each token of the prompt.
        loop_request_s: the part of ``request_s`` that a loop is busy with it.
        servers: processes of a replica.
        agenda: of the simulation.
        outboxes: of all replicas.
        replicas: by number.
    """

    def __init__(
        self,
        request_s: float,
        token_s: float,
        loop_request_s: float,
        servers: int,
        agenda: Agenda,
        outboxes: list[SharedOutbox],
        replicas: dict[int, AnyReplica],
    ) -> None:
        self._readers = [
            Reader(request_s - loop_request_s, token_s, loop_request_s, servers, agenda, outbox)
            for outbox in outboxes
        ]
        self._replicas = replicas
        self._turn = 0

    def read(self, sequence: Sequence, comes: Comes) -> None:
        """See ``Inbox``."""
        turn = self._turn
        self._turn = (turn + 1) % len(self._readers)
        self._readers[turn].read(sequence, comes, self._replicas[turn])


class Reader:
    """The processes of one replica: a queue in the time that tokens leave."""

    def __init__(
        self,
        rest_s: float,
        token_s: float,
        loop_request_s: float,
        servers: int,
        agenda: Agenda,
        outbox: SharedOutbox,
    ) -> None:
        self._rest_s, self._token_s, self._loop_request_s = rest_s, token_s, loop_request_s
        self._agenda, self._outbox = agenda, outbox
        self._free_s = [0.0] * servers
        self._due: list[tuple[float, int, Sequence]] = []  # who is read when, in time for reading
        self._count = 0

    def read(self, sequence: Sequence, comes: Comes, replica: AnyReplica) -> None:
        """A request is sent to it, now."""
        outbox = self._outbox
        outbox.catch_up(replica)
        begun_s = max(outbox.left_s(self._agenda.now_s), self._free_s[0])
        read_s = begun_s + (self._loop_request_s + self._token_s * sequence.prompt_tokens)
        heapreplace(self._free_s, read_s)
        self._count += 1
        heappush(self._due, (read_s, self._count, sequence))
        if self._due[0][1] == self._count:
            self._wait(comes, replica)

    def _wait(self, comes: Comes, replica: AnyReplica) -> None:
        """Look again when the next one is read, if no further step ends until then."""
        read_s, number, _ = self._due[0]
        due_s = self._outbox.due_s(self._agenda.now_s, read_s)
        self._agenda.put(Look(self, number, self._outbox.sent, comes, replica), due_s)

    def look(self, number: int, sent: int, comes: Comes, replica: AnyReplica) -> None:
        """See whether one has been read, as it has if no step ended since ``sent`` were sent."""
        if not self._due or self._due[0][1] != number:
            return  # one that came later was read first, by another process
        self._outbox.catch_up(replica)
        if self._outbox.sent == sent:
            _, _, sequence = heappop(self._due)
            comes(sequence, self._agenda.now_s + self._rest_s)
        if self._due:
            self._wait(comes, replica)


class Look(Entry):
    """The moment at which a request may have been read."""

    def __init__(
        self, reader: Reader, number: int, sent: int, comes: Comes, replica: AnyReplica
    ) -> None:
        super().__init__(DELIVERY)
        self._reader, self._of, self._sent = reader, number, sent
        self._comes, self._replica = comes, replica

    def go_on(self, now_s: float, stop_s: float) -> float:
        """See ``Entry``."""
        self._reader.look(self._of, self._sent, self._comes, self._replica)
        return now_s
