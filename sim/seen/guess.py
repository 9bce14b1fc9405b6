"""What a router believes that each replica has: the prompts that it sent there, and no more.

Nobody tells it what a replica forgets, so it forgets by itself: the blocks that were not sent for
the longest time, or for too long. Kept are stretches of blocks that were last sent together, of
every replica in one line; where it has each stream is found by the stream. So what a request costs
depends on how many streams it has and who has them, not on its length.
"""

from sim.seen.texts import PRIVATE, Stretch


class Piece:
    """Blocks of a stream that a replica was last sent at the same time."""

    __slots__ = ("after", "before", "end", "first", "sent", "sent_s", "stream")

    def __init__(self, stream: int, first: int, end: int, sent: int, sent_s: float) -> None:
        self.stream = stream
        self.first = first
        self.end = end
        self.sent = sent
        """The how-manieth prompt that was."""
        self.sent_s = sent_s
        self.before: Piece | None = None
        self.after: Piece | None = None


class Guess:
    """The believed blocks of every replica.

    Args:
        capacities: most blocks of each.
    """

    def __init__(self, capacities: list[int]) -> None:
        self.capacities = capacities
        self.blocks = [0] * len(capacities)
        """Of each replica."""
        self._sent = 0
        self._at: dict[int, dict[int, list[Piece]]] = {}  # by stream, by replica, in order
        self._lines: list[Piece] = []  # of each replica; what was sent last is before its end
        for _ in capacities:
            end = Piece(PRIVATE, 0, 0, 0, 0.0)
            end.before = end.after = end
            self._lines.append(end)

    def add(self, number: int, text: list[Stretch], now_s: float) -> None:
        """A prompt is sent to a replica; what was sent longest ago makes room, its begin first."""
        self._sent += 1
        for stream, first, end in text:
            piece = Piece(stream, first, end, self._sent, now_s)
            if stream != PRIVATE:
                self._put(number, piece)
            self._insert(piece, self._lines[number])
            self.blocks[number] += end - first
        while self.blocks[number] > self.capacities[number]:
            first_piece = self._first(number)
            surplus = self.blocks[number] - self.capacities[number]
            count = first_piece.end - first_piece.first
            if count <= surplus:
                self._forget(number, first_piece)
            else:
                first_piece.first += surplus
                self.blocks[number] -= surplus

    def forget_before(self, time_s: float) -> None:
        """Forget what was sent before a time."""
        for number, line in enumerate(self._lines):
            piece = self._first(number)
            while piece is not line and piece.sent_s < time_s:
                self._forget(number, piece)
                piece = self._first(number)

    def trim(self, most: int) -> None:
        """Let every replica have at most so many blocks: ends of texts go first, as leaves do."""
        for number in range(len(self._lines)):
            while self.blocks[number] > most:
                last = self._first(number)
                after = last.after
                while after is not None and after.sent == last.sent:
                    last, after = after, after.after
                self._forget(number, last)

    def matches(self, text: list[Stretch]) -> list[int]:
        """Count the blocks that each replica has, up to the first one that nobody has."""
        found = [0] * len(self.blocks)
        for stream, first, end in text:
            if stream not in self._at:
                break
            homes = self._at[stream]
            reach = _reach(homes, first, end)
            for number, pieces in homes.items():
                for piece in pieces:
                    low, high = max(piece.first, first), min(piece.end, reach)
                    if low < high:
                        found[number] += high - low
            if reach < end:
                break
        return found

    def deeper(self, number: int, text: list[Stretch], have: int) -> int:
        """Go on from the first ``have`` blocks as far as a replica has the next one."""
        for stream, _, end in text:
            if have >= end:
                continue
            pieces = self._at[stream].get(number) if stream in self._at else None
            if pieces is None:
                break
            for piece in pieces:
                if piece.first <= have < piece.end:
                    have = min(piece.end, end)
            if have < end:
                break
        return have

    def deepest(self, text: list[Stretch]) -> tuple[int, int]:
        """Return how many first blocks are somewhere, and who was last sent the last of them."""
        best, chosen, last = 0, -1, 0
        looked_at: set[int] = set()
        deepest: Piece | None = None
        for stream, first, end in reversed(text):
            if stream not in self._at:
                continue
            for number, pieces in self._at[stream].items():
                if number in looked_at:
                    continue
                looked_at.add(number)
                if first:
                    have = self.deeper(number, text, 0)
                else:  # it has nothing of what follows
                    deepest = _go_on(pieces, end)
                    have = 0 if deepest is None else min(deepest.end, end)
                if not have or have < best:
                    continue
                sent = self._sent_last(number, text, have) if deepest is None else deepest.sent
                if have > best or sent > last:
                    best, chosen, last = have, number, sent
            if best > first:  # who has nothing of this stream or those behind ends before
                break
        return best, chosen

    def homes(self, stream: int) -> list[int]:
        """Return the replicas that have something of a stream."""
        return list(self._at[stream]) if stream in self._at else []

    def _sent_last(self, number: int, text: list[Stretch], have: int) -> int:
        for stream, first, end in text:
            if first < have <= end and stream in self._at:
                for piece in self._at[stream].get(number, []):
                    if piece.first < have <= piece.end:
                        return piece.sent
        return 0

    def _put(self, number: int, new: Piece) -> None:
        """Enter a piece in place of what the replica had of these blocks."""
        if new.stream not in self._at:
            self._at[new.stream] = {}
        homes = self._at[new.stream]
        if number not in homes:
            homes[number] = [new]
            return
        kept: list[Piece] = []
        for piece in homes[number]:
            if piece.end <= new.first or piece.first >= new.end:
                kept.append(piece)
                continue
            self.blocks[number] -= min(piece.end, new.end) - max(piece.first, new.first)
            if piece.end > new.end:
                rest = Piece(piece.stream, new.end, piece.end, piece.sent, piece.sent_s)
                assert piece.after is not None
                self._insert(rest, piece.after)
                kept.append(rest)
            if piece.first < new.first:
                piece.end = new.first
                kept.append(piece)
            else:
                self._remove(piece)
        kept.append(new)
        kept.sort(key=_place)
        homes[number] = kept

    def _first(self, number: int) -> Piece:
        first = self._lines[number].after
        assert first is not None
        return first

    def _forget(self, number: int, piece: Piece) -> None:
        self._remove(piece)
        self.blocks[number] -= piece.end - piece.first
        if piece.stream == PRIVATE:
            return
        homes = self._at[piece.stream]
        homes[number].remove(piece)
        if not homes[number]:
            del homes[number]
            if not homes:
                del self._at[piece.stream]

    def _insert(self, piece: Piece, after: Piece) -> None:
        before = after.before
        assert before is not None
        piece.before, piece.after = before, after
        before.after = after.before = piece

    def _remove(self, piece: Piece) -> None:
        before, after = piece.before, piece.after
        assert before is not None
        assert after is not None
        before.after, after.before = after, before
        piece.before = piece.after = None


def _place(piece: Piece) -> int:
    return piece.first


def _go_on(pieces: list[Piece], end: int) -> Piece | None:
    """The last of the pieces that follow each other from the first block of a stream on, as far as
    to ``end``."""
    have, last = 0, None
    for piece in pieces:
        if have >= end or not piece.first <= have < piece.end:
            break
        have, last = piece.end, piece
    return last


def _reach(homes: dict[int, list[Piece]], first: int, end: int) -> int:
    """How far blocks go on from ``first`` without one that nobody has."""
    reach, grows = first, True
    while grows and reach < end:
        grows = False
        for pieces in homes.values():
            for piece in pieces:
                if piece.first <= reach < piece.end:
                    reach = min(piece.end, end)
                    grows = True
            if reach >= end:
                break
    return reach
