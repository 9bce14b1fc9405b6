"""The memory of a host behind the KV cache, as plainly as can be."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(eq=False)
class Kept:
    """A chunk in the host's memory."""

    text: tuple
    written: bool = False
    readers: int = 0


@dataclass(eq=False)
class Use:
    """What one request did with the chunks of its text."""

    offered: int = 0  # chunks
    under_way: int = 0
    seen: set[int] = field(default_factory=set)
    inserted: set[int] = field(default_factory=set)
    reused: set[int] = field(default_factory=set)
    missed: set[int] = field(default_factory=set)
    rank: int = 0
    promoted: list[Kept] = field(default_factory=list)  # that stay until it has been served
    from_store: set[int] = field(default_factory=set)


class Host:
    """Chunks by text, in order of use: of LRU one line, of ARC two, and what is gone from them."""

    def __init__(self, room: int, policy: str) -> None:
        self.room, self.policy, self.target = room, policy, 0.0
        self.lines: list[OrderedDict[tuple, Kept]] = [OrderedDict(), OrderedDict()]
        self.gone: list[OrderedDict[tuple, None]] = [OrderedDict(), OrderedDict()]
        self.offers: OrderedDict[tuple, int] = OrderedDict()
        self.ranks: dict[tuple, tuple[int, ...]] = {}  # of LRU, if requests have ranks
        self.groups = 1  # of the cache: each has chunks of its own at a place of a text
        self.last = 0
        self.made_room: list[tuple] = []  # the last time

    def rank(self) -> int:
        self.last += 1
        return self.last

    def rank_of(self, use: Use, place: int) -> tuple[int, ...]:
        return use.rank, -(place // self.groups), place % self.groups

    def see(self, use: Use, texts: dict[int, tuple]) -> None:
        """From 0.33 on: what a request sees ranks at once, its last chunks before its first."""
        fresh = {place: text for place, text in texts.items() if place not in use.seen}
        if fresh and not use.rank:
            use.rank = self.rank()
        for place, text in fresh.items():
            if self.get(text) is not None:
                self.ranks[text] = max(self.ranks[text], self.rank_of(use, place))

    def get(self, text: tuple) -> Kept | None:
        return self.lines[0].get(text) or self.lines[1].get(text)

    def miss(self, text: tuple) -> None:
        once, again = self.gone
        if text in once:
            self.target = min(self.target + max(1, len(again) / len(once)), self.room)
            once.move_to_end(text)
        elif text in again:
            self.target = max(self.target - max(1, len(once) / len(again)), 0)
            again.move_to_end(text)

    def use(self, text: tuple, reused: bool, inserted: bool) -> None:
        kept = self.get(text)
        if kept is None:
            return
        line = self.lines[0 if text in self.lines[0] else 1]
        if self.policy == "ranked":
            self.ranks[text] = (self.rank(), 0, 0)
        elif self.policy == "lru":
            line.move_to_end(text)
        elif reused:
            del line[text]
            self.lines[1][text] = kept
        elif inserted:
            line.move_to_end(text)

    def make_room(self, count: int, stays: set[tuple]) -> bool:
        """All of it, or nothing."""
        chosen: list[tuple[int, tuple]] = []
        if self.policy == "ranked":
            for text in sorted(self.lines[0], key=self.ranks.__getitem__):
                self.lines[0].move_to_end(text)
        left = len(self.lines[0])
        for _ in range(count):
            order = [1, 0] if self.policy == "arc" else [0]
            if self.policy == "arc" and left >= int(self.target):
                order = [0, 1]
            found = next(
                (
                    (line, text)
                    for line in order
                    for text, kept in self.lines[line].items()
                    if kept.written and not kept.readers and text not in stays
                    if (line, text) not in chosen
                ),
                None,
            )
            if found is None:
                return False
            chosen.append(found)
            left -= found[0] == 0
        self.made_room = [text for _, text in chosen]
        for line, text in chosen:
            del self.lines[line][text]
            if self.policy == "arc":
                self.gone[line][text] = None
                while len(self.gone[line]) > self.room:
                    self.gone[line].popitem(last=False)
        return True

    def insert(self, text: tuple, rank: tuple[int, ...]) -> None:
        self.ranks[text] = rank
        for gone in self.gone:
            gone.pop(text, None)
        self.lines[0][text] = Kept(text)

    @property
    def count(self) -> int:
        return len(self.lines[0]) + len(self.lines[1])
