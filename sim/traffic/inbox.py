"""Requests on their way into the engines: event loops that read one after the other.

See ``sim.api_server``, which says what they stand for.
"""

from collections.abc import Callable
from heapq import heapreplace

from sim.engine.sequence import Sequence

Comes = Callable[[Sequence, float], None]
"""Told when a request reaches the scheduler, as soon as that is known."""


class Inbox:
    """What reads requests."""

    def read(self, sequence: Sequence, comes: Comes) -> None:
        """A request is sent, now."""
        raise NotImplementedError


class OwnLoops(Inbox):
    """Processes of all replicas that share one queue, and read whatever else they do.

    Args:
        request_s: from sending a request to its being at the scheduler, if it meets nobody.
        token_s: besides, for each token of the prompt.
        loop_request_s: the part of ``request_s`` in which a process reads nothing else; 0: it reads
            all at once.
        servers: processes.
    """

    def __init__(
        self, request_s: float, token_s: float, loop_request_s: float, servers: int
    ) -> None:
        self._request_s, self._token_s, self._loop_request_s = request_s, token_s, loop_request_s
        self._free_s = [0.0] * servers

    def read(self, sequence: Sequence, comes: Comes) -> None:
        """See ``Inbox``; its ``arrival_s`` is now."""
        comes(sequence, self.reached_s(sequence.arrival_s, sequence.prompt_tokens))

    def reached_s(self, sent_s: float, prompt_tokens: int) -> float:
        """Return when a request reaches the scheduler; to be called in the order of sending."""
        if not self._loop_request_s:
            return sent_s + (self._request_s + self._token_s * prompt_tokens)
        begun_s = max(sent_s, self._free_s[0])
        read_s = begun_s + (self._loop_request_s + self._token_s * prompt_tokens)
        heapreplace(self._free_s, read_s)
        return read_s + (self._request_s - self._loop_request_s)
