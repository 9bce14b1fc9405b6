"""Which replicas have blocks of a text, so that nobody has to be asked who has none."""


class Homes:
    """Of every stream, the numbers of the replicas that have a block of it.

    Caches that are told of it (``runs.Texts``) enter and leave by themselves; one that
    takes blocks for something else does so when it is next looked at, and is here until then.
    """

    def __init__(self) -> None:
        self.of: dict[int, dict[int, None]] = {}
        self.told: dict[int, dict[int, int]] = {}
        """Streams that answers go on with while they are generated: how many on which replica."""

    def enter(self, stream: int, number: int) -> None:
        """A replica has its first block of a stream."""
        if stream < 0:  # of one request alone
            return
        if stream in self.of:
            self.of[stream][number] = None
        else:
            self.of[stream] = {number: None}

    def leave(self, stream: int, number: int) -> None:
        """A replica has no block of it any more."""
        if stream < 0:
            return
        homes = self.of[stream]
        del homes[number]
        if not homes:
            del self.of[stream]

    def tell(self, stream: int, number: int) -> None:
        """An answer of a replica goes on with a stream."""
        if stream not in self.told:
            self.told[stream] = {}
        counts = self.told[stream]
        counts[number] = counts.get(number, 0) + 1

    def told_to_end(self, stream: int, number: int) -> None:
        """It does no longer."""
        counts = self.told[stream]
        counts[number] -= 1
        if not counts[number]:
            del counts[number]
            if not counts:
                del self.told[stream]
