"""The price of a prefill chunk's attention, from the roofline or from measured kernels.

All answer ``seconds(chunk, past)``: the attention of one chunk over all layers beyond
``launch_s``, what a call of the kernel costs whatever it does. Chunks and decodes of a step share
the call, so it counts once per step.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from math import exp, log
from typing import Protocol

import numpy as np

from hardware.prices.surface import Surface
from model.causal import attended

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
    """Whole prompts as measured; a chunk with past is what it adds to a prompt.

    ``seconds(chunk, past) = T(past + chunk) - T(past)`` for the time T of a whole prompt, so that a
    prompt costs the same in one piece or in many, and at least the reading of all keys. Fewer rows
    than a kernel's tile take as long as a tile.
    """

    overhead_s: float
    """Once per chunk."""
    launch_s: float
    position_s: float
    """Reading one position, over all layers."""
    log_tokens: list[float] = field(repr=False)
    """Logarithms of the lengths of prompts at the nodes, ascending."""
    log_prompt_s: list[float] = field(repr=False)
    """Logarithms of their seconds, launch included; never falling."""

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        if not past:
            return self.overhead_s + self._prompt_s(chunk) - self.launch_s
        rows = chunk if chunk > TILE_ROWS else TILE_ROWS
        added_s = self._prompt_s(past + rows) - self._prompt_s(past)
        read_s = self.position_s * (past + chunk)
        return self.overhead_s + (added_s if added_s > read_s else read_s)

    def _prompt_s(self, tokens: int) -> float:
        nodes, seconds, at = self.log_tokens, self.log_prompt_s, log(tokens)
        low = min(bisect_right(nodes, at), len(nodes) - 1) - 1
        share = (at - nodes[low]) / (nodes[low + 1] - nodes[low])
        return exp(seconds[low] + share * (seconds[low + 1] - seconds[low]))


@dataclass(frozen=True, slots=True)
class ChunksOfAll:
    """Chunks of a model whose layers have several kinds of attention, one after the other."""

    parts: tuple[ChunkCost, ...]

    @property
    def launch_s(self) -> float:
        """See ``ChunkCost``."""
        return sum(part.launch_s for part in self.parts)

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        return sum(part.seconds(chunk, past) for part in self.parts)


TILE_ROWS = 64
"""Query rows that a block of FlashAttention computes at least together (64 or 128)."""


def measured_chunks(
    bound: ModelledChunks,
    shares: Surface,
    *,
    heads: int,
    group: float,
    overhead_s: float,
    launch_s: float,
) -> MeasuredChunks:
    """Price whole prompts of up to a million tokens with the surface of prefill attention.

    Args:
        bound: the roofline at its peaks.
        shares: axes rows, positions, group; see ``hardware.prices.kernels.Kernels``.
        heads: query heads of one rank.
        group: query heads per KV head.
        overhead_s: once per chunk.
        launch_s: of the kernel's call, over all layers.
    """
    tokens = np.unique(np.rint(np.geomspace(1, 2**20, 81)))
    reached = shares(rows=tokens * heads, positions=(tokens + 1) / 2, group=group)
    bound_s = np.array([bound.seconds(int(length), 0) for length in tokens])
    prompt_s = np.maximum.accumulate(np.maximum(bound_s / reached, launch_s))
    return MeasuredChunks(
        overhead_s=overhead_s,
        launch_s=launch_s,
        position_s=sum(per_position for _, _, per_position, _ in bound.terms),
        log_tokens=np.log(tokens).tolist(),
        log_prompt_s=np.log(prompt_s).tolist(),
    )
