"""Flat buffers that a simulation appends to; turned into columns once, at the end."""

from array import array
from collections.abc import Sequence as SequenceOf
from math import inf
from struct import Struct

import numpy as np
import numpy.typing as npt

from model.ops import attended
from sim.result import FINISHED, SEGMENT_COLUMNS, TIMED_OUT, UNFINISHED, Column, Result
from sim.scenario import NO_API, ApiTime
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence
from workloads.requests import Requests

# Rows are packed: a segment takes 60 bytes, a request 44.
_SEGMENT = Struct("=2d9iq")
_SEGMENT_TYPE = np.dtype(
    [(name, "f8" if name.endswith("_s") else "i4") for name in list(SEGMENT_COLUMNS)[1:]]
    + [("growth", "i4"), ("context_tokens", "i8")]
)
_END_S, _END_S_AT = Struct("=d"), 8
_JOINED, _JOINED_AT = Struct("=i"), 36
_REQUEST = Struct("=3d5i")
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
    """Buffers of one replica: a row per segment, the end of every step, work done."""

    __slots__ = (
        "_last_decode_row",
        "prefill_kv_tokens",
        "prefill_pairs",
        "resumed_end_s",
        "resumed_gap_s",
        "returned_step",
        "rows",
        "segments",
        "sliding_window",
        "step_end_s",
    )

    def __init__(self, sliding_window: int | None = None) -> None:
        self.sliding_window = sliding_window
        self.segments = bytearray()
        self.step_end_s = array("d")
        self.rows = 0
        self._last_decode_row = -1
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.returned_step = array("q")
        self.prefill_pairs = 0
        self.prefill_kv_tokens = 0

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks for it, and whose work begins."""
        for sequence in batch.preempted:
            self.left(sequence)
        for sequence in batch.held_back:
            self.left(sequence)
        for sequence in batch.prefills:
            if sequence.first_scheduled_s < 0:
                sequence.first_scheduled_s = now_s

    def end(
        self, batch: Batch, scheduler: Scheduler, start_s: float, ends_s: SequenceOf[float]
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        steps, end_s = len(ends_s), ends_s[-1]
        waiting = len(scheduler.waiting)
        finished = scheduler.complete(batch, steps)
        row = self.rows
        self.rows = row + 1
        decodes, chunks = batch.decodes, batch.chunks
        if decodes:
            self._last_decode_row = row
        joined = prefill_tokens = 0
        if chunks:
            for place, sequence in enumerate(batch.prefills):
                chunk, past = chunks[place]
                prefill_tokens += chunk
                computed = past + chunk
                pairs, positions = attended(chunk, past, self.sliding_window)
                self.prefill_pairs += pairs
                self.prefill_kv_tokens += positions
                if computed < sequence.target_tokens:
                    continue
                if sequence.first_token_s < 0:
                    sequence.first_token_s = end_s
                else:
                    self._resumed(sequence, end_s)
                if sequence.generated_tokens < sequence.output_tokens:
                    sequence.joined_row = row
                    joined += 1
        if batch.returned:
            for sequence in batch.returned:
                self._resumed(sequence, end_s)
                self.returned_step.append(len(self.step_end_s))
                sequence.joined_row = row - 1  # before this one: it did not join in it
        self.segments += _SEGMENT.pack(
            start_s,
            end_s,
            steps,
            decodes,
            batch.padding,
            len(chunks),
            prefill_tokens,
            joined,
            scheduler.held_blocks,
            waiting,
            batch.growth,
            batch.context_tokens,
        )
        if steps == 1:
            self.step_end_s.append(end_s)
        else:
            self.step_end_s.extend(ends_s)
        return finished

    def left(self, sequence: Sequence) -> None:
        """A sequence was thrown out or held back: remember when it got its last token, if any.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        row = sequence.joined_row
        if row < 0:
            return
        segments, last = self.segments, max(self._last_decode_row, row)
        (sequence.last_token_s,) = _END_S.unpack_from(segments, last * _SEGMENT.size + _END_S_AT)
        if last == row:
            place = row * _SEGMENT.size + _JOINED_AT
            _JOINED.pack_into(segments, place, _JOINED.unpack_from(segments, place)[0] - 1)
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
        self.replicas = [ReplicaRecorder(sliding_window) for _ in range(replicas)]
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
        self._ended += _REQUEST.pack(
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
        pack = _REQUEST.pack
        for sequence in sequences:
            self._ended += pack(
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
        return Result(
            requests=columns,
            segments=segments,
            step_end_s=np.concatenate([np.frombuffer(p.step_end_s, float) for p in parts]),
            resumed_gap_s=np.concatenate([np.frombuffer(p.resumed_gap_s, float) for p in parts]),
            returned_step=self._returned_steps(),
            resumed_end_s=np.concatenate([np.frombuffer(p.resumed_end_s, float) for p in parts]),
            decode_context_tokens=int(contexts[decodes > 0].sum()),
            prefill_pairs=sum(p.prefill_pairs for p in parts),
            prefill_kv_tokens=sum(p.prefill_kv_tokens for p in parts),
            computed_prefill_tokens=int(segments["prefill_tokens"].sum()),
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
