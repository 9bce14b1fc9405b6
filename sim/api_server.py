"""The API server as a queue in front of an engine and one behind it.

    sent_s                      reached_s            end of a step                       seen
    |-- waits --|-- is read --|-- on its way --|     |-- waits --|-- tokens stream --|-- on its way
                 loop_request_s  the rest of          loop_output_s, for each stream   output_s
                 + token_s for    request_s           of the step one after the other
                 each token

A process has one event loop. It reads one request after the other, the prompt's tokens included,
and sends the tokens of one step before those of the next. Requests go to whichever process is free;
streams are dealt evenly among the processes of their replica, and a token is seen, in the mean,
when half of its step's are.

Here reading and streaming have a loop each; ``sim.api_loops`` has one for both. Not covered: a
client that is too slow to read; that an engine whose server lags behind merges tokens of several
steps into one message.
"""

from array import array
from collections.abc import Iterable, Sequence
from heapq import heapify, heapreplace

import numpy as np
import numpy.typing as npt

from sim.engine.journal import SEGMENT_BYTES, Journal
from sim.recorder import SEGMENT_TYPE
from sim.scenario import ApiTime

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Inbox:
    """Requests on their way in: one queue before the processes of all replicas.

    Args:
        api: times, and processes of a replica.
        replicas: that share the queue.
    """

    def __init__(self, api: ApiTime, replicas: int) -> None:
        self._api = api
        self._free_s = [0.0] * (api.servers * replicas)
        heapify(self._free_s)

    def reached_s(self, sent_s: float, prompt_tokens: int) -> float:
        """Return when a request reaches the scheduler; to be called in the order of sending."""
        api = self._api
        if not api.loop_request_s:
            return float(api.reached_s(sent_s, prompt_tokens))
        begun_s = max(sent_s, self._free_s[0])
        read_s = begun_s + (api.loop_request_s + api.token_s * prompt_tokens)
        heapreplace(self._free_s, read_s)
        return read_s + (api.request_s - api.loop_request_s)


def all_reached_s(api: ApiTime, replicas: int, sent_s: Floats, prompt_tokens: Ints) -> Floats:
    """Return when requests that are all sent, whatever happens, reach the scheduler.

    Shape (requests,). Of requests sent at the same time the first row goes first.
    """
    if not api.loop_request_s:
        return api.reached_s(sent_s, prompt_tokens)
    inbox, order = Inbox(api, replicas), np.argsort(sent_s, kind="stable")
    pairs: Iterable[tuple[float, int]] = zip(
        sent_s[order].tolist(), prompt_tokens[order].tolist(), strict=True
    )
    reached_s = np.empty(len(sent_s))
    reached_s[order] = [inbox.reached_s(sent, tokens) for sent, tokens in pairs]
    return reached_s


class Outbox:
    """Tokens on their way out of one replica: when those of each step are seen, seconds."""

    def __init__(self, api: ApiTime) -> None:
        self._each_s = api.loop_output_s / api.servers
        self._free_s = 0.0
        self._seen_s = array("d")  # of steps that are in the journal still
        self._rows = 0  # of its segments

    def last_seen_s(self, journal: Journal) -> float:
        """Return when the tokens of the last complete step of a journal are seen."""
        table = np.frombuffer(bytes(journal.segments[self._rows * SEGMENT_BYTES :]), SEGMENT_TYPE)
        done = len(self._seen_s)
        self._add(table, journal.step_end_s[done : journal.steps])
        return self._seen_s[-1]

    def take(self, segments: npt.NDArray[np.void], step_end_s: Floats) -> Floats:
        """Return it for steps that leave the journal: all of some segments, its first ones."""
        done = len(self._seen_s)
        if not self._add_at_once(segments[self._rows :], step_end_s[done:]):
            self._add(segments[self._rows :], step_end_s[done:].tolist())
        seen_s = np.frombuffer(self._seen_s, np.float64, len(step_end_s)).copy()
        del self._seen_s[: len(step_end_s)]
        self._rows -= len(segments)
        return seen_s

    def _add_at_once(self, segments: npt.NDArray[np.void], ends_s: Floats) -> bool:
        """Add many steps of which none waits for the one before; say whether it is so."""
        streams = segments["decodes"] + segments["joined"]
        work_s = np.repeat(streams * self._each_s, segments["steps"])
        free_s = ends_s + work_s
        if not len(ends_s) or ends_s[0] < self._free_s or (ends_s[1:] < free_s[:-1]).any():
            return False
        self._seen_s.frombytes((ends_s + work_s / 2).tobytes())
        self._free_s = float(free_s[-1])
        self._rows += len(segments)
        return True

    def _add(self, segments: npt.NDArray[np.void], ends_s: Sequence[float]) -> None:
        free_s, seen_s, each_s = self._free_s, self._seen_s, self._each_s
        streams = (segments["decodes"] + segments["joined"]).tolist()
        ends = iter(ends_s)
        for count, steps in zip(streams, segments["steps"].tolist(), strict=True):
            work_s = count * each_s
            for _ in range(steps):
                begun_s = max(next(ends), free_s)
                seen_s.append(begun_s + work_s / 2)
                free_s = begun_s + work_s
        self._free_s = free_s
        self._rows += len(segments)


def seen_at(times_s: Floats, step_end_s: Floats, seen_s: Floats) -> Floats:
    """Return when clients see what ended at ``times_s``: ends of some of these steps."""
    return seen_s[np.searchsorted(step_end_s, times_s)]
