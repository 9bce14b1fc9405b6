"""What one simulation leaves behind: columns, and nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from hardware.prices.work import ReadTotals
from model.dataclass import dataclass
from sim.recording.tape import Column, Tape, stretch
from sim.traffic import outcomes

UNFINISHED, FINISHED = outcomes.UNFINISHED, outcomes.FINISHED
REJECTED, TIMED_OUT = outcomes.REJECTED, outcomes.TIMED_OUT
STATUS_NAMES = ("unfinished", "finished", "rejected", "timed out")

REQUEST_COLUMNS = {
    "request": "row of the workload, from 0",
    "arrival_s": "when the client wanted to send the request",
    "sent_s": "when it was sent: later only with client.max_concurrency; NaN if never",
    "reached_s": "when it reached the engine's scheduler: later by the API's time",
    "prompt_tokens": "tokens of the prompt",
    "output_tokens": "tokens to generate",
    "priority": "lower goes first",
    "replica": "which replica served it; -1 when rejected",
    "first_scheduled_s": "start of the first step that worked on it; NaN if none did",
    "first_token_s": "when the client had its first token: end of the step, and the API's time; "
    "NaN if it never had",
    "streaming_s": "time of its first token in the queue of the API server, on its way out",
    "finish_s": "when the client had its last token; NaN if it never had",
    "timed_out_s": "when the client gave up; NaN if it did not",
    "computed_s": "until its first token: time of the steps that computed a part of its prompt",
    "lost_s": "until its first token: time from losing its KV blocks to the next step that worked "
    "on it",
    "paused_s": "after its first token: time of the gaps between tokens in which it lost its KV "
    "blocks or its turn",
    "preemptions": "how often it lost its KV blocks and was computed again",
    "cached_tokens": "prompt tokens that the prefix cache had when it was first admitted",
    "status": "0 unfinished, 1 finished, 2 rejected, 3 timed out",
}
"""Columns of the request table: the same in DataFrame, CSV and Parquet."""

SESSION_COLUMNS = {
    "session": "number of its conversation, from 0",
    "turn": "number in it, from 0; one without an arrival was never asked",
}
"""Further columns of the request table, of a workload with sessions."""

CLAIM_COLUMNS = {
    "claimed_tokens": "prompt tokens that the router took to be cached where it sent the request; "
    "-1 if it was sent nowhere",
    "metrics_age_s": "how old the engines' metrics were that the router looked at; NaN if at none",
}
"""Further columns of the request table, of a router that looks at caches."""

SEGMENT_COLUMNS = {
    "replica": "whose step it was",
    "start_s": "start of the first step",
    "end_s": "end of the last step",
    "steps": "how many consecutive steps the row stands for; they differ in context only",
    "decodes": "sequences that each step gave one token by decoding",
    "padding": "finished rows that a static batch still computes",
    "chunks": "prefill chunks in the step",
    "prefill_tokens": "tokens of all chunks together",
    "joined": "sequences whose prefill ended here and that decode from the next step on",
    "kv_blocks": "KV blocks held in the last step, by those who end with it too",
}
"""Columns of the segment table: runs of equal steps."""

DRAFT_COLUMNS = {
    "rows": "query rows of those who decode, padding included: each has one and one per draft",
    "gained": "tokens that each step gave by decoding: one per sequence, and the accepted drafts",
    "drafted": "drafts that each step verified",
}
"""Further columns of the segment table, of a run in which somebody makes drafts."""

REPLICA_COLUMNS = {
    "num_gpu_blocks": "KV blocks that requests can have",
    "blocks_held": "KV blocks in use at the end",
    "segments": "rows of the segment table that are its own",
    "steps": "ends of steps that are its own",
    "resumed": "gaps of resumed sequences that are its own",
    "gaps": "numbers of its gaps by steps, with pipeline stages",
    "computed_prefill_tokens": "prompt tokens computed, recomputation after preemption included",
}
"""Columns of the replica table; replicas are numbered from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Columns of one simulated run.

    ``requests`` has one row per request (``REQUEST_COLUMNS``, and ``SESSION_COLUMNS`` if there are
    sessions), ``segments`` one per run of equal steps (``SEGMENT_COLUMNS``, and ``DRAFT_COLUMNS``
    if there are drafts), grouped by replica and in order of time within it. What grows with the
    number of steps may be tapes; ``sim.recording.blocks`` reads it without holding all of it.
    """

    requests: Mapping[str, Column]
    segments: Mapping[str, Column | Tape]
    step_end_s: Column | Tape
    """End of every step, in the order of ``segments``; each segment owns ``steps`` of them."""
    seen_s: Column | Tape | None = None
    """When clients see the tokens of each; None: at its end."""
    resumed_gap_s: Column | Tape
    """Time between the tokens on both sides of a preemption, or of steps in which the token budget
    did not reach a decoding sequence, one per resumed sequence."""
    resumed_end_s: Column | Tape
    """When each of those gaps ended."""
    returned_step: Column = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Row of ``step_end_s`` in which each sequence decoded again that had been held back: one of
    that step's ``decodes``, but its gap is among the resumed ones. The first of its segment."""
    gaps: Column | Tape = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """With pipeline stages, where the steps before that of a token are many: of each step how many
    tokens follow those of which earlier one; three numbers each, steps counted by replica."""
    reads: tuple[tuple[ReadTotals, ...], ...]
    """What all steps of each replica attended, by class of cache."""
    replicas: Mapping[str, Column]
    """One row per replica (``REPLICA_COLUMNS``)."""
    end_s: float
    """When the clock stopped."""
    closed_loop: bool = False
    """Users sent the requests, each the next one after an answer: arrivals depend on service."""
    users: int = 0
    """How many; 0 if requests, or sessions, came by themselves."""

    def total(self, name: str) -> int:
        """Sum a column of ``replicas``."""
        return int(self.replicas[name].sum())

    def reads_of(self, numbers: Iterable[int]) -> tuple[ReadTotals, ...]:
        """Add up what some replicas attended, by class of cache."""
        each = zip(*(self.reads[number] for number in numbers), strict=True)
        return tuple(reduce(ReadTotals.plus, of_class) for of_class in each)

    def sent_to(self, numbers: range) -> npt.NDArray[np.bool_]:
        """Which requests successive replicas were sent: shape (requests,)."""
        replica = self.requests["replica"]
        return (replica >= numbers.start) & (replica < numbers.stop)

    def of_replicas(self, numbers: range) -> "Result":
        """Return what successive replicas did, and the requests that they were sent.

        They are numbered from 0 there.
        """
        rows = self.sent_to(numbers)
        segments, steps, resumed, gaps = (
            self._own(name, numbers) for name in ("segments", "steps", "resumed", "gaps")
        )
        returned = self.returned_step
        requests = {name: column[rows] for name, column in self.requests.items()}
        columns = {name: stretch(column, segments) for name, column in self.segments.items()}
        counts = self.replicas["segments"][numbers.start : numbers.stop]
        columns["replica"] = np.repeat(np.arange(len(numbers), dtype=np.int32), counts)
        return replace(
            self,
            requests=requests | {"replica": requests["replica"] - np.int32(numbers.start)},
            segments=columns,
            step_end_s=stretch(self.step_end_s, steps),
            seen_s=None if self.seen_s is None else stretch(self.seen_s, steps),
            resumed_gap_s=stretch(self.resumed_gap_s, resumed),
            resumed_end_s=stretch(self.resumed_end_s, resumed),
            gaps=stretch(self.gaps, gaps),
            returned_step=returned[slice(*np.searchsorted(returned, steps))] - steps[0],
            reads=self.reads[numbers.start : numbers.stop],
            replicas={
                name: column[numbers.start : numbers.stop] for name, column in self.replicas.items()
            },
        )

    def _own(self, name: str, numbers: range) -> tuple[int, int]:
        """First row and end of what some replicas have of something that lies by replica."""
        if name not in self.replicas:
            return 0, 0
        ends = np.concatenate(([0], np.cumsum(self.replicas[name])))
        return int(ends[numbers.start]), int(ends[numbers.stop])

    def steps(self) -> dict[str, Column]:
        """Expand a short run to one row per step: ``replica, start_s, end_s, decodes, ...``."""
        repeats = np.asarray(self.segments["steps"])
        columns = {
            name: np.repeat(self.segments[name], repeats)
            for name in ("replica", "decodes", "padding", "chunks", "prefill_tokens", "joined")
        }
        for name in DRAFT_COLUMNS:
            if name in self.segments:
                columns[name] = np.repeat(self.segments[name], repeats)
        ends = np.asarray(self.step_end_s)
        starts = np.empty_like(ends)
        starts[1:] = ends[:-1]
        first = np.cumsum(repeats) - repeats
        starts[first] = self.segments["start_s"]
        return {"start_s": starts, "end_s": ends, **columns}
