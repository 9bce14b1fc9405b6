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
        # By stream, by replica, in order; of replicas whoever was sent something last is the last.
        self._at: dict[int, dict[int, list[Piece]]] = {}
        self._lines: list[Piece] = []  # of each replica; what was sent last is before its end
        for _ in capacities:
            end = Piece(PRIVATE, 0, 0, 0, 0.0)
            end.before = end.after = end
            self._lines.append(end)

    def add(self, number: int, text: list[Stretch], now_s: float) -> None:
        """A prompt is sent to a replica; what was sent longest ago makes room, its begin first."""
        self._sent += 1
        line, blocks = self._lines[number], self.blocks[number]
        for stream, first, end in text:
            piece = self._whole(number, stream, first, end) if stream != PRIVATE else None
            if piece is not None:
                self._remove(piece)
                blocks -= piece.end - piece.first
                piece.first, piece.end, piece.sent, piece.sent_s = first, end, self._sent, now_s
            else:
                piece = Piece(stream, first, end, self._sent, now_s)
                if stream != PRIVATE:
                    blocks -= self._put(number, piece)
            self._insert(piece, line)
            blocks += end - first
        self.blocks[number] = blocks
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
            homes = self._at.get(stream)
            pieces = None if homes is None else homes.get(number)
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
        looked_at: dict[int, None] = {}
        for place in range(len(text) - 1, -1, -1):
            stream, first, end = text[place]
            homes = self._at.get(stream)
            if homes is None:
                continue
            if not first:
                return self._begun(homes, looked_at, end, (best, chosen, last))
            for number in homes:
                if number in looked_at:
                    continue
                looked_at[number] = None
                have = self.deeper(number, text, 0)
                if not have or have < best:
                    continue
                sent = self._sent_last(number, text, have)
                if have > best or sent > last:
                    best, chosen, last = have, number, sent
            if best > first:  # who has nothing of this stream or those behind ends before
                break
        return best, chosen

    def _begun(
        self,
        homes: dict[int, list[Piece]],
        looked_at: dict[int, None],
        end: int,
        found: tuple[int, int, int],
    ) -> tuple[int, int]:
        """The same among those who have nothing of a text but its first stream, and who was found
        so far.

        Those who were last sent something of it come first. What was sent last is forgotten last,
        so that who has all of it in one piece has the last that was sent of those behind, too.
        """
        best, chosen, last = found
        for number in reversed(homes):
            if number in looked_at:
                continue
            pieces = homes[number]
            deepest = _go_on(pieces, end)
            if deepest is None:
                continue
            have = min(deepest.end, end)
            if have > best or (have == best and deepest.sent > last):
                best, chosen, last = have, number, deepest.sent
            if have == end and len(pieces) == 1:
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

    def _whole(self, number: int, stream: int, first: int, end: int) -> Piece | None:
        """Return what a replica has of a stream, if that is one piece which is all sent again."""
        homes = self._at.get(stream)
        pieces = None if homes is None else homes.get(number)
        if homes is None or pieces is None or len(pieces) > 1:
            return None
        piece = pieces[0]
        if piece.first < first or piece.end > end:
            return None
        if len(homes) > 1:
            del homes[number]  # whoever was sent something last is at the end
            homes[number] = pieces
        return piece

    def _put(self, number: int, new: Piece) -> int:
        """Enter a piece in place of what the replica had of these blocks; return how many."""
        if new.stream not in self._at:
            self._at[new.stream] = {}
        homes = self._at[new.stream]
        if number not in homes:
            homes[number] = [new]
            return 0
        kept: list[Piece] = []
        had, pieces = 0, homes[number]
        del homes[number]  # whoever was sent something last is at the end
        for piece in pieces:
            if piece.end <= new.first or piece.first >= new.end:
                kept.append(piece)
                continue
            had += min(piece.end, new.end) - max(piece.first, new.first)
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
        return had

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
