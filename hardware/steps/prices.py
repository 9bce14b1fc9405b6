"""The price of a step, from tables: plain Python, because every step of a simulation asks for it.

``hardware.steps.cost`` builds the tables and says what they mean.
"""

from array import array
from collections.abc import Callable
from struct import Struct
from typing import Final

PACKED: Final = 64
"""So many numbers are made bytes at once."""
FEW: Final = 8
"""Up to so many are appended one by one."""
_PACK: Final = [Struct(f"={count}d").pack for count in range(PACKED + 1)]

Piece = tuple[int, float, float]
"""Of a sum of operators: the positions from which on a line counts, and the line: seconds, and
seconds per position attended."""

Run = Callable[
    [float, float, list[float], list[float], list[int], list[int], int, float, "array[float]"],
    float,
]
"""Appends the ends of many steps on straight lines, and returns the last one: of their start, base,
lines (seconds, and seconds per position, by class of cache), positions and their growth by class,
of how many steps there are and when they must stop."""


TILE_ROWS: Final = 64
"""Query rows that a kernel computes at a time (``hardware.prices.beside``)."""


class Beside:
    """Attention of decodes in a step with a prompt's chunk, where both are one call.

    Args:
        pieces: as ``decode_pieces``.
        idle_s: of each decode, once for all rows of a tile that the longest chunk has.
    """

    def __init__(self, pieces: list[list[tuple[Piece, ...]]], idle_s: float) -> None:
        self.pieces = pieces
        self.idle_s = idle_s

    def __reduce__(self) -> tuple[type["Beside"], tuple[object, ...]]:
        """Be sent to another process, compiled or not."""
        return Beside, (self.pieces, self.idle_s)


class StepPrices:
    """Tables of one model on one tensor-parallel group.

    Args:
        overhead_s: once per step.
        launch_s: of attention, in a step without decodes.
        token_s: by tokens of the step, from 0.
        sequence_s: by sequences of the step, from 0.
        decode_pieces: by class of cache, then by decoding sequences, from 0: their attention over
            the layers of the class, by positions attended.
        chunk_s: attention of a prefill chunk, by its tokens and those before it.
        run: faster than one by one from ``vector_steps`` steps on.
        beside: attention of decodes in a step with chunks; None: ``decode_pieces``.
        eager_s: what the GPU spends at least on a step with chunks, as the host launches it kernel
            by kernel; ``decode_pieces`` have that of steps without.
    """

    def __init__(
        self,
        overhead_s: float,
        launch_s: float,
        token_s: list[float],
        sequence_s: list[float],
        decode_pieces: list[list[tuple[Piece, ...]]],
        chunk_s: Callable[[int, int], float],
        run: Run,
        vector_steps: int,
        beside: Beside | None = None,
        eager_s: float = 0.0,
    ) -> None:
        self.overhead_s = overhead_s
        self.launch_s = launch_s
        self.token_s = token_s
        self.sequence_s = sequence_s
        self.decode_pieces = decode_pieces
        self.first_pieces = decode_pieces[0]
        """Of the first class, which may be the only one."""
        self.classes = len(decode_pieces)
        self.beside = beside
        self.eager_s = eager_s
        self.decode_s = [
            overhead_s + tokens + sequences
            for tokens, sequences in zip(token_s, sequence_s, strict=False)  # as far as both go
        ]
        """By decoding sequences, from 0: overhead, tokens' and sequences' share of their step."""
        self.first_chunk_s: dict[int, float] = {}
        """Attention of chunks that have no past, as far as it was asked for."""
        self._chunk_s = chunk_s
        self._run = run
        self._vector_steps = vector_steps

    def __reduce__(self) -> tuple[type["StepPrices"], tuple[object, ...]]:
        """Be sent to another process, compiled or not."""
        tables = (self.overhead_s, self.launch_s, self.token_s, self.sequence_s)
        asked = (self._chunk_s, self._run, self._vector_steps)
        return StepPrices, (*tables, self.decode_pieces, *asked, self.beside, self.eager_s)

    def step_s(self, decodes: int, reads: list[int], chunks: list[tuple[int, int]]) -> float:
        """Return the seconds of one step: see ``StepCost.step_s``.

        Raises:
            IndexError: more tokens or sequences than the tables were built for.
        """
        tokens = decodes
        for chunk, _ in chunks:
            tokens += chunk
        attention_s = self.attention_s(decodes, reads, chunks)
        if self.eager_s > 0.0 and chunks:
            attention_s = max(attention_s, self.eager_s - self.token_s[tokens])
        sequences = decodes + len(chunks)
        return self.overhead_s + self.token_s[tokens] + self.sequence_s[sequences] + attention_s

    def shortest_s(self) -> float:
        """Return what every step of decodes takes at least."""
        return min(self.decode_s[1:])

    def attention_s(self, decodes: int, reads: list[int], chunks: list[tuple[int, int]]) -> float:
        """Return the seconds of a step's attention alone.

        Raises:
            IndexError: more sequences than the tables were built for.
        """
        attention_s = 0.0 if decodes or not chunks else self.launch_s
        first_chunk_s = self.first_chunk_s
        for chunk, past in chunks:
            if past:
                attention_s += self._chunk_s(chunk, past)
                continue
            found_s = first_chunk_s.get(chunk)
            if found_s is None:
                first_chunk_s[chunk] = found_s = self._chunk_s(chunk, 0)
            attention_s += found_s
        if decodes and chunks and self.beside is not None:
            return attention_s + self._beside_s(self.beside, decodes, reads, chunks)
        if decodes:
            positions = reads[0]
            for start, flat_s, slope_s in self.first_pieces[decodes]:
                if positions >= start:
                    attention_s += flat_s + slope_s * positions
                    break
            for place in range(1, self.classes):
                positions = reads[place]
                for start, flat_s, slope_s in self.decode_pieces[place][decodes]:
                    if positions >= start:
                        attention_s += flat_s + slope_s * positions
                        break
        return attention_s

    def _beside_s(
        self, beside: Beside, decodes: int, reads: list[int], chunks: list[tuple[int, int]]
    ) -> float:
        """Attention of decodes in one call with chunks."""
        longest = 0
        for chunk, _ in chunks:
            longest = max(longest, chunk)
        attention_s = decodes * beside.idle_s * ((longest + TILE_ROWS - 1) // TILE_ROWS)
        for place in range(self.classes):
            positions = reads[place]
            for start, flat_s, slope_s in beside.pieces[place][decodes]:
                if positions >= start:
                    attention_s += flat_s + slope_s * positions
                    break
        return attention_s

    def decode_ends_s(
        self,
        start_s: float,
        decodes: int,
        reads: list[int],
        growth: list[int],
        steps: int,
        until_s: float,
        ends_s: "array[float]",
    ) -> float:
        """Append the ends of successive decode steps: see ``StepCost.decode_ends_s``.

        Raises:
            IndexError: more sequences than the tables were built for.
        """
        if self.classes == 2 and steps < self._vector_steps:
            return self._ends_of_two_s(start_s, decodes, reads, growth, steps, until_s, ends_s)
        if self.classes > 1:
            return self._ends_of_classes_s(start_s, decodes, reads, growth, steps, until_s, ends_s)
        base_s, many = self.decode_s[decodes], self._vector_steps
        end_s, context, left, more = start_s, reads[0], steps, growth[0]
        while True:
            count, end = left, 0
            for piece in self.first_pieces[decodes]:
                if context >= piece[0]:
                    break
                end = piece[0]
            _, flat_s, slope_s = piece
            if end and more:  # as many as begin on this line
                count = min(left, (end - context - 1) // more + 1)
            if count >= many and until_s - end_s > many * base_s:
                if until_s - end_s < count * base_s:  # no step is shorter than its base
                    count = left = int((until_s - end_s) / base_s) + 1
                end_s = self._run(
                    end_s, base_s, [flat_s], [slope_s], [context], growth, count, until_s, ends_s
                )
                context += count * more
            elif count <= FEW or until_s - end_s <= FEW * base_s:
                for _ in range(count):
                    end_s += base_s + (flat_s + slope_s * context)
                    ends_s.append(end_s)
                    if end_s >= until_s:
                        break
                    context += more
            else:
                found = list[float]()
                for _ in range(count):
                    end_s += base_s + (flat_s + slope_s * context)
                    found.append(end_s)
                    if end_s >= until_s:
                        break
                    context += more
                put(found, ends_s)
            left -= count
            if not left or end_s >= until_s:
                return end_s

    def _ends_of_two_s(
        self,
        end_s: float,
        decodes: int,
        reads: list[int],
        growth: list[int],
        steps: int,
        until_s: float,
        ends_s: "array[float]",
    ) -> float:
        """Two classes of cache, as most models with windows have, and few steps: their numbers are
        looked up once."""
        base_s, left = self.decode_s[decodes], steps
        context, other, more, other_more = reads[0], reads[1], growth[0], growth[1]
        found = list[float]()
        while True:
            count, end, other_end = left, 0, 0
            for piece in self.first_pieces[decodes]:
                if context >= piece[0]:
                    break
                end = piece[0]
            for other_piece in self.decode_pieces[1][decodes]:
                if other >= other_piece[0]:
                    break
                other_end = other_piece[0]
            (_, flat_s, slope_s), (_, other_flat_s, other_slope_s) = piece, other_piece
            if end and more:  # as many as begin on these lines
                count = min(count, (end - context - 1) // more + 1)
            if other_end and other_more:
                count = min(count, (other_end - other - 1) // other_more + 1)
            for _ in range(count):
                attention_s = (flat_s + slope_s * context) + (other_flat_s + other_slope_s * other)
                context += more
                other += other_more
                end_s += base_s + attention_s
                found.append(end_s)
                if end_s >= until_s:
                    break
            left -= count
            if not left or end_s >= until_s:
                put(found, ends_s)
                return end_s

    def _ends_of_classes_s(
        self,
        start_s: float,
        decodes: int,
        reads: list[int],
        growth: list[int],
        steps: int,
        until_s: float,
        ends_s: "array[float]",
    ) -> float:
        """The same where there are several classes of cache, each on a line of its own."""
        base_s, many, classes = self.decode_s[decodes], self._vector_steps, self.classes
        end_s, left, positions = start_s, steps, reads.copy()
        flats, slopes = [0.0] * classes, [0.0] * classes
        while True:
            count = left
            for place in range(classes):
                at, end = positions[place], 0
                for piece in self.decode_pieces[place][decodes]:
                    if at >= piece[0]:
                        break
                    end = piece[0]
                _, flats[place], slopes[place] = piece
                if end and growth[place]:
                    count = min(count, (end - at - 1) // growth[place] + 1)
            if count >= many and until_s - end_s > many * base_s:
                if until_s - end_s < count * base_s:
                    count = left = int((until_s - end_s) / base_s) + 1
                end_s = self._run(
                    end_s, base_s, flats, slopes, positions, growth, count, until_s, ends_s
                )
                for place in range(classes):
                    positions[place] += count * growth[place]
            else:
                found = list[float]()
                for _ in range(count):
                    attention_s = 0.0
                    for place in range(classes):
                        attention_s += flats[place] + slopes[place] * positions[place]
                        positions[place] += growth[place]
                    end_s += base_s + attention_s
                    found.append(end_s)
                    if end_s >= until_s:
                        break
                put(found, ends_s)
            left -= count
            if not left or end_s >= until_s:
                return end_s


def put(values: list[float], ends_s: "array[float]") -> None:
    """Append many numbers, which one by one would cost more than to find them."""
    count, start = len(values), 0
    while count - start > PACKED:
        ends_s.frombytes(_PACK[PACKED](*values[start : start + PACKED]))
        start += PACKED
    if count - start == 1:
        ends_s.append(values[start])
    else:
        ends_s.frombytes(_PACK[count - start](*(values[start:] if start else values)))
