"""A workload's configuration.

Four kinds: a trace as recorded (``trace``), clients that each ask in their own way (``clients``),
generated open arrivals, or a closed loop of users; arrivals and users may bring whole conversations
(``sessions``).
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from workloads.arrivals import AllAtOnce, Arrivals, ClosedLoop, Diurnal, Piecewise
from workloads.clients import Clients
from workloads.config import LATEST_S, Config, Count, Positive, Seconds
from workloads.lengths import Empirical, Lengths
from workloads.prefixes import SharedPrefixes
from workloads.resampling import Resample
from workloads.sessions import Sessions
from workloads.trace_sessions import TraceSessions
from workloads.traces.units import Unit

FOR_A_TRACE = (
    "rate_scale", "limit", "start_s", "stop_s", "trace_time_unit", "trace_block_tokens",
    "resample", "trace_sessions",
)  # fmt: skip
"""Keys that say something of a trace only."""

Priority = Annotated[int, Field(ge=-(2**31), lt=2**31)]


class Workload(Config):
    """Who asks for what, when: ``trace``, or ``clients``, or ``arrivals`` with ``lengths``."""

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
    clients: Clients | None = None
    """Clients that each ask in their own way, of a folder as ServeGen publishes it, instead of
    arrivals and lengths."""
    prefixes: SharedPrefixes | None = None
    """What generated prompts have in common; none: no two begin alike. A trace tells by itself."""
    sessions: Sessions | None = None
    """Conversations: requests that say again what was said before, and more. None: every request
    stands alone."""
    trace_sessions: TraceSessions | None = None
    """Which requests of a trace are turns of conversations, asked after the answer before. None:
    every request is asked at its recorded time, whatever became of others. With ``arrivals`` the
    trace's sessions begin as these say, or one after the other with each user of a closed loop."""
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
        if self.clients is not None:
            problems.append("a trace brings its own requests, expected either trace or clients")
        if self.lengths is not None or (self.arrivals is not None and self.trace_sessions is None):
            problems.append(
                "trace brings its own arrivals and lengths; to keep its lengths only, "
                "write lengths: {trace: ...} beside arrivals; to begin its sessions at other "
                "times, trace_sessions"
            )
        if self.arrivals is not None and self.rate_scale != 1.0:
            problems.append(
                f"rate_scale(={self.rate_scale:g}) makes a trace's arrivals faster, and arrivals "
                "are given"
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
        if self.clients is not None:
            return self._client_problems(self.clients)
        if self.arrivals is None and self.lengths is None:
            return [
                "expected trace, clients, or arrivals with lengths and num_requests (or duration_s)"
            ]
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

    def _client_problems(self, clients: Clients) -> list[str]:
        problems = []
        for name in ("arrivals", "lengths", "num_requests", "duration_s", "sessions", *FOR_A_TRACE):
            value = getattr(self, name)
            if value == Workload.model_fields[name].default:
                continue
            if name in type(clients).model_fields:
                problems.append(f"{name}(={value:g}) is for a trace, expected clients.{name}")
            else:
                problems.append(f"clients bring their own requests, expected no {name} beside them")
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
        given = (self.arrivals, self.lengths, self.sessions, self.clients)
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
        recorded = self.trace is not None and self.arrivals is None
        hours = recorded or self.clients is not None
        return hours or isinstance(self.arrivals, Diurnal | Piecewise)

    def anchored(self, base_dir: Path) -> "Workload":
        """Return the same workload with its relative paths made absolute from ``base_dir``."""
        changes: dict[str, object] = {}
        if self.trace is not None:
            changes["trace"] = str(base_dir.resolve() / self.trace)
        if self.clients is not None:
            changes["clients"] = self.clients.anchored(base_dir)
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
        if self.clients is not None:
            paths.extend(self.clients.files)
        if self.lengths is not None:
            laws = (self.lengths.prompt, self.lengths.output)
            paths.append(self.lengths.trace)
            paths.extend(law.path for law in laws if isinstance(law, Empirical))
        if self.sessions is not None:
            paths.extend(self.sessions.files)
        return tuple(dict.fromkeys(path for path in paths if path is not None))
