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

Here reading and streaming have a loop each; ``sim.traffic.api_loops`` has one for both. Not
covered: a client that is too slow to read; that an engine whose server lags behind merges tokens of
several steps into one message.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sim.engine.agenda import Agenda
from sim.engine.any_replica import AnyReplica
from sim.settings.scenario import ApiTime
from sim.traffic.api_loops import SharedLoops, SharedOutbox
from sim.traffic.inbox import OwnLoops
from sim.traffic.outbox import Outbox

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def own_loops(api: ApiTime, replicas: int) -> OwnLoops:
    """Return what reads the requests of so many replicas, whatever tokens they send."""
    return OwnLoops(api.request_s, api.token_s, api.loop_request_s, api.servers * replicas)


def shared_loops(
    api: ApiTime, agenda: Agenda, outboxes: list[SharedOutbox], replicas: dict[int, AnyReplica]
) -> SharedLoops:
    """Return what reads requests in the loops that also send tokens."""
    times = (api.request_s, api.token_s, api.loop_request_s)
    return SharedLoops(*times, api.servers, agenda, outboxes, replicas)


def all_reached_s(api: ApiTime, replicas: int, sent_s: Floats, prompt_tokens: Ints) -> Floats:
    """Return when requests that are all sent, whatever happens, reach the scheduler.

    Shape (requests,). Of requests sent at the same time the first row goes first.
    """
    if not api.loop_request_s:
        return api.reached_s(sent_s, prompt_tokens)
    box, order = own_loops(api, replicas), np.argsort(sent_s, kind="stable")
    pairs: Iterable[tuple[float, int]] = zip(
        sent_s[order].tolist(), prompt_tokens[order].tolist(), strict=True
    )
    reached_s = np.empty(len(sent_s))
    reached_s[order] = [box.reached_s(sent, tokens) for sent, tokens in pairs]
    return reached_s


def outboxes(api: ApiTime, replicas: int) -> list[Outbox]:
    """Return the ways out of replicas, if tokens wait there for each other and nothing else."""
    if api.shared or not api.loop_output_s:
        return []
    return [Outbox(api.loop_output_s / api.servers) for _ in range(replicas)]


def shared_outboxes(api: ApiTime, replicas: int) -> list[SharedOutbox]:
    """Return the ways out of replicas, if requests that are read wait for tokens there."""
    if not api.shared:
        return []
    return [SharedOutbox(api.loop_output_s / api.servers) for _ in range(replicas)]


def take_seen(box: Outbox, segments: npt.NDArray[np.void], step_end_s: Floats) -> Floats:
    """Return when steps are seen that leave a journal: all of some segments, its first ones.

    Args:
        box: what the API has of the replica's answers; these steps leave it.
        segments: shape (segments,).
        step_end_s: shape (steps,), seconds.

    Returns:
        Shape (steps,), seconds of the same clock.
    """
    streams, steps = segments["decodes"] + segments["joined"], segments["steps"]
    if isinstance(box, SharedOutbox):
        return _take_shared(box, streams, steps, step_end_s)
    known = box.take(len(segments), len(step_end_s))
    streams[: len(known)] = known
    seen_s = _at_once(box, streams, steps, step_end_s)
    if seen_s is None:
        seen_s = np.array(box.seen_s(streams.tolist(), steps.tolist(), step_end_s.tolist()))
    if len(known) < len(segments):
        box.free_s = box.taken_free_s
    return seen_s


def _at_once(box: Outbox, streams: Ints, steps: Ints, ends_s: Floats) -> Floats | None:
    """See ``Outbox.seen_s``, if none of many steps waits for the one before; else None."""
    work_s = np.repeat(streams * box.each_s, steps)
    free_s = ends_s + work_s
    if not len(ends_s) or ends_s[0] < box.taken_free_s or (ends_s[1:] < free_s[:-1]).any():
        return None
    box.taken_free_s = float(free_s[-1])
    seen_s: Floats = ends_s + work_s / 2
    return seen_s


def _take_shared(box: SharedOutbox, streams: Ints, steps: Ints, step_end_s: Floats) -> Floats:
    done, count = len(box.seen_of_steps_s), len(step_end_s)
    more = slice(box.rows, None)
    box.add(streams[more].tolist(), steps[more].tolist(), step_end_s[done:].tolist())
    seen_s = np.frombuffer(box.seen_of_steps_s, np.float64, count).copy()
    del box.seen_of_steps_s[:count]
    box.rows -= len(streams)
    return seen_s


def seen_at(times_s: Floats, step_end_s: Floats, seen_s: Floats) -> Floats:
    """Return when clients see what ended at ``times_s``, shape (times,), seconds.

    Args:
        times_s: ends of some of these steps, shape (times,).
        step_end_s: ends of all of them, shape (steps,), ascending.
        seen_s: when these are seen, shape (steps,).
    """
    return seen_s[np.searchsorted(step_end_s, times_s)]
