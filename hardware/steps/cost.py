"""The price of one step: everything a simulator asks of the hardware.

A step is one forward pass over ``decodes`` sequences that attend so many positions in every class
of cache, and prefill chunks ``(chunk_tokens, past_tokens)``. Its price is

    overheads + tokens' share + sequences' share + attention

where the tokens' share (projections, MLP or experts, norms, all-reduces) depends on the number of
tokens only, and the sequences' share (LM head, gather of the logits) on the number of sequences
only: both are tables. Attention of all decodes is made of straight lines over the positions that
they attend, one sum for every class of cache: layers that look back equally far, over all positions
or a window (``hardware.prices.lines``). Of each chunk it is what ``hardware.prices.chunks`` says.

Not covered: kernels do not overlap, and sampling costs what ``sequence_overhead_s`` says.
"""

from array import array
from collections.abc import Sequence
from dataclasses import field

import numpy as np
import numpy.typing as npt

from hardware.prices.chunks import ChunkCost
from hardware.prices.work import ClassWork, ReadTotals, own_work, read_work
from hardware.steps.adding_up import VECTOR_STEPS, add_up
from hardware.steps.joint_prices import JointPrices
from hardware.steps.prices import Beside, Piece, StepPrices
from hardware.steps.ranks import JointTables
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepCost:
    """Prices of one model on one tensor-parallel group. Built by ``hardware.steps.setup``."""

    idle_start_s: float
    """Before the first step after idling."""
    overhead_s: float
    """Once per step: the host's share, and launches of every layer."""
    token_s: list[float]
    """By tokens of the step, from 0: what the GPUs spend on them, attention apart."""
    sequence_s: list[float]
    """By sequences of the step, from 0: LM head, and host time per sequence."""
    windows: tuple[int | None, ...]
    """Of every class of cache, how many positions a token attends; None for all of them."""
    decode_pieces: list[list[tuple[Piece, ...]]] = field(repr=False)
    """By class, then by decoding sequences, from 0: their attention over the layers of the class,
    by positions attended."""
    chunk_cost: ChunkCost
    """Attention of a prefill chunk."""
    token_work: tuple[Floats, Floats] = field(repr=False)
    """FLOPs and bytes of one rank by tokens of the step."""
    sequence_work: tuple[Floats, Floats] = field(repr=False)
    """FLOPs and bytes of one rank by sequences of the step."""
    attention_work: tuple[ClassWork, ...]
    """By class: FLOPs and bytes of one rank's fused attention."""
    bare_sequence_s: Floats = field(repr=False)
    """``sequence_s`` without host time."""
    beside: Beside | None = field(default=None, repr=False)
    """Attention of decodes in a step with chunks, where it is another."""
    eager_s: float = 0.0
    """What the GPU spends at least on a step that no graph replays; 0: graphs replay the small."""
    together: JointTables | None = field(default=None, repr=False)
    """Of data-parallel ranks: what they spend on tokens together. The tables here are those of one
    of them while all have as many tokens."""
    prices: StepPrices = field(init=False, repr=False)
    """The same tables, for who asks for every step."""
    joint: JointPrices | None = field(init=False, repr=False)
    """Of data-parallel ranks: the price of a step that all compute together."""

    def __post_init__(self) -> None:
        """Hand over what the price of a step needs."""
        object.__setattr__(self, "prices", self._prices(self.token_s))
        joint = None
        if self.together is not None:
            joint = self.together.prices(self._prices([0.0] * len(self.token_s)))
        object.__setattr__(self, "joint", joint)

    def _prices(self, token_s: list[float]) -> StepPrices:
        return StepPrices(
            overhead_s=self.overhead_s,
            launch_s=self.chunk_cost.launch_s,
            token_s=token_s,
            sequence_s=self.sequence_s,
            decode_pieces=self.decode_pieces,
            chunk_s=self.chunk_cost.seconds,
            run=add_up,
            vector_steps=VECTOR_STEPS,
            beside=self.beside,
            eager_s=self.eager_s,
        )

    def step_s(
        self, decodes: int, reads: int | Sequence[int], chunks: Sequence[tuple[int, int]]
    ) -> float:
        """Return the duration of one step in seconds.

        Args:
            decodes: sequences that decode one token each.
            reads: positions they attend, summed, by class of cache (``windows``): the current
                tokens included, and of a window only those inside it. A number: there is one class.
            chunks: (chunk_tokens, past_tokens) of every prefill chunk.

        Raises:
            ValueError: more tokens or sequences than the tables were built for.
        """
        try:
            return self.prices.step_s(decodes, self._by_class(reads), list(chunks))
        except IndexError:
            tokens = decodes + sum(chunk for chunk, _ in chunks)
            self._check(tokens, decodes + len(chunks))
            raise

    def decode_ends_s(
        self,
        start_s: float,
        decodes: int,
        reads: int | Sequence[int],
        growth: int | Sequence[int],
        steps: int,
        until_s: float,
        ends_s: "array[float]",
    ) -> float:
        """Append to ``ends_s`` the ends of successive decode steps; return the last of them.

        The first starts at ``start_s``. Step ``i`` attends ``reads + i * growth`` positions, by
        class of cache. At most ``steps`` of them, and none that would start at ``until_s`` or later
        (a time after ``start_s``, or infinity). Equal to adding up ``step_s``, to the last bit.

        Raises:
            ValueError: more sequences than the tables were built for.
        """
        try:
            by_class = (self._by_class(reads), self._by_class(growth))
            return self.prices.decode_ends_s(start_s, decodes, *by_class, steps, until_s, ends_s)
        except IndexError:
            self._check(decodes, decodes)
            raise

    def _by_class(self, counts: int | Sequence[int]) -> list[int]:
        """Counts by class of cache. Raises ValueError if there are others than classes."""
        by_class = [counts] if isinstance(counts, int) else list(counts)
        if len(by_class) != len(self.windows):
            raise ValueError(f"{len(by_class)} counts, expected one of each window {self.windows}")
        return by_class

    def work(
        self,
        tokens: npt.ArrayLike,
        sequences: npt.ArrayLike,
        decodes: npt.ArrayLike,
        reads: Sequence[ReadTotals] = (),
        rows: npt.ArrayLike | None = None,
        steps: npt.ArrayLike | None = None,
    ) -> tuple[float, float]:
        """Return the FLOPs and bytes that one rank had to process, summed over steps.

        This is the useful work, for MFU and MBU: causal pairs only and fused traffic, whatever
        kernel was priced.

        Args:
            tokens: of each step, or run of equal steps; shape (runs,).
            sequences: of each step, decoding or with a chunk, shape (runs,).
            decodes: those of them that decode, shape (runs,).
            reads: by class of cache, over all steps; nothing: not to be counted here.
            rows: query rows of those who decode, shape (runs,); None: one of each.
            steps: of each run, shape (runs,); None: one.

        Raises:
            ValueError: more tokens or sequences than the tables were built for.
        """
        token_rows = np.asarray(tokens).astype(np.int64)
        sequence_rows = np.asarray(sequences).astype(np.int64)
        decode_rows = np.asarray(decodes)
        counts = np.ones_like(token_rows) if steps is None else np.asarray(steps)
        drafts = 0 if rows is None else int(((np.asarray(rows) - decode_rows) * counts).sum())
        self._check(int(token_rows.max(initial=0)), int(sequence_rows.max(initial=0)))

        def summed(table: Floats, at: Ints) -> float:
            """Add up a table of work by rows, each step as often as it is repeated."""
            return float(np.repeat(table[at], counts).sum())

        flops = summed(self.token_work[0], token_rows)
        flops += summed(self.sequence_work[0], sequence_rows)
        bytes_ = summed(self.token_work[1], token_rows)
        bytes_ += summed(self.sequence_work[1], sequence_rows)
        decoding = float((decode_rows * counts).sum())
        verified = decoding + drafts
        prompts = float((token_rows * counts).sum()) - verified
        chunks = float((sequence_rows * counts).sum()) - decoding
        for term in self.attention_work:
            flops += own_work(term.decode_flops, verified, decoding)
            flops += own_work(term.chunk_flops, prompts, chunks)
            bytes_ += own_work(term.decode_bytes, verified, decoding) + own_work(
                term.chunk_bytes, prompts, chunks
            )
        for term, each in zip(self.attention_work, reads, strict=False):
            flops += read_work(term.decode_flops, term.chunk_flops, each)
            bytes_ += read_work(term.decode_bytes, term.chunk_bytes, each)
        return flops, bytes_

    def decode_tokens_per_s(self, sequences: int, mean_context_tokens: float = 0.0) -> float:
        """Return the tokens/s of steady decoding without host overhead, for one replica.

        Raises:
            ValueError: more sequences than the tables were built for.
        """
        self._check(sequences, sequences)
        seconds = self.token_s[sequences] + float(self.bare_sequence_s[sequences])
        for window, by_decodes in zip(self.windows, self.decode_pieces, strict=True):
            positions = sequences * mean_context_tokens
            if window is not None:
                positions = min(positions, float(sequences * window))
            pieces = by_decodes[sequences]
            _, flat_s, slope_s = next(piece for piece in pieces if positions >= piece[0])
            seconds = seconds + flat_s + slope_s * positions
        return sequences / seconds

    def output_tokens_per_s_ceiling(self) -> float:
        """Return output tokens/s of one replica that no schedule can exceed.

        A step of s sequences yields at most s tokens and has at least s tokens to process, so it
        takes at least ``overhead + token_s[s] + sequence_s[s]``: attention is left out, and the
        best s is taken.
        """
        most = min(len(self.token_s), len(self.sequence_s))
        seconds = self.overhead_s + np.array(self.token_s[:most]) + np.array(self.sequence_s[:most])
        return float((np.arange(1, most) / seconds[1:]).max())

    def ceilings(self) -> dict[str, float]:
        """Return what one replica cannot exceed, to be shown before any result.

        At the calibration's efficiencies (the datasheet's peaks without one); the prefill and
        decode ceilings are without host overhead:

        - ``fastest_token_s``: a step of one sequence with one position of context.
        - ``prefill_tokens_per_s``: the best step of one chunk, without attention.
        - ``decode_tokens_per_s``: as many sequences as allowed, without context.
        - ``output_tokens_per_s``: see ``output_tokens_per_s_ceiling``.
        """
        most_tokens = len(self.token_s) - 1
        seconds = np.array(self.token_s[1:]) + float(self.bare_sequence_s[1])
        sequences = min(len(self.sequence_s) - 1, most_tokens)
        return {
            "fastest_token_s": self.step_s(1, [1] * len(self.windows), ()),
            "prefill_tokens_per_s": float((np.arange(1, most_tokens + 1) / seconds).max()),
            "decode_tokens_per_s": self.decode_tokens_per_s(sequences),
            "output_tokens_per_s": self.output_tokens_per_s_ceiling(),
        }

    def _check(self, tokens: int, sequences: int) -> None:
        limits = {
            "tokens": (tokens, len(self.token_s) - 1, "max_tokens"),
            "sequences": (sequences, len(self.sequence_s) - 1, "max_seqs"),
        }
        for noun, (count, limit, parameter) in limits.items():
            if count > limit:
                raise ValueError(
                    f"a step of {count} {noun} is beyond {parameter} = {limit} of this step cost, "
                    f"expected at most {limit}"
                )
