"""What a run leaves behind, as it grows: outcomes of requests in columns, steps on tapes."""

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

import numpy as np
import numpy.typing as npt

from hardware.prices.work import NOTHING_READ, ReadTotals
from model.caches import Reach
from model.ops import causal_pairs
from sim import recorder
from sim.engine.journal import Journal
from sim.engine.outcomes import Outcomes
from sim.handovers import HANDOVER_COLUMNS, Handovers
from sim.recorder import Taken
from sim.result import FINISHED, REJECTED, SEGMENT_COLUMNS, TIMED_OUT, UNFINISHED, Result
from sim.scenario import NO_API, ApiTime
from sim.tape import Column, Scratch, Tape, joined
from sim.tiers import TIER_COLUMNS, TierCount, keep_rows, replica_columns, tier_outcomes
from workloads.requests import Requests

_OUTCOME_TYPE = np.dtype(
    [
        ("first_scheduled_s", "f8"),
        ("first_token_s", "f8"),
        ("finish_s", "f8"),
        ("computed_s", "f8"),
        ("lost_s", "f8"),
        ("paused_s", "f8"),
        ("request", "i4"),
        ("replica", "i4"),
        ("preemptions", "i4"),
        ("cached_tokens", "i4"),
        ("status", "i4"),
    ]
)
_FULL_BYTES = 4096 * _OUTCOME_TYPE.itemsize
_OUTCOMES: dict[str, tuple[npt.DTypeLike, float]] = {
    "replica": (np.int32, -1),
    "first_scheduled_s": (np.float64, np.nan),
    "first_token_s": (np.float64, np.nan),
    "finish_s": (np.float64, np.nan),
    "computed_s": (np.float64, 0.0),
    "lost_s": (np.float64, 0.0),
    "paused_s": (np.float64, 0.0),
    "preemptions": (np.int32, 0),
    "cached_tokens": (np.int32, 0),
    "status": (np.int8, UNFINISHED),
}
"""Type of each column, and what stands in it until something happens: 61 bytes a request."""
_SEGMENT_TYPES = {name: np.float64 if name.endswith("_s") else np.int32 for name in SEGMENT_COLUMNS}


@dataclass(slots=True)
class Log:
    """The steps of one replica."""

    segments: dict[str, Tape] = field(
        default_factory=lambda: {name: Tape(kind) for name, kind in _SEGMENT_TYPES.items()}
    )
    step_end_s: Tape = field(default_factory=lambda: Tape(np.float64))
    resumed_gap_s: Tape = field(default_factory=lambda: Tape(np.float64))
    resumed_end_s: Tape = field(default_factory=lambda: Tape(np.float64))
    returned_step: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    reads: tuple[ReadTotals, ...] = ()
    computed_prefill_tokens: int = 0

    def add_work(self, taken: Taken, reaches: tuple[Reach, ...]) -> None:
        """Count what segments attended in every class of cache, and their prefill chunks."""
        table = taken.segments
        chunk_tokens, past_tokens = taken.chunks.astype(np.int64).T
        first = np.stack((table["growth"].astype(np.int64), table["reads"]), axis=-1)
        lines = np.concatenate((first[:, None], taken.more_reads), axis=1)
        # Every step of a segment attends one position more per sequence whose context grows.
        steps = table["steps"].astype(np.int64)[:, None]
        reads = steps * lines[..., 1] + lines[..., 0] * (steps * (steps - 1) // 2)
        decoded = reads[table["decodes"] + table["padding"] > 0].sum(axis=0)
        before = self.reads or (NOTHING_READ,) * len(reaches)
        self.reads = tuple(
            so_far.plus(_reads(int(of_decodes), chunk_tokens, past_tokens, reach))
            for so_far, of_decodes, reach in zip(before, decoded, reaches, strict=True)
        )
        self.computed_prefill_tokens += int(chunk_tokens.sum())


def _reads(
    decode_reads: int, chunk_tokens: Column, past_tokens: Column, reach: Reach
) -> ReadTotals:
    """What decodes and chunks attended in a class of cache."""
    most, positions = reach.positions, chunk_tokens + past_tokens
    pairs = np.asarray(causal_pairs(chunk_tokens, past_tokens, most)).astype(np.int64)
    if most is not None:
        own = chunk_tokens * most if reach.chosen else chunk_tokens + (most - 1)
        positions = np.minimum(positions, own)
    return ReadTotals(decode_reads, int(pairs.sum()), int(positions.sum()))


@dataclass(frozen=True, slots=True)
class BlockCount:
    """KV blocks of a replica."""

    num_gpu_blocks: int
    """That requests can have."""
    held: int
    """In use at the end."""
    tier: TierCount | None = None
    """What its second tier did."""


@dataclass(frozen=True, slots=True)
class Part:
    """What some replicas of a run recorded; it can be sent to another process."""

    rows: npt.NDArray[np.int64] | None
    """Requests that have an outcome here; None: the columns are those of all requests."""
    outcomes: dict[str, Column]
    arrival_s: Column | None
    """When users who wait for answers wanted their requests sent; None: as the workload says."""
    sent_s: Column | None
    """When a client sent them, NaN if it did not; None: as soon as they arrived."""
    claims: dict[str, Column]
    """What a router took to be so of each, ``CLAIM_COLUMNS``; nothing if it says nothing."""
    logs: dict[int, Log]
    blocks: dict[int, BlockCount]
    """KV blocks, by replica."""
    end_s: float
    """When the last of these replicas had nothing more to do."""


class Recorder:
    """Buffers of a whole run, or of some replicas of it; full ones go to ``scratch``."""

    def __init__(
        self,
        requests: Requests,
        replicas: int,
        reaches: tuple[Reach, ...] = (Reach(None),),
        api: ApiTime = NO_API,
        scratch: Scratch | None = None,
    ) -> None:
        self.requests = requests
        self.api = api
        self.reaches = reaches
        self.replicas = [Journal(recorder.FULL_STEPS) for _ in range(replicas)]
        self._logs = [Log() for _ in range(replicas)]
        self._scratch = scratch or Scratch()
        self.outcomes = Outcomes(self.replicas, _FULL_BYTES, FINISHED, self._take)
        self._outcomes = _no_outcomes(len(requests))
        self._arrival_s: npt.NDArray[np.float64] | None = None
        if requests.waits:
            self._arrival_s = requests.arrival_s.copy()
        self.sent_s: npt.NDArray[np.float64] | None = None
        """When a client sent each request, NaN if it did not; None: each when it arrived."""
        self._claims: dict[str, Column] = {}

        self._handovers: Handovers | None = None

    def claims(self) -> None:
        """The router will say what it takes to be so."""
        rows = len(self.requests)
        self._claims = {
            "claimed_tokens": np.full(rows, -1, np.int32),
            "metrics_age_s": np.full(rows, np.nan, np.float32),
        }

    def routed(self, request: int, claimed_tokens: int, metrics_age_s: float) -> None:
        """The router sent a request, and why."""
        self._claims["claimed_tokens"][request] = claimed_tokens
        self._claims["metrics_age_s"][request] = metrics_age_s

    def begin_handovers(self) -> Handovers:
        """Return where it is noted who computed the prompts of requests that others answered."""
        self._handovers = Handovers(len(self.requests))
        return self._handovers

    def begin_tiers(self) -> None:
        """From now on it is noted what was brought from a second tier."""
        self.outcomes.tiers = bytearray()
        self._outcomes |= tier_outcomes(len(self.requests))

    def arrived(self, request: int, arrival_s: float) -> None:
        """Users issued a request."""
        assert self._arrival_s is not None
        self._arrival_s[request] = arrival_s

    def rejected(self, refused: npt.NDArray[np.bool_]) -> None:
        """These requests are refused on arrival."""
        self._outcomes["status"][refused] = REJECTED

    def _take(self, replica: int) -> None:
        """Something is full."""
        if len(self.outcomes.rows) >= _FULL_BYTES:
            self._keep_outcomes()
        journal = self.replicas[replica]
        if journal.steps >= journal.full_steps:
            self._keep_steps(replica)

    def part(self, blocks: dict[int, BlockCount], end_s: float) -> Part:
        """What was recorded, of the replicas in ``blocks`` (see ``Part``)."""
        self._keep_outcomes()
        if self._handovers is not None:
            self._outcomes |= self._handovers.columns
        for replica in blocks:
            self._keep_steps(replica, everything=True)
        logs = {replica: self._logs[replica] for replica in blocks}
        if len(blocks) == len(self.replicas):
            times = (self._arrival_s, self.sent_s)
            return Part(None, self._outcomes, *times, self._claims, logs, blocks, end_s)
        status, owner = self._outcomes["status"], self._outcomes["replica"]
        rows = np.flatnonzero((status != UNFINISHED) | (owner >= 0))
        outcomes = {name: column[rows] for name, column in self._outcomes.items()}
        claims = {name: column[rows] for name, column in self._claims.items()}
        return Part(rows, outcomes, None, None, claims, logs, blocks, end_s)

    def _keep_outcomes(self) -> None:
        """Move outcomes from their buffer to the columns."""
        table = np.frombuffer(bytes(self.outcomes.rows), _OUTCOME_TYPE)
        self.outcomes.rows.clear()
        if self.outcomes.tiers is not None:
            keep_rows(self.outcomes.tiers, self._outcomes)
        for name in _OUTCOMES:
            column, values = self._outcomes[name], table[name]
            if name.endswith("_s"):
                values = np.where(values < 0, np.nan, values)
            column[table["request"]] = values

    def _keep_steps(self, replica: int, everything: bool = False) -> None:
        """Move steps from a replica's buffers to its log; few stay in memory."""
        journal, log = self.replicas[replica], self._logs[replica]
        taken = recorder.take(journal, everything, len(self.reaches))

        def append(tape: Tape, values: Column) -> None:
            values = values.astype(tape.dtype, copy=False)
            tape.append(np.ascontiguousarray(values) if everything else self._scratch.keep(values))

        table = taken.segments
        columns = {name: table[name] for name in table.dtype.names or ()}
        columns["prefill_tokens"] = _sums(taken.chunks[:, 0].astype(np.int64), table["chunks"])
        for name, tape in log.segments.items():
            if name == "replica":
                tape.append(np.broadcast_to(np.int32(replica), len(table)))
            else:
                append(tape, columns[name])
        append(log.step_end_s, taken.step_end_s)
        append(log.resumed_gap_s, taken.resumed_gap_s)
        append(log.resumed_end_s, taken.resumed_end_s)
        log.add_work(taken, self.reaches)
        if everything:
            log.returned_step = np.array(journal.returned_step, dtype=np.int64)


def result_of(
    requests: Requests,
    parts: SequenceOf[Part],
    api: ApiTime,
    end_s: float,
    stop_s: float = inf,
) -> Result:
    """Put the parts of a run together. What never left the memory becomes arrays.

    Args:
        requests: the workload.
        parts: of all replicas; the columns of a single one are taken over, not copied.
        api: what lies between client and engine.
        end_s: when the last thing happened in the engines.
        stop_s: when the clock was stopped; what a client sees later never happened.
    """
    columns = _request_columns(requests, parts, api, stop_s)
    if requests.session is not None and requests.turn is not None:
        columns |= {"session": requests.session, "turn": requests.turn}
    columns |= parts[0].claims
    if stop_s == inf:
        stop_s = float(np.nanmax(columns["finish_s"], initial=end_s))
    logs = [log for _, log in sorted((n, log) for part in parts for n, log in part.logs.items())]
    short = all(log.step_end_s.in_memory() for log in logs)

    def column(tapes: Iterable[Tape], kind: npt.DTypeLike) -> Column | Tape:
        return joined(tapes, kind)[:] if short else joined(tapes, kind)

    def times(name: str) -> Column | Tape:
        return column((getattr(log, name) for log in logs), np.float64)

    first_steps = accumulate((len(log.step_end_s) for log in logs[:-1]), initial=0)

    return Result(
        requests=columns,
        segments={
            name: column((log.segments[name] for log in logs), kind)
            for name, kind in _SEGMENT_TYPES.items()
        },
        step_end_s=times("step_end_s"),
        resumed_gap_s=times("resumed_gap_s"),
        resumed_end_s=times("resumed_end_s"),
        returned_step=np.concatenate(
            [first + log.returned_step for first, log in zip(first_steps, logs, strict=True)]
        ),
        reads=tuple(log.reads for log in logs),
        replicas=_replica_columns(logs, parts),
        end_s=stop_s,
        closed_loop=requests.users is not None,
        users=requests.users or 0,
    )


def _replica_columns(logs: SequenceOf[Log], parts: SequenceOf[Part]) -> dict[str, Column]:
    """One row per replica: see ``REPLICA_COLUMNS``."""
    by_number = {number: each for part in parts for number, each in part.blocks.items()}
    blocks = [by_number[number] for number in sorted(by_number)]
    columns = {
        "num_gpu_blocks": [each.num_gpu_blocks for each in blocks],
        "blocks_held": [each.held for each in blocks],
        "segments": [len(log.segments["steps"]) for log in logs],
        "steps": [len(log.step_end_s) for log in logs],
        "resumed": [len(log.resumed_gap_s) for log in logs],
        "computed_prefill_tokens": [log.computed_prefill_tokens for log in logs],
    }
    tables = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    return tables | replica_columns([each.tier for each in blocks])


def _request_columns(
    requests: Requests, parts: SequenceOf[Part], api: ApiTime, stop_s: float
) -> dict[str, Column]:
    outcomes, rows = _outcomes(parts, len(requests)), len(requests)
    status, finish_s = outcomes["status"], outcomes["finish_s"]
    first_token_s = outcomes["first_token_s"]
    given_up = status == TIMED_OUT
    timed_out_s: Column = np.broadcast_to(np.nan, rows)
    if given_up.any():
        timed_out_s = np.where(given_up, finish_s, np.nan)
        finish_s[given_up] = np.nan
    # What was under way to the client when it gave up, or the clock stopped, it never had.
    finish_s += api.output_s
    first_token_s += api.output_s
    first_token_s[(first_token_s >= timed_out_s) | (first_token_s > stop_s)] = np.nan
    status[finish_s > stop_s] = UNFINISHED
    finish_s[finish_s > stop_s] = np.nan
    arrival_s = requests.arrival_s if parts[0].arrival_s is None else parts[0].arrival_s
    sent_s = arrival_s if parts[0].sent_s is None else parts[0].sent_s
    return {
        "request": np.arange(rows, dtype=np.int64),
        "arrival_s": arrival_s,
        "sent_s": sent_s,
        "reached_s": api.reached_s(sent_s, requests.prompt_tokens) if api else sent_s,
        "prompt_tokens": requests.prompt_tokens,
        "output_tokens": requests.output_tokens,
        "priority": requests.priority,
        "replica": outcomes["replica"],
        "first_scheduled_s": outcomes["first_scheduled_s"],
        "first_token_s": first_token_s,
        "finish_s": finish_s,
        "timed_out_s": timed_out_s,
        "computed_s": outcomes["computed_s"],
        "lost_s": outcomes["lost_s"],
        "paused_s": outcomes["paused_s"],
        "preemptions": outcomes["preemptions"],
        "cached_tokens": outcomes["cached_tokens"],
        "status": status,
        **{name: outcomes[name] for name in (*HANDOVER_COLUMNS, *TIER_COLUMNS) if name in outcomes},
    }


def _outcomes(parts: SequenceOf[Part], rows: int) -> dict[str, Column]:
    """The outcomes of all requests in one column each."""
    if parts[0].rows is None:
        return parts[0].outcomes
    outcomes = _no_outcomes(rows)
    if "brought_tokens" in parts[0].outcomes:
        outcomes |= tier_outcomes(rows)
    for part in parts:
        for name, column in outcomes.items():
            column[part.rows] = part.outcomes[name]
    return outcomes


def _sums(values: Column, counts: Column) -> Column:
    """Sums of successive stretches of ``values``, as long as ``counts`` says."""
    total = np.concatenate(([0], np.cumsum(values)))
    ends = np.cumsum(counts)
    sums: Column = total[ends] - total[ends - counts]
    return sums


def _no_outcomes(rows: int) -> dict[str, Column]:
    return {name: np.full(rows, missing, dtype=kind) for name, (kind, missing) in _OUTCOMES.items()}
