"""Blocks that a router believes to be in use: those of the prompts under way, shared ones once."""

from sim.seen.texts import PRIVATE, Stretch


class ActiveBlocks:
    """Of every replica, the different blocks of the prompts that it was sent and has still."""

    def __init__(self, replicas: int) -> None:
        self.count = [0] * replicas
        """Of each replica."""
        # By stream, by replica: how many prompts under way have each stretch of it.
        self._held: dict[int, dict[int, dict[tuple[int, int], int]]] = {}

    def add(self, number: int, text: list[Stretch]) -> None:
        """A prompt is sent to a replica."""
        for stream, first, end in text:
            if stream == PRIVATE:
                self.count[number] += end - first
                continue
            if stream not in self._held:
                self._held[stream] = {}
            homes = self._held[stream]
            if number not in homes:
                homes[number] = {}
            held, stretch = homes[number], (first, end)
            if stretch in held:
                held[stretch] += 1
            else:
                before = _length(held)
                held[stretch] = 1
                self.count[number] += _length(held) - before

    def remove(self, number: int, text: list[Stretch]) -> None:
        """It has left."""
        for stream, first, end in text:
            if stream == PRIVATE:
                self.count[number] -= end - first
                continue
            homes = self._held[stream]
            held, stretch = homes[number], (first, end)
            held[stretch] -= 1
            if held[stretch]:
                continue
            before = _length(held)
            del held[stretch]
            self.count[number] += _length(held) - before
            if not held:
                del homes[number]
                if not homes:
                    del self._held[stream]

    def shared(self, text: list[Stretch]) -> list[int]:
        """Count the first blocks of a prompt that are in use on each replica."""
        found = [0] * len(self.count)
        if not text or text[0][0] not in self._held:
            return found
        for number in self._held[text[0][0]]:
            have = 0
            for stream, _, end in text:
                homes = self._held.get(stream)
                held = None if homes is None else homes.get(number)
                if held is not None:
                    have = min(_reach(held, have), end)
                if have < end:
                    break
            found[number] = have
        return found


def _reach(held: dict[tuple[int, int], int], have: int) -> int:
    """How far stretches go on from a block."""
    grows = True
    while grows:
        grows = False
        for first, end in held:
            if first <= have < end:
                have, grows = end, True
    return have


def _length(held: dict[tuple[int, int], int]) -> int:
    """Blocks of stretches that may overlap."""
    length, reach = 0, 0
    for first, end in sorted(held):
        first = max(first, reach)
        if first < end:
            length += end - first
            reach = end
    return length
