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

from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np
import numpy.typing as npt

from sim.api_server import Floats, Outbox
from sim.clock import DELIVERY, Clock
from sim.engine.loop import Loop
from sim.pipelined import AnyReplica
from sim.scenario import ApiTime

Reached = Callable[[float], None]
"""Told when a request reaches the scheduler; not before it has been read."""


class SharedOutbox(Outbox):
    """Tokens on their way out of one replica, and the time that they leave for reading."""

    def __init__(self, api: ApiTime) -> None:
        super().__init__(api)
        self._ended_s = 0.0  # the last step
        self._left_s = 0.0  # for reading, until then
        self.sent = 0
        """Steps so far."""

    def catch_up(self, replica: AnyReplica) -> None:
        """Every step that has ended is sent, or waits to be: also those of the run under way."""
        journal, loop = replica.journal, replica.loop
        if len(self._seen_s) < journal.steps:
            self.last_seen_s(journal)
        done, ended = len(self._seen_s), journal.steps + replica.steps_ended()
        if done < ended:  # of a run of decodes: nobody joins but in the last step of one
            assert isinstance(loop, Loop)
            assert loop.batch is not None
            self._send(loop.batch.decodes, journal.step_end_s[done:ended])

    def left_s(self, now_s: float) -> float:
        """Time until now that a process had for reading; all steps until now are known."""
        return self._left_s + max(0.0, now_s - max(self._ended_s, self._free_s))

    def due_s(self, now_s: float, left_s: float) -> float:
        """Return when a process will have had so much time, if no further step ends."""
        return max(now_s, self._free_s) + (left_s - self.left_s(now_s))

    def _add_at_once(self, segments: npt.NDArray[np.void], ends_s: Floats) -> bool:
        return False

    def _add(self, segments: npt.NDArray[np.void], ends_s: Sequence[float]) -> None:
        """Add steps: all of these segments, but those that were under way and are added already."""
        streams = np.repeat(segments["decodes"] + segments["joined"], segments["steps"])
        counts = streams[len(streams) - len(ends_s) :].tolist()
        for count, end_s in zip(counts, ends_s, strict=True):
            self._send(count, (end_s,))
        self._rows += len(segments)

    def _send(self, streams: int, ends_s: Sequence[float]) -> None:
        work_s = streams * self._each_s
        for end_s in ends_s:
            self._left_s, self._ended_s = self.left_s(end_s), end_s
            begun_s = max(end_s, self._free_s)
            self._seen_s.append(begun_s + work_s / 2)
            self._free_s = begun_s + work_s
        self.sent += len(ends_s)


class SharedLoops:
    """The processes of all replicas, as they read.

    Args:
        api: times.
        clock: of the simulation.
        outboxes: of all replicas.
        replicas: by number.
    """

    def __init__(
        self,
        api: ApiTime,
        clock: Clock,
        outboxes: Sequence[SharedOutbox],
        replicas: Mapping[int, AnyReplica],
    ) -> None:
        self._readers = [
            _Reader(api, clock, outbox, replicas, number) for number, outbox in enumerate(outboxes)
        ]
        self._turn = 0

    def read(self, prompt_tokens: int, reached: Reached) -> None:
        """A request is sent, now."""
        reader = self._readers[self._turn]
        self._turn = (self._turn + 1) % len(self._readers)
        reader.read(prompt_tokens, reached)


class _Reader:
    """The processes of one replica: a queue in the time that tokens leave."""

    def __init__(
        self, api: ApiTime, clock: Clock, outbox: SharedOutbox,
        replicas: Mapping[int, AnyReplica], number: int,
    ) -> None:  # fmt: skip
        self._api, self._clock, self._outbox = api, clock, outbox
        self._replicas, self._number = replicas, number
        self._rest_s = api.request_s - api.loop_request_s
        self._free_s = [0.0] * api.servers
        heapify(self._free_s)
        self._due: list[tuple[float, int, Reached]] = []  # who is read when, in time for reading
        self._count = 0
        self._woken_for = -1.0

    def read(self, prompt_tokens: int, reached: Reached) -> None:
        """A request is sent to it, now."""
        outbox, api = self._outbox, self._api
        outbox.catch_up(self._replicas[self._number])
        begun_s = max(outbox.left_s(self._clock.now), self._free_s[0])
        read_s = begun_s + (api.loop_request_s + api.token_s * prompt_tokens)
        heapreplace(self._free_s, read_s)
        self._count += 1
        heappush(self._due, (read_s, self._count, reached))
        if self._due[0][1] == self._count:
            self._wait()

    def _wait(self) -> None:
        """Look again when the next one is read, if no further step ends until then."""
        read_s, number, _ = self._due[0]
        outbox, agenda = self._outbox, self._clock.agenda
        sent, due_s = outbox.sent, outbox.due_s(self._clock.now, read_s)
        agenda.call_at(due_s, DELIVERY, lambda: self._look(number, sent))

    def _look(self, number: int, sent: int) -> None:
        if not self._due or self._due[0][1] != number:
            return  # one that came later was read first, by another process
        self._outbox.catch_up(self._replicas[self._number])
        if self._outbox.sent == sent:
            _, _, reached = heappop(self._due)
            reached(self._clock.now + self._rest_s)
        if self._due:
            self._wait()
