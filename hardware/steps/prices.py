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
"""Up to so many are taken from a list, which then costs less."""
_PACK: Final = [Struct(f"{count}d").pack for count in range(PACKED + 1)]

Piece = tuple[int, float, float]
"""Of a sum of operators: the positions from which on a line counts, and the line: seconds, and
seconds per position attended."""

Line = tuple[float, float, int, int]
"""What steps read of one class of cache while a line counts: its seconds, its seconds per position,
the positions that the first step attends, and by how many more each step attends than the last."""

Run = Callable[[float, float, list[Line], int, float, "array[float]"], float]
"""Appends the ends of many steps on straight lines, and returns the last one: of their start, base
and lines by class of cache, of how many steps there are and when they must stop."""


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
        self.classes = len(decode_pieces)
        self.first_pieces = decode_pieces[0]
        """Of the first class, which may be the only one."""
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
            for place in range(self.classes):
                attention_s += seconds_at(self.decode_pieces[place][decodes], reads[place])
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
            attention_s += seconds_at(beside.pieces[place][decodes], reads[place])
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
        base_s, many, classes = self.decode_s[decodes], self._vector_steps, self.classes
        at, more = reads[0], growth[0]
        other_flat_s, other_slope_s, other_at, other_more = 0.0, 0.0, 0, 0  # adds nothing to a sum
        if classes > 1:
            other_at, other_more = reads[1], growth[1]
        further = self._further(decodes, reads, growth) if classes > 2 else NO_MORE
        end_s, left = start_s, steps
        while True:
            flat_s, slope_s, count = line_at(self.first_pieces[decodes], at, more, left)
            if classes > 1:
                other = self.decode_pieces[1][decodes]
                other_flat_s, other_slope_s, count = line_at(other, other_at, other_more, count)
            for each in further:
                count = each.begin(count)
            if count >= many and until_s - end_s > many * base_s:
                if until_s - end_s < count * base_s:  # no step is shorter than its base
                    count = left = int((until_s - end_s) / base_s) + 1
                lines = [
                    (flat_s, slope_s, at, more),
                    (other_flat_s, other_slope_s, other_at, other_more),
                    *[each.line(count) for each in further],
                ]
                end_s = self._run(end_s, base_s, lines[:classes], count, until_s, ends_s)
            else:
                found = list[float]()
                # As floats, which hold them exactly: adding whole numbers costs more when compiled.
                positions, added = float(at), float(more)
                others, others_added = float(other_at), float(other_more)
                for _step in range(count):
                    attention_s = flat_s + slope_s * positions
                    attention_s += other_flat_s + other_slope_s * others
                    for each in further:
                        attention_s += each.step_s()
                    end_s += base_s + attention_s
                    found.append(end_s)
                    if end_s >= until_s:
                        break
                    positions += added
                    others += others_added
                put(found, ends_s)
            at += count * more
            other_at += count * other_more
            left -= count
            if not left or end_s >= until_s:
                return end_s

    def _further(self, decodes: int, reads: list[int], growth: list[int]) -> "list[Further]":
        return [
            Further(self.decode_pieces[place][decodes], reads[place], growth[place])
            for place in range(2, self.classes)
        ]


class Further:
    """Successive steps on the pieces of one class of cache, as far as there are more than two."""

    def __init__(self, pieces: tuple[Piece, ...], at: int, more: int) -> None:
        self.pieces = pieces
        self.at = at
        self.more = more
        self.flat_s = self.slope_s = 0.0

    def begin(self, most: int) -> int:
        """Take the line of the next step; return how many begin on it, of ``most``."""
        self.flat_s, self.slope_s, count = line_at(self.pieces, self.at, self.more, most)
        return count

    def step_s(self) -> float:
        """Return what the next step costs, and go on behind it."""
        seconds = self.flat_s + self.slope_s * self.at
        self.at += self.more
        return seconds

    def line(self, steps: int) -> Line:
        """Return what so many steps cost, and go on behind them."""
        line = (self.flat_s, self.slope_s, self.at, self.more)
        self.at += steps * self.more
        return line


NO_MORE: Final[list[Further]] = []
"""Most models have one class of cache or two."""


def line_at(pieces: tuple[Piece, ...], at: int, more: int, most: int) -> tuple[float, float, int]:
    """Return the line that counts at so many positions, seconds and seconds per position, and how
    many steps begin on it if each attends ``more`` positions than the last: at most ``most``."""
    end = 0
    for piece in pieces:
        if at >= piece[0]:
            break
        end = piece[0]
    if end and more:
        most = min(most, (end - at - 1) // more + 1)
    return piece[1], piece[2], most


def seconds_at(pieces: tuple[Piece, ...], positions: int) -> float:
    """Return what it costs to attend so many positions."""
    line = line_at(pieces, positions, 0, 1)
    return line[0] + line[1] * positions


def put(values: list[float], ends_s: "array[float]") -> None:
    """Append numbers: many as bytes, as one by one they would cost more than to find them."""
    if len(values) <= FEW:
        ends_s.fromlist(values)
        return
    for start in range(0, len(values), PACKED):
        some = values[start : start + PACKED]
        ends_s.frombytes(_PACK[len(some)](*some))
