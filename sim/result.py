"""What one simulation leaves behind: columns, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hardware.prices.work import ReadTotals
from sim.tape import Column, Tape

UNFINISHED, FINISHED, REJECTED, TIMED_OUT = 0, 1, 2, 3
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
    "finish_s": "when the client had its last token; NaN if it never had",
    "timed_out_s": "when the client gave up; NaN if it did not",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Columns of one simulated run.

    ``requests`` has one row per request (``REQUEST_COLUMNS``, and ``SESSION_COLUMNS`` if there are
    sessions), ``segments`` one per run of equal
    steps (``SEGMENT_COLUMNS``), grouped by replica and in order of time within it. What grows with
    the number of steps may be tapes; ``sim.blocks`` reads it without holding all of it.
    """

    requests: Mapping[str, Column]
    segments: Mapping[str, Column | Tape]
    step_end_s: Column | Tape
    """End of every step, in the order of ``segments``; each segment owns ``steps`` of them."""
    resumed_gap_s: Column | Tape
    """Time between the tokens on both sides of a preemption, or of steps in which the token budget
    did not reach a decoding sequence, one per resumed sequence."""
    resumed_end_s: Column | Tape
    """When each of those gaps ended."""
    returned_step: Column = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Row of ``step_end_s`` in which each sequence decoded again that had been held back: one of
    that step's ``decodes``, but its gap is among the resumed ones. The first of its segment."""
    reads: tuple[ReadTotals, ...]
    """What all steps attended, by class of cache."""
    computed_prefill_tokens: int
    """Prompt tokens computed, recomputation after preemption included."""
    blocks_held: int
    """KV blocks in use at the end, of all replicas."""
    num_gpu_blocks: int
    """Per replica."""
    replicas: int
    end_s: float
    """When the clock stopped."""
    closed_loop: bool = False
    """Users sent the requests, each the next one after an answer: arrivals depend on service."""
    users: int = 0
    """How many; 0 if requests, or sessions, came by themselves."""

    def steps(self) -> dict[str, Column]:
        """Expand a short run to one row per step: ``replica, start_s, end_s, decodes, ...``."""
        repeats = np.asarray(self.segments["steps"])
        columns = {
            name: np.repeat(self.segments[name], repeats)
            for name in ("replica", "decodes", "padding", "chunks", "prefill_tokens", "joined")
        }
        ends = np.asarray(self.step_end_s)
        starts = np.empty_like(ends)
        starts[1:] = ends[:-1]
        first = np.cumsum(repeats) - repeats
        starts[first] = self.segments["start_s"]
        return {"start_s": starts, "end_s": ends, **columns}
