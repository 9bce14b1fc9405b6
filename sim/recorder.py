"""Flat buffers that a simulation appends to; turned into columns once, at the end."""

from array import array
from collections.abc import Sequence as SequenceOf
from math import inf
from struct import Struct

import numpy as np
import numpy.typing as npt

from model.ops import causal_pairs
from sim.result import FINISHED, TIMED_OUT, UNFINISHED, Column, Result
from sim.scenario import NO_API, ApiTime
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence
from workloads.requests import Requests

# Rows are packed: a segment takes 56 bytes, a request 44.
_SEGMENT = Struct("=2d8iq")
_SEGMENT_BYTES, _pack_segment = _SEGMENT.size, _SEGMENT.pack
_SEGMENT_TYPE = np.dtype(
    [
        ("start_s", "f8"),
        ("end_s", "f8"),
        ("steps", "i4"),
        ("decodes", "i4"),
        ("padding", "i4"),
        ("chunks", "i4"),
        ("joined", "i4"),
        ("kv_blocks", "i4"),
        ("waiting", "i4"),
        ("growth", "i4"),
        ("context_tokens", "i8"),
    ]
)
_pack_chunk = Struct("=2i").pack
_END_S, _END_S_AT = Struct("=d"), 8
_INT, _DECODES_AT, _JOINED_AT = Struct("=i"), 20, 32
_pack_request = Struct("=3d5i").pack
_REQUEST_TYPE = np.dtype(
    [
        ("first_scheduled_s", "f8"),
        ("first_token_s", "f8"),
        ("finish_s", "f8"),
        ("request", "i4"),
        ("replica", "i4"),
        ("preemptions", "i4"),
        ("cached_tokens", "i4"),
        ("status", "i4"),
    ]
)


class ReplicaRecorder:
    """Buffers of one replica: a row per segment, the end of every step, every prefill chunk."""

    __slots__ = (
        "chunks",
        "resumed_end_s",
        "resumed_gap_s",
        "returned_step",
        "segments",
        "step_end_s",
        "steps",
    )

    def __init__(self) -> None:
        self.segments = bytearray()
        self.chunks = bytearray()
        self.step_end_s = array("d")
        """Behind those of all segments, the ends of the batch under way: to be put here by whoever
        drives the scheduler, before ``end``."""
        self.steps = 0
        """Of all segments so far."""
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.returned_step = array("q")

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks or its turn for it, and whose work begins."""
        if batch.preempted or batch.held_back:
            for sequence in (*batch.preempted, *batch.held_back):
                self.left(sequence)
        for sequence in batch.prefills:
            if sequence.first_scheduled_s < 0.0:
                sequence.first_scheduled_s = now_s

    def end(
        self, batch: Batch, scheduler: Scheduler, start_s: float, end_s: float
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        steps = len(self.step_end_s) - self.steps
        self.steps += steps
        finished = scheduler.complete(batch, steps)
        chunks = batch.chunks
        joined = self._end_chunks(batch, end_s) if chunks else 0
        if batch.returned:
            self._end_pauses(batch, end_s)
        self.segments += _pack_segment(
            start_s,
            end_s,
            steps,
            batch.decodes,
            batch.padding,
            len(chunks),
            joined,
            scheduler.held_blocks,
            len(scheduler.waiting),
            batch.growth,
            batch.context_tokens,
        )
        return finished

    def _end_chunks(self, batch: Batch, end_s: float) -> int:
        """Note the chunks, and the tokens that came of them; return how many decode from now on."""
        joined = 0
        for chunk, past in batch.chunks:
            self.chunks += _pack_chunk(chunk, past)
        for sequence in batch.prefills:
            if sequence.kv_tokens < sequence.target_tokens:
                continue
            if sequence.first_token_s < 0.0:
                sequence.first_token_s = end_s
            else:
                self._resumed(sequence, end_s)
            if sequence.finish_step >= 0:
                sequence.joined_row = len(self.segments) // _SEGMENT_BYTES
                joined += 1
        return joined

    def _end_pauses(self, batch: Batch, end_s: float) -> None:
        """Note those who decoded again after they were held back."""
        for sequence in batch.returned:
            self._resumed(sequence, end_s)
            self.returned_step.append(self.steps - 1)
            # Before the row to come: it did not join in it.
            sequence.joined_row = len(self.segments) // _SEGMENT_BYTES - 1

    def left(self, sequence: Sequence) -> None:
        """A sequence was thrown out or held back: remember when it got its last token, if any.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        joined_row = sequence.joined_row
        if joined_row < 0:
            return
        segments, size = self.segments, _SEGMENT_BYTES
        row = len(segments) // size - 1
        while row > joined_row and not _INT.unpack_from(segments, row * size + _DECODES_AT)[0]:
            row -= 1
        (sequence.last_token_s,) = _END_S.unpack_from(segments, row * size + _END_S_AT)
        if row == joined_row:
            place = row * size + _JOINED_AT
            _INT.pack_into(segments, place, _INT.unpack_from(segments, place)[0] - 1)
        sequence.joined_row = -1

    def _resumed(self, sequence: Sequence, end_s: float) -> None:
        """A sequence that lost its blocks or its turn after some tokens produced its next one."""
        self.resumed_gap_s.append(end_s - sequence.last_token_s)
        self.resumed_end_s.append(end_s)


class Recorder:
    """Buffers of a whole run."""

    def __init__(
        self,
        requests: Requests,
        replicas: int,
        sliding_window: int | None = None,
        api: ApiTime = NO_API,
    ) -> None:
        self.requests = requests
        self.api = api
        self.sliding_window = sliding_window
        self.replicas = [ReplicaRecorder() for _ in range(replicas)]
        self._ended = bytearray()
        self._arrival_s: npt.NDArray[np.float64] | None = None
        if requests.users is not None:
            self._arrival_s = np.full(len(requests), np.nan)
        self.sent_s: npt.NDArray[np.float64] | None = None
        """When a client sent each request, NaN if it did not; None: each when it arrived."""

    def arrived(self, request: int, arrival_s: float) -> None:
        """A closed loop issued a request."""
        assert self._arrival_s is not None
        self._arrival_s[request] = arrival_s

    def ended(self, sequence: Sequence, replica: int, status: int, finish_s: float) -> None:
        """A request finished, was rejected or given up, or is unfinished when the clock stops.

        ``finish_s`` is when it was given up, in that case.
        """
        self._ended += _pack_request(
            sequence.first_scheduled_s,
            sequence.first_token_s,
            finish_s,
            sequence.request,
            replica,
            sequence.preemptions,
            sequence.cached_tokens,
            status,
        )

    def finished(self, sequences: SequenceOf[Sequence], replica: int, now_s: float) -> None:
        """Sequences produced their last token, now."""
        for sequence in sequences:
            self._ended += _pack_request(
                sequence.first_scheduled_s,
                sequence.first_token_s,
                now_s,
                sequence.request,
                replica,
                sequence.preemptions,
                sequence.cached_tokens,
                FINISHED,
            )

    def result(
        self,
        pools: list[tuple[int, int, int]],
        num_gpu_blocks: int,
        end_s: float,
        stop_s: float = inf,
    ) -> Result:
        """Turn the buffers into columns.

        Args:
            pools: (allocated, freed, held) blocks per replica.
            num_gpu_blocks: per replica.
            end_s: when the last thing happened in the engines.
            stop_s: when the clock was stopped; what a client sees later never happened.
        """
        columns = self._request_columns(stop_s)
        if stop_s == inf:
            stop_s = float(np.nanmax(columns["finish_s"], initial=end_s))
        parts = self.replicas
        segments = self._segment_columns()
        steps, decodes = segments["steps"], segments["decodes"]
        # Every step of a segment attends one position more per sequence whose context grows.
        growth = segments.pop("growth")
        contexts = steps * segments.pop("context_tokens") + growth * (steps * (steps - 1) // 2)
        chunk_tokens, past_tokens = self._chunk_columns()
        segments["prefill_tokens"] = _sums(chunk_tokens, segments["chunks"])
        positions = chunk_tokens + past_tokens
        if self.sliding_window is not None:
            positions = np.minimum(positions, chunk_tokens + (self.sliding_window - 1))
        pairs = np.asarray(causal_pairs(chunk_tokens, past_tokens, self.sliding_window))
        return Result(
            requests=columns,
            segments=segments,
            step_end_s=np.concatenate([np.frombuffer(p.step_end_s, float) for p in parts]),
            resumed_gap_s=np.concatenate([np.frombuffer(p.resumed_gap_s, float) for p in parts]),
            returned_step=self._returned_steps(),
            resumed_end_s=np.concatenate([np.frombuffer(p.resumed_end_s, float) for p in parts]),
            decode_context_tokens=int(contexts[decodes > 0].sum()),
            prefill_pairs=int(pairs.astype(np.int64).sum()),
            prefill_kv_tokens=int(positions.sum()),
            computed_prefill_tokens=int(chunk_tokens.sum()),
            blocks_allocated=sum(allocated for allocated, _, _ in pools),
            blocks_freed=sum(freed for _, freed, _ in pools),
            blocks_held=sum(held for _, _, held in pools),
            num_gpu_blocks=num_gpu_blocks,
            replicas=len(parts),
            end_s=stop_s,
            closed_loop=self.requests.users is not None,
        )

    def _returned_steps(self) -> npt.NDArray[np.int64]:
        before, rows = 0, []
        for part in self.replicas:
            rows.append(before + np.frombuffer(part.returned_step, np.int64))
            before += len(part.step_end_s)
        return np.concatenate(rows)

    def _segment_columns(self) -> dict[str, Column]:
        tables = [np.frombuffer(part.segments, _SEGMENT_TYPE) for part in self.replicas]
        replica = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
        columns: dict[str, Column] = {"replica": replica}
        for name in _SEGMENT_TYPE.names or ():
            kind = np.float64 if name.endswith("_s") else np.int64
            columns[name] = np.concatenate([table[name] for table in tables], dtype=kind)
        return columns

    def _chunk_columns(self) -> tuple[Column, Column]:
        """``(chunk_tokens, past_tokens)`` of all prefill chunks, in the order of the segments."""
        rows = [np.frombuffer(part.chunks, "=i4").reshape(-1, 2) for part in self.replicas]
        columns = np.concatenate(rows, dtype=np.int64)
        return columns[:, 0], columns[:, 1]

    def _request_columns(self, stop_s: float) -> dict[str, Column]:
        requests, rows = self.requests, len(self.requests)
        ended = np.frombuffer(self._ended, _REQUEST_TYPE)
        place = ended["request"]

        def column(name: str, missing: float, kind: type) -> Column:
            values: Column = np.full(rows, missing, dtype=kind)
            values[place] = ended[name]
            return values

        def time_column(name: str) -> Column:
            values = column(name, np.nan, np.float64)
            values[values < 0] = np.nan
            return values

        arrival_s = requests.arrival_s if self._arrival_s is None else self._arrival_s
        sent_s = arrival_s if self.sent_s is None else self.sent_s
        status, left_s = column("status", 0, np.int8), time_column("finish_s")
        given_up = status == TIMED_OUT
        timed_out_s = np.where(given_up, left_s, np.nan)
        # What was under way to the client when it gave up, or the clock stopped, it never had.
        finish_s = np.where(given_up, np.nan, left_s) + self.api.output_s
        first_token_s = time_column("first_token_s") + self.api.output_s
        first_token_s[(first_token_s >= timed_out_s) | (first_token_s > stop_s)] = np.nan
        status[finish_s > stop_s] = UNFINISHED
        finish_s[finish_s > stop_s] = np.nan
        return {
            "request": np.arange(rows, dtype=np.int64),
            "arrival_s": arrival_s,
            "sent_s": sent_s,
            "reached_s": self.api.reached_s(sent_s, requests.prompt_tokens),
            "prompt_tokens": requests.prompt_tokens,
            "output_tokens": requests.output_tokens,
            "priority": requests.priority,
            "replica": column("replica", -1, np.int32),
            "first_scheduled_s": time_column("first_scheduled_s"),
            "first_token_s": first_token_s,
            "finish_s": finish_s,
            "timed_out_s": timed_out_s,
            "preemptions": column("preemptions", 0, np.int32),
            "cached_tokens": column("cached_tokens", 0, np.int32),
            "status": status,
        }


def _sums(values: Column, counts: Column) -> Column:
    """Sums of successive stretches of ``values``, as long as ``counts`` says."""
    total = np.concatenate(([0], np.cumsum(values)))
    ends = np.cumsum(counts)
    sums: Column = total[ends] - total[ends - counts]
    return sums
