"""Which replicas have blocks of a text, so that nobody has to be asked who has none."""


class Homes:
    """Of every stream, the numbers of the replicas that have a block of it.

    Caches that are told of it (``sim.engine.runs.Texts``) enter and leave by themselves; one that
    takes blocks for something else does so when it is next looked at, and is here until then.
    """

    def __init__(self) -> None:
        self.of: dict[int, dict[int, None]] = {}
        self.told: dict[int, int] = {}
        """Streams that answers go on with while they are generated, and how many of each."""

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

    def tell(self, stream: int) -> None:
        """An answer goes on with a stream."""
        self.told[stream] = self.told.get(stream, 0) + 1

    def told_to_end(self, stream: int) -> None:
        """It does no longer."""
        self.told[stream] -= 1
        if not self.told[stream]:
            del self.told[stream]
