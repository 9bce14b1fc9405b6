"""Who has the lowest number of many, kept up to date in time that grows with their logarithm."""


class Lowest:
    """A tournament: every match is won by the lower key, among equals by the lower number.

    ::

        keys    3   1   4   1          matches are numbered from the final, 1, on;
        first     1       3            those of entrant i begin at place count + i
        final         1
    """

    def __init__(self, count: int) -> None:
        self._half = 1
        while self._half < count:
            self._half *= 2
        self.keys = [0] * count
        """Of every entrant."""
        self._winners: list[int] = [-1] * self._half + [*range(count)] + [-1] * (self._half - count)
        for match in range(self._half - 1, 0, -1):
            self._winners[match] = self._winners[2 * match]

    def first(self) -> int:
        """Return the entrant with the lowest key, the lowest of equal ones."""
        return self._winners[1]

    def set(self, number: int, key: int) -> None:
        """Give an entrant another key."""
        keys, winners = self.keys, self._winners
        keys[number] = key
        match = (self._half + number) // 2
        while match:
            left, right = winners[2 * match], winners[2 * match + 1]
            winners[match] = left if right < 0 or keys[left] <= keys[right] else right
            match //= 2
