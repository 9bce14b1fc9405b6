"""Requests on their way into the engines: event loops that read one after the other.

See ``sim.api_server``, which says what it stands for.
"""

from collections.abc import Callable
from heapq import heapreplace

from mypy_extensions import mypyc_attr

from sim.engine.sequence import Sequence

Comes = Callable[[Sequence, float], None]
"""Told when a request reaches the scheduler, once that is known."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Inbox:
    """One queue before the processes of all replicas.

    Args:
        request_s: from sending a request to its being at the scheduler, if it meets nobody.
        token_s: besides, for each token of the prompt.
        loop_request_s: the part of ``request_s`` in which a process reads nothing else; 0: it reads
            all at once.
        servers: processes that share the queue.
    """

    def __init__(
        self, request_s: float, token_s: float, loop_request_s: float, servers: int
    ) -> None:
        self._request_s, self._token_s, self._loop_request_s = request_s, token_s, loop_request_s
        self._free_s = [0.0] * servers

    def read(self, sequence: Sequence, now_s: float, comes: Comes) -> None:
        """A request is sent, now."""
        comes(sequence, self.reached_s(now_s, sequence.prompt_tokens))

    def reached_s(self, sent_s: float, prompt_tokens: int) -> float:
        """Return when a request reaches the scheduler; to be called in the order of sending."""
        if not self._loop_request_s:
            return sent_s + (self._request_s + self._token_s * prompt_tokens)
        begun_s = max(sent_s, self._free_s[0])
        read_s = begun_s + (self._loop_request_s + self._token_s * prompt_tokens)
        heapreplace(self._free_s, read_s)
        return read_s + (self._request_s - self._loop_request_s)
