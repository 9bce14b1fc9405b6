"""Kernels of mixers that no table has: the roofline, at what measured attention kernels reach.

Tables hold attention with grouped heads. Latent, sparse and linear attention and state-space
layers move and compute other amounts, which ``model.mixers`` counts; how near their kernels come to
memory and arithmetic is taken from the attention kernel of the nearest shape, floor and start of
every call included. Each kind that gets a table of its own leaves this room.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import field
from math import exp, log

import numpy as np
import numpy.typing as npt

from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.prices.chunks import reads_of_chunk
from hardware.prices.kernels import Kernels, nearest
from hardware.prices.lines import Line
from hardware.prices.mixer_kernels import DecodeKernel
from hardware.prices.modelled import Roofline, line
from hardware.prices.protocol import DecodeOperators
from hardware.prices.work import Linear
from model.caches import Reach
from model.dataclass import dataclass
from model.mixers.mixer import Mixer
from model.share import Share

Floats = npt.NDArray[np.float64]

STATE_POSITIONS = 1024.0
"""Mean positions of a row with which layers that read none are looked up."""
DECODE_TOKENS, DECODE_POSITIONS = 2048, 8192.0
"""Of the chunk whose share of the roofline stands for the arithmetic of decoding."""


class Unmeasured:
    """Prices of mixers beside the tables of a GPU.

    Args:
        gpu: whose peaks.
        calibration: what an engine adds.
        kernels: the tables.
    """

    def __init__(self, gpu: Gpu, calibration: Calibration, kernels: Kernels) -> None:
        self.calibration, self.kernels = calibration, kernels
        self.roofline = Roofline(gpu, calibration, fused=True)

    def decode(
        self, mixer: Mixer, share: Share, most: int, rows: int = 1
    ) -> dict[Reach | None, DecodeOperators]:
        """See ``Prices``: the longest of a kernel's floor, its traffic and its arithmetic."""
        table, heads, group = self._like(mixer, share)
        floor_s, base_s, reached = table.of_batches(np.arange(most + 1), heads, group)
        reached = reached * self.calibration.attention_decode_bytes
        starts = share.count * self.calibration.attention_decode_start
        flops_share = self._flops_share(mixer, share)
        terms = self.roofline.attention_s(mixer, share, (flops_share, 1.0), decode=True)
        operators: dict[Reach | None, DecodeOperators] = {}
        for reach, compute, memory in terms:
            by_sequences = operators.setdefault(reach, [[] for _ in range(most + 1)])
            for sequences, batch in enumerate(by_sequences):
                base, bytes_share = starts * base_s[sequences], float(reached[sequences])
                moved = line(memory, sequences, rows, reach)
                flat, slope = (seconds / bytes_share for seconds in moved)
                arithmetic = line(compute, sequences, rows, reach)
                batch.append(
                    (
                        (starts * float(floor_s[sequences]), 0.0),
                        (float(base) + flat, slope),
                        (float(base) + arithmetic[0], arithmetic[1]),
                    )
                )
        return operators

    def arithmetic(
        self, mixer: Mixer, share: Share, most: int, rows: int
    ) -> dict[Reach | None, list[list[Line]]]:
        """Return what decoding sequences of several rows compute alone: by reach, of every operator
        its line for 0 to ``most`` sequences."""
        flops_share = self._flops_share(mixer, share)
        found: dict[Reach | None, list[list[Line]]] = {}
        for reach, compute, _ in self.roofline.attention_s(
            mixer, share, (flops_share, 1.0), decode=True
        ):
            lines = [line(compute, sequences, rows, reach) for sequences in range(most + 1)]
            found.setdefault(reach, []).append(lines)
        return found

    def chunks(self, mixer: Mixer, share: Share, overhead_s: float) -> "LikeChunks":
        """See ``Prices``: traffic at what decoding reaches, arithmetic at what prompts reach."""
        table, heads, group = self._like(mixer, share)
        floor_s, _, reached = table.of_batches(np.array([1]), heads, group)
        terms = self.roofline.attention_s(mixer, share, (1.0, 1.0), decode=False)
        surface = nearest(self.kernels.prefill_attention, share.precision.kv_numbers)
        rows, positions = surface.axes["rows"], surface.axes["positions"]
        shares = surface(rows=np.array(rows)[:, None], positions=np.array(positions), group=group)
        return LikeChunks(
            terms=tuple(terms),
            overhead_s=overhead_s,
            launch_s=share.count * len(terms) * float(floor_s[0]),
            bytes_share=float(reached[0]) * self.calibration.attention_decode_bytes,
            heads=max(1, mixer.kernel(share.tp).heads),
            log_rows=np.log(rows).tolist(),
            log_positions=np.log(positions).tolist(),
            log_shares=np.log(_never_cheaper(shares, rows, positions)).tolist(),
        )

    def _like(self, mixer: Mixer, share: Share) -> tuple[DecodeKernel, int, float]:
        """The table of decoding, and the KV heads and the group that a mixer is looked up with."""
        kernel = mixer.kernel(share.tp)
        heads = max(1, kernel.kv_heads)
        table = nearest(self.kernels.decode_attention, share.precision.kv_numbers)
        return table, heads, max(1.0, kernel.heads / heads)

    def _flops_share(self, mixer: Mixer, share: Share) -> float:
        """What a long prompt's attention reaches of the arithmetic."""
        _, heads, group = self._like(mixer, share)
        table = nearest(self.kernels.prefill_attention, share.precision.kv_numbers)
        rows = DECODE_TOKENS * heads * group
        return float(table(rows=rows, positions=DECODE_POSITIONS, group=group))


def _never_cheaper(shares: Floats, rows: Sequence[float], positions: Sequence[float]) -> Floats:
    """Return shares at which more rows, or more positions of each, never take less time.

    A kernel of few rows could be filled up: it takes at most what more rows take. Shape (rows,
    positions).
    """
    seconds = np.outer(rows, positions) / shares
    for axis in (0, 1):
        seconds = np.flip(np.minimum.accumulate(np.flip(seconds, axis), axis), axis)
    return np.asarray(np.outer(rows, positions) / seconds)


@dataclass(frozen=True, slots=True)
class LikeChunks:
    """Every operator takes what its rows do, at the share of the roofline that attention of as many
    rows and positions reaches, or what it moves at all, caches and states, if that takes longer."""

    terms: tuple[tuple[Reach | None, Linear, Linear], ...]
    overhead_s: float
    launch_s: float
    bytes_share: float
    """Of the memory's bandwidth, that reading a cache or a state reaches."""
    heads: int
    """Of queries: each is a row of its own."""
    log_rows: list[float]
    log_positions: list[float]
    log_shares: list[list[float]] = field(repr=False)
    """By rows, then by mean positions of a row."""

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        seconds, reach, pairs, positions = 0.0, Reach(0), 0, 0
        row = _place(self.log_rows, log(chunk * self.heads))
        for reads, compute, memory in self.terms:
            if (reads or Reach(None)) != reach:
                reach = reads or Reach(None)
                pairs, positions = reads_of_chunk(chunk, past, reach)
            each = pairs / chunk if reads else STATE_POSITIONS
            bounds = (_of_rows(compute, chunk, pairs), _of_rows(memory, chunk, pairs))
            busy_s = max(bounds) / self._share(row, each)
            if compute.per_position:  # a product whose rows are the positions
                of_positions = _place(self.log_rows, log(positions * self.heads))
                busy_s += compute.per_position * positions / self._share(of_positions, each)
            moved_s = bounds[1] + memory.per_position * positions + memory.per_sequence
            seconds += max(busy_s, moved_s / self.bytes_share)
        return self.overhead_s + max(seconds - self.launch_s, 0.0)

    def _share(self, of_rows: tuple[int, float], positions: float) -> float:
        """Linear in the logarithms between nodes, constant beyond."""
        row, above = of_rows
        column, right = _place(self.log_positions, log(positions))
        low, high = self.log_shares[row], self.log_shares[row + 1]
        first = low[column] + right * (low[column + 1] - low[column])
        second = high[column] + right * (high[column + 1] - high[column])
        return exp(first + above * (second - first))


def _of_rows(amounts: Linear, chunk: int, pairs: int) -> float:
    """What grows with the rows of a chunk."""
    return amounts.per_row * chunk + amounts.per_pair * pairs


def _place(nodes: list[float], at: float) -> tuple[int, float]:
    """The node below a point, and how far it is towards the next."""
    low = min(max(bisect_right(nodes, at) - 1, 0), len(nodes) - 2)
    return low, min(max((at - nodes[low]) / (nodes[low + 1] - nodes[low]), 0.0), 1.0)
