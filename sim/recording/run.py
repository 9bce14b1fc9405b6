"""What a run leaves behind, as it grows: outcomes of requests in columns, steps on tapes."""

from array import array
from collections.abc import Collection
from dataclasses import field
from math import nan

import numpy as np
import numpy.typing as npt

from hardware.prices.work import NOTHING_READ, ReadTotals
from model.caches import Reach
from model.dataclass import dataclass
from model.ops import causal_pairs
from sim.api_server import outboxes, shared_outboxes, take_seen
from sim.engine.journal import Journal
from sim.engine.stages.pipelined_journal import PipelinedJournal
from sim.recording import recorder
from sim.recording.handovers import Handovers
from sim.recording.recorder import Taken
from sim.recording.result import DRAFT_COLUMNS, REJECTED, SEGMENT_COLUMNS, UNFINISHED
from sim.recording.store_use import StoreCount
from sim.recording.tape import Column, Scratch, Tape
from sim.recording.tiers import TierCount, keep_rows, tier_outcomes
from sim.settings.scenario import NO_API, ApiTime
from sim.traffic.client import Client
from sim.traffic.outbox import Outbox
from sim.traffic.outcomes import Outcomes
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
DRAFT_TYPES = dict.fromkeys(DRAFT_COLUMNS, np.int32)
SEGMENT_TYPES = {name: np.float64 if name.endswith("_s") else np.int32 for name in SEGMENT_COLUMNS}


@dataclass(slots=True)
class Log:
    """The steps of one replica."""

    segments: dict[str, Tape] = field(
        default_factory=lambda: {name: Tape(kind) for name, kind in SEGMENT_TYPES.items()}
    )
    drafts: dict[str, Tape] = field(default_factory=dict)
    """Of a run with drafts: ``DRAFT_COLUMNS``."""
    step_end_s: Tape = field(default_factory=lambda: Tape(np.float64))
    seen_s: Tape = field(default_factory=lambda: Tape(np.float64))
    """When clients see the tokens of each step, if the API server is a queue."""
    resumed_gap_s: Tape = field(default_factory=lambda: Tape(np.float64))
    resumed_end_s: Tape = field(default_factory=lambda: Tape(np.float64))
    gaps: Tape = field(default_factory=lambda: Tape(np.int64))
    """With pipeline stages: see ``sim.recording.result.Result.gaps``."""
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
        pairs = taken.drafts[:, 3:].sum(axis=0) if len(taken.drafts) else 0 * decoded
        before = self.reads or (NOTHING_READ,) * len(reaches)
        self.reads = tuple(
            so_far.plus(_reads(int(of_decodes), int(more), chunk_tokens, past_tokens, reach))
            for so_far, of_decodes, more, reach in zip(before, decoded, pairs, reaches, strict=True)
        )
        self.computed_prefill_tokens += int(chunk_tokens.sum())


def _reads(
    decode_reads: int, draft_pairs: int, chunk_tokens: Column, past_tokens: Column, reach: Reach
) -> ReadTotals:
    """What decodes and chunks attended in a class of cache."""
    most, positions = reach.positions, chunk_tokens + past_tokens
    pairs = np.asarray(causal_pairs(chunk_tokens, past_tokens, most)).astype(np.int64)
    if most is not None:
        own = chunk_tokens * most if reach.chosen else chunk_tokens + (most - 1)
        positions = np.minimum(positions, own)
    return ReadTotals(decode_reads, int(pairs.sum()), int(positions.sum()), draft_pairs)


@dataclass(frozen=True, slots=True)
class BlockCount:
    """KV blocks of a replica."""

    num_gpu_blocks: int
    """That requests can have."""
    held: int
    """In use at the end."""
    tier: TierCount | None = None
    """What its second tier did."""
    store: StoreCount | None = None
    """What it did at a store that replicas share."""


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
    reached_s: Column | None
    """When they reach the scheduler; None: as ``all_reached_s`` says."""
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
        drafting: bool = False,
        pipelined: Collection[int] = (),
    ) -> None:
        self.requests = requests
        self.api = api
        self.reaches = reaches
        self._full_steps = recorder.full_steps(replicas)
        self.replicas = [
            (PipelinedJournal if number in pipelined else Journal)(self._full_steps, drafting)
            for number in range(replicas)
        ]
        self._logs = [Log() for _ in range(replicas)]
        for log in self._logs if drafting else ():
            log.drafts = {name: Tape(kind) for name, kind in DRAFT_TYPES.items()}
        self._scratch = scratch or Scratch()
        self.outcomes = Outcomes(self.replicas, _FULL_BYTES, self._take)
        self._outcomes = no_outcomes(len(requests))
        if requests.waits:
            self.outcomes.arrival_s = array("d", requests.arrival_s.tobytes())
        self.client: Client | None = None
        """Who sends requests; None: each is sent when it arrives."""
        self.reached_s: Column | None = None
        """When requests reach the scheduler, once that has been worked out for all of them."""
        self.shared_outboxes = shared_outboxes(api, replicas)
        """Those whose loops read requests as well."""
        self.outboxes: list[Outbox] = [*self.shared_outboxes] or outboxes(api, replicas)
        """What tokens pass on their way to clients, by replica; empty: nothing."""
        self._handovers: Handovers | None = None

    def claims(self) -> None:
        """The router will say what it takes to be so."""
        rows = len(self.requests)
        self.outcomes.claimed_tokens = array("i", [-1]) * rows
        self.outcomes.metrics_age_s = array("f", [nan]) * rows

    def begin_handovers(self) -> Handovers:
        """Return where it is noted who computed the prompts of requests that others answered."""
        self._handovers = Handovers(len(self.requests))
        return self._handovers

    def begin_tiers(self) -> None:
        """From now on it is noted what was brought from a second tier."""
        self.outcomes.tiers = bytearray()
        self._outcomes |= tier_outcomes(len(self.requests))

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
            times = (_column(self.outcomes.arrival_s, np.float64), *self._sent())
            return Part(None, self._outcomes, *times, self._claims(), logs, blocks, end_s)
        status, owner = self._outcomes["status"], self._outcomes["replica"]
        rows = np.flatnonzero((status != UNFINISHED) | (owner >= 0))
        outcomes = {name: column[rows] for name, column in self._outcomes.items()}
        claims = {name: column[rows] for name, column in self._claims().items()}
        return Part(rows, outcomes, None, None, None, claims, logs, blocks, end_s)

    def _sent(self) -> tuple[Column | None, Column | None]:
        """When a client sent requests, and when they reach the scheduler."""
        if self.client is None:
            return None, self.reached_s
        sent_s, reached_s = self.client.sent_s, self.client.reached_s
        return _column(sent_s, np.float64), _column(reached_s, np.float64)

    def _claims(self) -> dict[str, Column]:
        """What a router took to be so; nothing if it says nothing."""
        kinds = {"claimed_tokens": np.int32, "metrics_age_s": np.float32}
        found = {name: _column(getattr(self.outcomes, name), kinds[name]) for name in kinds}
        return {name: column for name, column in found.items() if column is not None}

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
        # What had to stay is not copied again before as much has come: no row is copied often.
        journal.full_steps = journal.steps + max(journal.steps, self._full_steps)

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
        for place, tape in enumerate(log.drafts.values()):
            append(tape, taken.drafts[:, place])
        append(log.step_end_s, taken.step_end_s)
        if self.outboxes:
            append(log.seen_s, take_seen(self.outboxes[replica], table, taken.step_end_s))
        append(log.resumed_gap_s, taken.resumed_gap_s)
        append(log.resumed_end_s, taken.resumed_end_s)
        append(log.gaps, taken.gaps)
        log.add_work(taken, self.reaches)
        if everything:
            log.returned_step = np.array(journal.returned_step, dtype=np.int64)


def _column(values: "array[int] | array[float]", kind: npt.DTypeLike) -> Column | None:
    """Take an array over as a column; None if it is empty."""
    return np.frombuffer(values, kind) if values else None


def _sums(values: Column, counts: Column) -> Column:
    """Sums of successive stretches of ``values``, as long as ``counts`` says."""
    total = np.concatenate(([0], np.cumsum(values)))
    ends = np.cumsum(counts)
    sums: Column = total[ends] - total[ends - counts]
    return sums


def no_outcomes(rows: int) -> dict[str, Column]:
    """Return the columns of requests to which nothing has happened."""
    return {name: np.full(rows, missing, dtype=kind) for name, (kind, missing) in _OUTCOMES.items()}
