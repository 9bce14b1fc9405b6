"""A tree of the texts that replicas were sent, and who is sent a prompt by it.

The rule is that of `cache_aware` (``sim.routers.cache_aware``), whose settings it takes.
"""

from math import inf
from typing import Final

from sim.seen.guess import Guess
from sim.seen.loads import Loads
from sim.seen.texts import Stretch, Text, stretches

ENDLESS: Final = 1 << 60
"""More tokens than any replica is sent."""


class TextTree:
    """Texts of every replica, token by token.

    Args:
        replicas: how many.
        threshold: share of a prompt that has to match for it to go where it does.
        most_apart: requests by which the most and the fewest may differ,
        most_times: or how many times the fewest the most may be, before loads decide alone.
        by_size: whether a prompt that does not match goes where there is least text, instead of to
            the fewest requests.
        trims_every_s: how often texts are forgotten,
        most_tokens: until each replica has at most so many.
    """

    def __init__(
        self,
        replicas: int,
        threshold: float,
        most_apart: int,
        most_times: float,
        by_size: bool,
        trims_every_s: float,
        most_tokens: int,
    ) -> None:
        self._guess = Guess([ENDLESS] * replicas)
        self._threshold, self._by_size = threshold, by_size
        self._most_apart, self._most_times = most_apart, most_times
        self._trims_every_s, self._most_tokens = trims_every_s, most_tokens
        self._trims_s = trims_every_s
        self._next: list[Stretch] = []
        self._next_s = -inf
        self.claimed_tokens = 0
        """Of the prompt that was last chosen for: those that its replica was sent before."""

    def choose(self, text: Text, tokens: int, now_s: float, loads: Loads) -> int:
        """Return the replica of a prompt: by loads out of balance, else by what matches.

        Args:
            text: its streams, and where each of them ends.
            tokens: of the prompt.
            now_s: the time.
            loads: of all replicas.
        """
        guess = self._guess
        if now_s >= self._trims_s:
            self._trims_s = (now_s // self._trims_every_s + 1) * self._trims_every_s
            guess.trim(self._most_tokens)
        found = stretches(text, tokens, 1, ENDLESS)
        self._next, self._next_s = found, now_s
        low, high, claimed = loads.low, loads.high, -1
        if high - low > self._most_apart and high > low * self._most_times:
            number = loads.fewest()
        else:
            matching, number = guess.deepest(found)
            if matching / tokens > self._threshold:
                claimed = matching
            elif self._by_size:
                number = guess.blocks.index(min(guess.blocks))
            else:
                number = loads.fewest()
        self.claimed_tokens = claimed if claimed >= 0 else guess.deeper(number, found, 0)
        return number

    def sent(self, number: int) -> None:
        """The prompt that was last chosen for is with a replica: its text is in the tree."""
        self._guess.add(number, self._next, self._next_s)
