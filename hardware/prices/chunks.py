"""The price of a prefill chunk's attention, from the roofline or from measured kernels.

All answer ``seconds(chunk, past)``: the attention of one chunk over all layers beyond
``launch_s``, what a call of the kernel costs whatever it does. Chunks and decodes of a step share
the call, so it counts once per step.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import field
from math import exp, log
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hardware.prices.work import Linear
from model.caches import Reach
from model.causal import attended
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]


class ChunkTerm(NamedTuple):
    """One attention operator over all layers, in seconds."""

    reach: Reach
    compute: Linear
    memory: Linear


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

    terms: tuple[ChunkTerm, ...]
    overhead_s: float
    fused: bool
    launch_s: float = 0.0

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        seconds, reach, pairs, positions = self.overhead_s, None, 0, 0
        for term in self.terms:
            if term.reach is not reach:
                reach = term.reach
                pairs, positions = reads_of_chunk(chunk, past, reach)
                if not self.fused:
                    pairs = chunk * positions
            once, per_row, per_pair, per_position = term.compute
            compute = per_pair * pairs + per_row * chunk + per_position * positions + once
            once, per_row, per_pair, per_position = term.memory
            memory = per_row * chunk + per_position * positions + per_pair * pairs + once
            seconds += compute if compute > memory else memory
        return seconds


def reads_of_chunk(chunk: int, past: int, reach: Reach) -> tuple[int, int]:
    """Return the (query, position) pairs of a chunk, and the positions that it reads."""
    pairs, positions = attended(chunk, past, reach.positions)
    if reach.chosen and reach.positions is not None:
        positions = min(chunk + past, chunk * reach.positions)
    return pairs, positions


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
    past_s: float
    """Making keys and values of an earlier position again (latent attention), over all layers."""
    reach: Reach
    log_tokens: list[float] = field(repr=False)
    """Logarithms of the lengths of prompts at the nodes, ascending."""
    log_prompt_s: list[float] = field(repr=False)
    """Logarithms of their seconds, launch included; never falling."""
    known_s: dict[int, float] = field(default_factory=dict, compare=False, repr=False)
    """By tokens of a prompt, what was asked before: what one chunk ends with, the next begins with,
    and there are no more than tokens of the longest context."""

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        if not past:
            return self.overhead_s + self._prompt_s(chunk) - self.launch_s
        rows = chunk if chunk > TILE_ROWS else TILE_ROWS
        known_s, end = self.known_s, past + rows
        begun_s = known_s[past] if past in known_s else self._prompt_s(past)
        added_s = (known_s[end] if end in known_s else self._prompt_s(end)) - begun_s
        positions = past + chunk
        if self.reach.positions is not None:
            positions = reads_of_chunk(chunk, past, self.reach)[1]
        read_s, made_s = self.position_s * positions, self.past_s * past
        return self.overhead_s + made_s + (added_s if added_s > read_s else read_s)

    def _prompt_s(self, tokens: int) -> float:
        if tokens in self.known_s:
            return self.known_s[tokens]
        nodes, seconds, at = self.log_tokens, self.log_prompt_s, log(tokens)
        low = min(bisect_right(nodes, at), len(nodes) - 1) - 1
        share = (at - nodes[low]) / (nodes[low + 1] - nodes[low])
        found = exp(seconds[low] + share * (seconds[low + 1] - seconds[low]))
        self.known_s[tokens] = found
        return found


@dataclass(frozen=True, slots=True)
class StateChunks:
    """Chunks of layers with a state: what is behind them is in the state, and costs nothing."""

    prompts: MeasuredChunks
    known_s: dict[int, float] = field(default_factory=dict, compare=False, repr=False)
    """By tokens of a chunk, what was asked before: there are no more than tokens of a step."""

    @property
    def launch_s(self) -> float:
        """See ``ChunkCost``."""
        return self.prompts.launch_s

    def seconds(self, chunk: int, past: int) -> float:
        """See ``ChunkCost``."""
        seconds = self.known_s.get(chunk)
        if seconds is None:
            seconds = self.known_s[chunk] = self.prompts.seconds(chunk, 0)
        return seconds


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
        seconds = 0.0
        for part in self.parts:
            seconds += part.seconds(chunk, past)
        return seconds


TILE_ROWS = 64
"""Query rows that a block of FlashAttention computes at least together (64 or 128)."""


def measured_chunks(
    bound: ModelledChunks,
    share_of: Callable[[Floats, Floats], Floats],
    *,
    overhead_s: float,
    launch_s: float,
    past_s: float = 0.0,
) -> MeasuredChunks:
    """Price whole prompts of up to a million tokens with a surface of prefill kernels.

    Args:
        bound: the roofline at its peaks.
        share_of: of the roofline that prompts reach, by their tokens and mean keys of a row.
        overhead_s: once per chunk.
        launch_s: of the kernel's call, over all layers.
        past_s: making keys and values of an earlier position again, over all layers.
    """
    tokens = np.array(sorted(set(np.rint(np.geomspace(1, 2**20, 81)).tolist())))
    reach = max((term.reach for term in bound.terms), key=lambda reach: reach.positions is None)
    pairs = np.array([reads_of_chunk(int(length), 0, reach)[0] for length in tokens])
    bound_s = np.array([bound.seconds(int(length), 0) for length in tokens])
    reached_s = bound_s / share_of(tokens, pairs / tokens)
    prompt_s = np.maximum.accumulate(np.maximum(reached_s, launch_s))
    return MeasuredChunks(
        overhead_s=overhead_s,
        launch_s=launch_s,
        position_s=sum(term.memory.per_position for term in bound.terms),
        past_s=past_s,
        reach=reach,
        log_tokens=np.log(tokens).tolist(),
        log_prompt_s=np.log(prompt_s).tolist(),
    )
