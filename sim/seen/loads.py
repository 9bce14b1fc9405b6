"""How many requests each replica has, and the least and the most of them."""


class Loads:
    """Counts of requests that are kept up to date in the same time, however many replicas."""

    def __init__(self, replicas: int) -> None:
        self.counts = [0] * replicas
        """Of every replica."""
        self.low = 0
        """The least of them,"""
        self.high = 0
        """and the most."""
        self._replicas_with = [replicas]  # so many requests

    def sent(self, number: int) -> None:
        """A replica has one more."""
        replicas_with, count = self._replicas_with, self.counts[number]
        self.counts[number] = count + 1
        left = replicas_with[count] - 1
        replicas_with[count] = left
        if count == self.high:
            self.high = count + 1
            replicas_with.append(1)
        else:
            replicas_with[count + 1] = replicas_with[count + 1] + 1
        if not left and count == self.low:
            self.low = count + 1

    def left(self, number: int, requests: int) -> None:
        """A replica has some less."""
        replicas_with, count = self._replicas_with, self.counts[number]
        after = count - requests
        self.counts[number] = after
        replicas_with[count] = replicas_with[count] - 1
        replicas_with[after] = replicas_with[after] + 1
        self.low = min(self.low, after)
        while not replicas_with[self.high]:
            replicas_with.pop()
            self.high -= 1

    def fewest(self) -> int:
        """Return the replica with the fewest, the first of equal ones."""
        return self.counts.index(self.low)
