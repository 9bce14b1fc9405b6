"""The price of a prefill chunk's attention, from the roofline or from measured kernels.

Both answer ``seconds(chunk, past)``: the attention of one chunk over all layers beyond
``launch_s``, what a call of the kernel costs whatever it does. Chunks and decodes of a step share
the call, so it counts once per step.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from math import exp, log
from typing import Protocol

import numpy as np

from hardware.surface import Surface
from model.ops import attended

Term = tuple[float, float, float, float]
"""Of one attention operator over all layers: compute seconds per pair; traffic seconds per query
row, per position, per pair."""


class ChunkCost(Protocol):
    """What a step asks for each of its chunks."""

    @property
    def launch_s(self) -> float:
        """Of one call of the kernel in every layer."""
        ...

    def seconds(self, chunk: int, past: int) -> float:
        """Seconds of a chunk of ``chunk`` tokens that attends ``past`` earlier ones, too."""
        ...


@dataclass(frozen=True, slots=True)
class ModelledChunks:
    """The longer of arithmetic and traffic for every attention operator, and an overhead."""

    terms: tuple[Term, ...]
    overhead_s: float
    sliding_window: int | None
    fused: bool
    launch_s: float = 0.0

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        pairs, positions = attended(chunk, past, self.sliding_window)
        if not self.fused:
            pairs = chunk * positions
        seconds = self.overhead_s
        for per_pair, per_row, per_position, moved_per_pair in self.terms:
            compute = per_pair * pairs
            memory = per_row * chunk + per_position * positions + moved_per_pair * pairs
            seconds += compute if compute > memory else memory
        return seconds


@dataclass(frozen=True, slots=True)
class MeasuredChunks:
    """A roofline over the share of it that kernels reach, by query rows and keys per row.

    Kernels were measured without past; a chunk with past is taken to be as efficient as one of as
    many query rows whose rows attend as many keys on average.
    """

    bound: ModelledChunks
    """The roofline at its peaks, without overhead."""
    overhead_s: float
    launch_s: float
    log_chunks: list[float]
    """Logarithms of the nodes in chunk tokens."""
    log_positions: list[float]
    """Logarithms of the nodes in keys per row."""
    log_shares: list[list[float]] = field(repr=False)
    """By node in chunk tokens, then by node in keys per row."""

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        bound = self.bound
        pairs, _ = attended(chunk, past, bound.sliding_window)
        row, row_share = _bracket(self.log_chunks, log(chunk))
        place, share = _bracket(self.log_positions, log(pairs / chunk))
        low, high = self.log_shares[row], self.log_shares[row + 1]
        near = low[place] + row_share * (high[place] - low[place])
        far = low[place + 1] + row_share * (high[place + 1] - low[place + 1])
        seconds = bound.seconds(chunk, past) / exp(near + share * (far - near)) - self.launch_s
        return self.overhead_s + (seconds if seconds > 0.0 else 0.0)


def measured_chunks(
    bound: ModelledChunks,
    shares: Surface,
    *,
    heads: int,
    group: float,
    overhead_s: float,
    launch_s: float,
) -> MeasuredChunks:
    """Cut the surface of prefill attention at the heads of one rank.

    Args:
        bound: the roofline at its peaks.
        shares: axes rows, positions, group; see ``hardware.kernels.Kernels``.
        heads: query heads of one rank.
        group: query heads per KV head.
        overhead_s: once per chunk.
        launch_s: of the kernel's call, over all layers.
    """
    rows = np.array(shares.axes["rows"])
    positions = np.array(shares.axes["positions"])
    table = shares(rows=rows[:, None], positions=positions, group=group)
    return MeasuredChunks(
        bound=bound,
        overhead_s=overhead_s,
        launch_s=launch_s,
        log_chunks=np.log(rows / heads).tolist(),
        log_positions=np.log(positions).tolist(),
        log_shares=np.log(table).tolist(),
    )


def _bracket(nodes: list[float], at: float) -> tuple[int, float]:
    """Return the node below, and how far ``at`` is towards the next; within the nodes."""
    if at <= nodes[0]:
        return 0, 0.0
    if at >= nodes[-1]:
        return len(nodes) - 2, 1.0
    low = bisect_right(nodes, at) - 1
    return low, (at - nodes[low]) / (nodes[low + 1] - nodes[low])
