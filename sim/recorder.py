"""Flat buffers that a simulation appends to; turned into columns once, at the end."""

from array import array
from collections.abc import Sequence as SequenceOf

import numpy as np
import numpy.typing as npt

from sim.result import SEGMENT_COLUMNS, Column, Result
from sim.scheduler import Scheduler
from sim.sequence import Batch, Sequence
from workloads.requests import Requests

_WIDTH = len(SEGMENT_COLUMNS) - 1  # all but the replica
_JOINED = list(SEGMENT_COLUMNS).index("joined") - 1
_REQUEST_WIDTH = 7


class ReplicaRecorder:
    """Buffers of one replica: a row per segment, the end of every step, work done."""

    __slots__ = (
        "_last_decode_row",
        "computed_prefill_tokens",
        "decode_context_tokens",
        "prefill_kv_tokens",
        "prefill_pairs",
        "resumed_end_s",
        "resumed_gap_s",
        "rows",
        "segments",
        "step_end_s",
    )

    def __init__(self) -> None:
        self.segments = array("d")
        self.step_end_s = array("d")
        self.rows = 0
        self._last_decode_row = -1
        self.resumed_gap_s = array("d")
        self.resumed_end_s = array("d")
        self.decode_context_tokens = 0
        self.prefill_pairs = 0
        self.prefill_kv_tokens = 0
        self.computed_prefill_tokens = 0

    def begin(self, batch: Batch, now_s: float) -> None:
        """A batch starts: note who lost its blocks for it, and whose work begins."""
        for sequence in batch.preempted:
            self._preempted(sequence)
        for sequence in batch.prefills:
            if sequence.first_scheduled_s < 0:
                sequence.first_scheduled_s = now_s

    def end(
        self, batch: Batch, scheduler: Scheduler, start_s: float, ends_s: SequenceOf[float]
    ) -> list[Sequence]:
        """The steps of a batch are computed: complete it, note its tokens, return who finished."""
        waiting = len(scheduler.waiting)
        finished = scheduler.complete(batch, len(ends_s))
        end_s = ends_s[-1]
        joined = 0
        for sequence in batch.prefills:
            if sequence.kv_tokens < sequence.target_tokens:
                continue
            if sequence.first_token_s < 0:
                sequence.first_token_s = end_s
            else:
                self._resumed(sequence, end_s)
            if sequence.generated_tokens < sequence.output_tokens:
                sequence.joined_row = self.rows
                joined += 1
        self._segment(batch, start_s, ends_s, joined, scheduler.held_blocks, waiting)
        return finished

    def _segment(
        self,
        batch: Batch,
        start_s: float,
        ends_s: SequenceOf[float],
        joined: int,
        kv_blocks: int,
        waiting: int,
    ) -> None:
        """Append one run of equal steps, as in ``SEGMENT_COLUMNS``."""
        steps = len(ends_s)
        prefill_tokens = 0
        for chunk, past in batch.chunks:
            prefill_tokens += chunk
            self.prefill_pairs += chunk * past + chunk * (chunk + 1) // 2
            self.prefill_kv_tokens += past + chunk
        self.computed_prefill_tokens += prefill_tokens
        decodes = batch.decodes
        if decodes:
            growth = decodes * (steps * (steps - 1) // 2)
            self.decode_context_tokens += steps * batch.context_tokens + growth
            self._last_decode_row = self.rows
        self.rows += 1
        self.segments.extend(
            (
                start_s,
                ends_s[-1],
                steps,
                decodes,
                batch.padding,
                len(batch.chunks),
                prefill_tokens,
                joined,
                kv_blocks,
                waiting,
            )
        )
        self.step_end_s.extend(ends_s)

    def _preempted(self, sequence: Sequence) -> None:
        """Remember when a preempted sequence got its last token, if it had one.

        One that was thrown out before the first decode step after its prefill no longer counts as
        joined: no decode step ends the gap that began there.
        """
        row = sequence.joined_row
        if row < 0:
            return
        last = self._last_decode_row
        if last > row:
            sequence.last_token_s = self.segments[last * _WIDTH + 1]
        else:
            sequence.last_token_s = self.segments[row * _WIDTH + 1]
            self.segments[row * _WIDTH + _JOINED] -= 1
        sequence.joined_row = -1

    def _resumed(self, sequence: Sequence, end_s: float) -> None:
        """A sequence that lost its blocks after some tokens produced its next one."""
        self.resumed_gap_s.append(end_s - sequence.last_token_s)
        self.resumed_end_s.append(end_s)


class Recorder:
    """Buffers of a whole run."""

    def __init__(self, requests: Requests, replicas: int) -> None:
        self.requests = requests
        self.replicas = [ReplicaRecorder() for _ in range(replicas)]
        self._ended = array("d")
        self._arrival_s: npt.NDArray[np.float64] | None = None
        if requests.users is not None:
            self._arrival_s = np.full(len(requests), np.nan)

    def arrived(self, request: int, arrival_s: float) -> None:
        """A closed loop issued a request."""
        assert self._arrival_s is not None
        self._arrival_s[request] = arrival_s

    def ended(self, sequence: Sequence, replica: int, status: int, finish_s: float) -> None:
        """A request finished, was rejected, or is still unfinished when the clock stops."""
        self._ended.extend(
            (
                sequence.request,
                replica,
                sequence.first_scheduled_s,
                sequence.first_token_s,
                finish_s,
                sequence.preemptions,
                status,
            )
        )

    def result(
        self, pools: list[tuple[int, int, int]], num_gpu_blocks: int, end_s: float
    ) -> Result:
        """Turn the buffers into columns; ``pools`` holds (allocated, freed, held) per replica."""
        parts = self.replicas
        return Result(
            requests=self._request_columns(),
            segments=self._segment_columns(),
            step_end_s=np.concatenate([np.frombuffer(p.step_end_s, float) for p in parts]),
            resumed_gap_s=np.concatenate([np.frombuffer(p.resumed_gap_s, float) for p in parts]),
            resumed_end_s=np.concatenate([np.frombuffer(p.resumed_end_s, float) for p in parts]),
            decode_context_tokens=sum(p.decode_context_tokens for p in parts),
            prefill_pairs=sum(p.prefill_pairs for p in parts),
            prefill_kv_tokens=sum(p.prefill_kv_tokens for p in parts),
            computed_prefill_tokens=sum(p.computed_prefill_tokens for p in parts),
            blocks_allocated=sum(allocated for allocated, _, _ in pools),
            blocks_freed=sum(freed for _, freed, _ in pools),
            blocks_held=sum(held for _, _, held in pools),
            num_gpu_blocks=num_gpu_blocks,
            replicas=len(parts),
            end_s=end_s,
        )

    def _segment_columns(self) -> dict[str, Column]:
        tables = [np.frombuffer(part.segments, float).reshape(-1, _WIDTH) for part in self.replicas]
        table = np.concatenate(tables)
        replica = np.repeat(np.arange(len(tables), dtype=np.int32), [len(t) for t in tables])
        columns: dict[str, Column] = {"replica": replica}
        for place, name in enumerate(list(SEGMENT_COLUMNS)[1:]):
            values = table[:, place]
            columns[name] = values.copy() if name.endswith("_s") else values.astype(np.int64)
        return columns

    def _request_columns(self) -> dict[str, Column]:
        requests, rows = self.requests, len(self.requests)
        ended = np.frombuffer(self._ended, float).reshape(-1, _REQUEST_WIDTH)
        place = ended[:, 0].astype(np.int64)

        def column(index: int, missing: float, dtype: type) -> Column:
            values: Column = np.full(rows, missing, dtype=dtype)
            values[place] = ended[:, index]
            return values

        def time_column(index: int) -> Column:
            values = column(index, np.nan, np.float64)
            values[values < 0] = np.nan
            return values

        return {
            "request": np.arange(rows, dtype=np.int64),
            "arrival_s": requests.arrival_s if self._arrival_s is None else self._arrival_s,
            "prompt_tokens": requests.prompt_tokens,
            "output_tokens": requests.output_tokens,
            "priority": requests.priority,
            "replica": column(1, -1, np.int32),
            "first_scheduled_s": time_column(2),
            "first_token_s": time_column(3),
            "finish_s": time_column(4),
            "preemptions": column(5, 0, np.int32),
            "status": column(6, 0, np.int8),
        }
