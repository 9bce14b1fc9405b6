"""The requests that a workload generates.

Each purpose (arrivals, lengths, think times, priorities) has its own random stream, so changing
one never shifts another, and a longer workload begins with the shorter one.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from workloads import traces
from workloads.arrivals import (
    Arrivals,
    ClosedLoop,
    Deterministic,
    Gamma,
    OpenArrivals,
    Poisson,
)
from workloads.clients import Clients, requests_of_clients
from workloads.requests import Floats, Ints, Requests
from workloads.resampling import resampled
from workloads.sessions import Sessions
from workloads.streams import stream
from workloads.trace_sessions import in_sessions
from workloads.workload import Workload

_FIRST_GUESS = 64
MOST_REQUESTS = 10**9
"""Of a workload, unless the caller knows that memory holds fewer."""


def generate(
    workload: Workload,
    seed: int,
    base_dir: Path | None = None,
    *,
    prefixes: bool = True,
    most: int = MOST_REQUESTS,
) -> Requests:
    """Return the requests of a workload; the same for the same seed.

    Relative paths are taken from ``base_dir`` (a study's folder), or from the current folder.
    Without ``prefixes`` nothing is read, or wrong, of what a trace's prompts have in common, and
    nothing said of what those of sessions have.

    Raises:
        TraceError: a file that cannot be used.
        ValueError: no request arrives before ``duration_s``, or there are more than ``most``.
    """
    if base_dir is not None:
        workload = workload.anchored(base_dir)
    if workload.trace is not None:
        requests = _replayed(workload, prefixes, seed)
    elif workload.clients is not None:
        requests = _of_clients(workload, workload.clients, seed, most)
    elif workload.sessions is not None:
        requests = _in_sessions(workload, workload.sessions, seed, most, prefixes)
    else:
        requests = _drawn(workload, seed, most)
    if workload.priorities is not None:
        drawn = len(requests) if requests.session is None else int(requests.session[-1]) + 1
        priority = _priorities(workload.priorities, drawn, seed)
        if requests.session is not None:
            priority = priority[requests.session]
        requests = replace(requests, priority=priority)
    return requests


def _replayed(workload: Workload, prefixes: bool, seed: int) -> Requests:
    assert workload.trace is not None
    again = workload.resample
    found, links = traces.read_linked(
        workload.trace,
        rate_scale=1.0 if again else workload.rate_scale,
        limit=workload.limit,
        start_s=workload.start_s,
        stop_s=workload.stop_s,
        time_unit=workload.trace_time_unit,
        block_tokens=workload.trace_block_tokens,
        prefixes=prefixes or workload.trace_sessions is not None,
        links=workload.trace_sessions is not None,
    )
    if workload.trace_sessions is not None:
        found = in_sessions(found, links, workload.trace_sessions, workload.rate_scale)
        if workload.arrivals is not None:
            found = _begun(found, workload.arrivals, seed)
        return found if prefixes else replace(found, prefixes=None)
    if again is None:
        return found
    found = resampled(found, again, stream(seed, "resample"))
    return replace(found, arrival_s=found.arrival_s / workload.rate_scale)


def _begun(requests: Requests, arrivals: Arrivals, seed: int) -> Requests:
    """Let the sessions of a trace begin as arrivals say, in their order."""
    assert requests.turn is not None
    assert requests.think_s is not None
    first = requests.turn == 0
    arrival_s = np.full(len(requests), np.nan)
    if not isinstance(arrivals, ClosedLoop):
        arrival_s[first] = arrivals.times_s(int(first.sum()), stream(seed, "arrivals"))
        return replace(requests, arrival_s=arrival_s)
    think_s = arrivals.think_times_s(len(requests), stream(seed, "think"))
    think_s = np.where(first, think_s, requests.think_s)
    return replace(requests, arrival_s=arrival_s, users=arrivals.users, think_s=think_s)


def _of_clients(workload: Workload, clients: Clients, seed: int, most: int) -> Requests:
    found = requests_of_clients(clients, seed, most)
    if workload.prefixes is None:
        return found
    prompts, prefixes = workload.prefixes.apply(found.prompt_tokens)
    return replace(found, prompt_tokens=prompts, prefixes=prefixes)


def _drawn(workload: Workload, seed: int, most: int) -> Requests:
    arrivals, lengths = workload.arrivals, workload.lengths
    _check_count(workload, most)
    assert arrivals is not None  # as are the others below: the validator saw to it
    assert lengths is not None
    users, think_s = None, None
    if isinstance(arrivals, ClosedLoop):
        assert workload.num_requests is not None
        users = arrivals.users
        think_s = arrivals.think_times_s(workload.num_requests, stream(seed, "think"))
        times = np.full(workload.num_requests, np.nan)
    elif workload.num_requests is not None:
        times = arrivals.times_s(workload.num_requests, stream(seed, "arrivals"))
    else:
        assert workload.duration_s is not None
        times = _times_before(arrivals, workload.duration_s, seed, most)
    prompts, outputs = lengths.sample(len(times), stream(seed, "lengths"))
    prefixes = None
    if workload.prefixes is not None:
        prompts, prefixes = workload.prefixes.apply(prompts)
    return Requests(
        arrival_s=times,
        prompt_tokens=prompts,
        output_tokens=outputs,
        priority=np.zeros(len(times), dtype=np.int64),
        users=users,
        think_s=think_s,
        prefixes=prefixes,
    )


def _in_sessions(
    workload: Workload, sessions: Sessions, seed: int, most: int, prefixes: bool
) -> Requests:
    """Draw turns session by session, and when those that come by themselves begin."""
    from workloads.turns import first_turns, never_begun, no_session_fits, turns_of

    arrivals, lengths = workload.arrivals, workload.lengths
    _check_count(workload, most)
    assert arrivals is not None  # as are the lengths: the validator saw to it
    assert lengths is not None
    loop = arrivals if isinstance(arrivals, ClosedLoop) else None
    begin_s: Floats | None = None
    if workload.num_requests is not None:
        turns = first_turns(sessions, lengths, workload.num_requests, seed)
        if not isinstance(arrivals, ClosedLoop):
            begin_s = arrivals.times_s(int(turns.session[-1]) + 1, stream(seed, "arrivals"))
    else:
        assert workload.duration_s is not None
        assert not isinstance(arrivals, ClosedLoop)
        begin_s = _times_before(arrivals, workload.duration_s, seed, most)
        turns = turns_of(sessions, lengths, len(begin_s), seed, most)
        if not len(turns.turn):
            raise no_session_fits(sessions)
    times = np.full(len(turns.turn), np.nan)
    first = turns.turn == 0
    if begin_s is not None:
        times[first] = begin_s[turns.session[first]]
    return Requests(
        arrival_s=times,
        prompt_tokens=turns.prompt_tokens,
        output_tokens=turns.output_tokens,
        priority=np.zeros(len(times), dtype=np.int64),
        users=None if loop is None else loop.users,
        think_s=sessions.think_times_s(turns.gap, loop, seed),
        prefixes=turns.prefixes(sessions.system_tokens or 0) if prefixes else None,
        session=np.cumsum(first) - 1,
        turn=turns.turn,
        after=turns.after,
        notes=never_begun(turns, sessions),
    )


def _check_count(workload: Workload, most: int) -> None:
    if workload.num_requests is not None and workload.num_requests > most:
        raise ValueError(
            f"num_requests(={workload.num_requests}) is more than memory holds, expected at most "
            f"{most}"
        )


def _times_before(arrivals: OpenArrivals, duration_s: float, seed: int, most: int) -> Floats:
    """Draw ever longer samples, each beginning with the one before, until one outlasts the time."""
    count = _FIRST_GUESS
    hopeless = False
    if isinstance(arrivals, Poisson | Gamma | Deterministic):
        hopeless = arrivals.rate_per_s * duration_s > 2.0 * most  # whatever the luck
    while True:
        if hopeless or count > 2 * most:  # as many were drawn before, and were too few
            raise ValueError(
                f"more than {most} requests arrive before duration_s(={duration_s:g}), which is "
                "more than memory holds, expected a shorter time or a lower rate"
            )
        times = arrivals.times_s(count, stream(seed, "arrivals"))
        if times[-1] >= duration_s:
            break
        count *= 2
    times = times[times < duration_s]
    if not len(times):
        raise ValueError(f"no request arrives before duration_s(={duration_s:g})")
    return times


def _priorities(weights: dict[int, float], count: int, seed: int) -> Ints:
    """Draw a priority for each request with the given relative weights."""
    values = np.array(list(weights), dtype=np.int64)
    shares = np.cumsum(list(weights.values()))
    luck = stream(seed, "priorities").random(count) * shares[-1]
    chosen: Ints = values[np.searchsorted(shares, luck, side="right")]
    return chosen
