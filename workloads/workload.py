"""A workload's configuration, and the requests that it generates.

Three kinds: a trace as recorded (``trace``), generated open arrivals, or a closed loop of users;
arrivals and users may bring whole conversations (``sessions``).
Each purpose (arrivals, lengths, think times, priorities) has its own random stream, so changing
one never shifts another, and a longer workload begins with the shorter one.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from workloads.arrivals import AllAtOnce, Arrivals, ClosedLoop, Diurnal, OpenArrivals, Piecewise
from workloads.config import LATEST_S, Config, Count, Positive, Seconds
from workloads.lengths import Empirical, Lengths
from workloads.prefixes import SharedPrefixes
from workloads.requests import Floats, Ints, Requests
from workloads.resampling import Resample, resampled
from workloads.sessions import Sessions, first_turns, never_begun, no_session_fits, turns_of
from workloads.streams import stream
from workloads.trace_sessions import TraceSessions, in_sessions
from workloads.traces import read_trace
from workloads.traces.fields import Unit

_FIRST_GUESS = 64
FOR_A_TRACE = (
    "rate_scale", "limit", "start_s", "stop_s", "trace_time_unit", "trace_block_tokens",
    "resample", "trace_sessions",
)  # fmt: skip
"""Keys that say something of a trace only."""
MOST_REQUESTS = 10**9
"""Of a workload, unless the caller knows that memory holds fewer."""

Priority = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class Workload(Config):
    """Who asks for what, when: either ``trace``, or ``arrivals`` with ``lengths``."""

    arrivals: Arrivals | None = None
    """When requests arrive."""
    lengths: Lengths | None = None
    """How long prompts and outputs are."""
    num_requests: Count | None = None
    """How many requests to generate; with sessions, how many turns of all of them."""
    duration_s: Seconds | None = None
    """Instead of num_requests: all that arrive before this time, seconds; with sessions, all turns
    of those that begin before."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """A recorded trace to replay; its format is found from its header."""
    rate_scale: Positive = 1.0
    """Replay faster: 2.0 offers twice the trace's rate."""
    limit: Count | None = None
    """Replay only the first so many requests (of the window)."""
    start_s: Annotated[float, Field(ge=0, le=LATEST_S)] | None = None
    """Begin at this time of the trace, seconds from its first request, before scaling."""
    stop_s: Seconds | None = None
    """End before this time of the trace, seconds from its first request, before scaling."""
    resample: Resample | None = None
    """Replay with other luck for every seed: as many requests in each window, give or take, at
    other times, with the lengths of that window and its neighbours. Default: as recorded."""
    trace_time_unit: Unit | None = None
    """Unit of a trace's times where they are numbers. Default: the format's."""
    trace_block_tokens: Count | None = None
    """Tokens of a block that a trace gives an identity (hash_ids). Default: the format's, or what
    the lengths of the prompts tell."""
    prefixes: SharedPrefixes | None = None
    """What generated prompts have in common; none: no two begin alike. A trace tells by itself."""
    sessions: Sessions | None = None
    """Conversations: requests that say again what was said before, and more. None: every request
    stands alone."""
    trace_sessions: TraceSessions | None = None
    """Which requests of a trace are turns of conversations, asked after the answer before. None:
    every request is asked at its recorded time, whatever became of others."""
    priorities: Annotated[dict[Priority, Positive], Field(min_length=1)] | None = None
    """Relative weight of each priority (lower goes first); none: every request has priority 0. All
    turns of a session have the same."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = self._trace_problems() if self.trace is not None else self._problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _trace_problems(self) -> list[str]:
        problems = []
        if self.arrivals is not None or self.lengths is not None:
            problems.append(
                "trace brings its own arrivals and lengths; to keep its lengths only, "
                "write lengths: {trace: ...} beside arrivals"
            )
        if self.num_requests is not None or self.duration_s is not None:
            problems.append(
                "a trace is cut with limit, start_s and stop_s, not num_requests or duration_s"
            )
        if self.prefixes is not None:
            problems.append(
                "prefixes is for generated requests; a trace has hash_ids (Mooncake) or the "
                "columns prompt_id, or prefix_id and prefix_tokens"
            )
        if self.sessions is not None:
            problems.append(
                "sessions is for generated requests; those of a trace are trace_sessions"
            )
        if self.trace_sessions is not None and self.resample is not None:
            problems.append("trace_sessions keeps turns as recorded, resample draws requests anew")
        if self.stop_s is not None and self.stop_s <= (self.start_s or 0.0):
            problems.append(f"stop_s(={self.stop_s:g}) must be > start_s(={self.start_s or 0:g})")
        return problems

    def _problems(self) -> list[str]:
        if self.arrivals is None and self.lengths is None:
            return ["expected trace, or arrivals with lengths and num_requests (or duration_s)"]
        problems = []
        for name in ("arrivals", "lengths"):
            if getattr(self, name) is None:
                problems.append(f"{name} is missing")
        if (self.num_requests is None) == (self.duration_s is None):
            problems.append("expected either num_requests or duration_s")
        elif self.duration_s is not None and isinstance(self.arrivals, ClosedLoop | AllAtOnce):
            problems.append(f"{self.arrivals.process} needs num_requests instead of duration_s")
        if self.sessions is not None:
            problems += self._session_problems(self.sessions)
        for name in FOR_A_TRACE:
            value = getattr(self, name)
            if value != Workload.model_fields[name].default:
                problems.append(f"{name}(={value}) is for a trace")
        return problems

    def _session_problems(self, sessions: Sessions) -> list[str]:
        problems = []
        if self.prefixes is not None:
            problems.append(
                "prefixes is for requests that stand alone; what sessions have in common is "
                "sessions.system_tokens"
            )
        if sessions.think_s is None and not isinstance(self.arrivals, ClosedLoop):
            problems.append(
                "sessions.think_s is missing: arrivals say when sessions begin, think_s how long "
                "after an answer the next turn is asked"
            )
        return problems

    @property
    def is_random(self) -> bool:
        """Whether the requests depend on the seed."""
        given = (self.arrivals, self.lengths, self.sessions)
        parts = (part for part in given if part is not None)
        mixed = self.priorities is not None and len(self.priorities) > 1
        again = self.resample is not None
        return mixed or again or any(part.is_random for part in parts)

    @property
    def waits(self) -> bool:
        """Whether some requests are asked only after others were answered."""
        return isinstance(self.arrivals, ClosedLoop) or self.has_sessions

    @property
    def has_sessions(self) -> bool:
        """Whether requests are turns of conversations, drawn or found in a trace."""
        return self.sessions is not None or self.trace_sessions is not None

    @property
    def has_clock(self) -> bool:
        """Whether the workload says what happens when: its parts are no samples of one thing."""
        return self.trace is not None or isinstance(self.arrivals, Diurnal | Piecewise)

    def anchored(self, base_dir: Path) -> "Workload":
        """Return the same workload with its relative paths made absolute from ``base_dir``."""
        changes: dict[str, object] = {}
        if self.trace is not None:
            changes["trace"] = str(base_dir.resolve() / self.trace)
        if self.lengths is not None:
            changes["lengths"] = self.lengths.anchored(base_dir)
        if self.sessions is not None:
            changes["sessions"] = self.sessions.anchored(base_dir)
        return self.model_copy(update=changes)

    def told(self) -> list[str]:
        """Say what is read of every file that lengths come from, and by what rules sessions end.

        Raises:
            TraceError: a file that cannot be used.
        """
        parts = (part for part in (self.lengths, self.sessions) if part is not None)
        return [each for part in parts for each in part.told()]

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that the workload reads, as written, each once."""
        paths = [self.trace]
        if self.lengths is not None:
            laws = (self.lengths.prompt, self.lengths.output)
            paths.append(self.lengths.trace)
            paths.extend(law.path for law in laws if isinstance(law, Empirical))
        if self.sessions is not None:
            paths.extend(self.sessions.files)
        return tuple(dict.fromkeys(path for path in paths if path is not None))


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
    found = read_trace(
        workload.trace,
        rate_scale=1.0 if again else workload.rate_scale,
        limit=workload.limit,
        start_s=workload.start_s,
        stop_s=workload.stop_s,
        time_unit=workload.trace_time_unit,
        block_tokens=workload.trace_block_tokens,
        prefixes=prefixes or workload.trace_sessions is not None,
    )
    if workload.trace_sessions is not None:
        found = in_sessions(found, workload.trace_sessions, workload.rate_scale)
        return found if prefixes else replace(found, prefixes=None)
    if again is None:
        return found
    found = resampled(found, again, stream(seed, "resample"))
    return replace(found, arrival_s=found.arrival_s / workload.rate_scale)


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
        think_s=sessions.think_times_s(turns.turn, loop, seed),
        prefixes=turns.prefixes(sessions.system_tokens or 0) if prefixes else None,
        session=np.cumsum(first) - 1,
        turn=turns.turn,
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
    while True:
        if count > 2 * most:  # as many were drawn before, and were too few
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
