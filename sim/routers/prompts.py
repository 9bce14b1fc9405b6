"""What a router can know of requests beside their lengths: how they begin, and whose they are."""

from typing import Final

from sim.engine.caches.beginnings import Beginnings
from sim.seen.texts import Text
from workloads.requests import Ints, Prefixes, Requests

NOBODY: Final = -1
"""Instead of a session."""


class Prompts:
    """The beginnings of prompts, and their sessions, by rows of the workload."""

    def __init__(self, prefixes: Prefixes | None = None, session: Ints | None = None) -> None:
        self._beginnings = None if prefixes is None else _beginnings(prefixes)
        self._session = session

    def session(self, request: int) -> int:
        """Return the session of a request; -1 for none."""
        return NOBODY if self._session is None else int(self._session[request])

    def text(self, request: int) -> Text:
        """Return its streams, and behind which of its tokens each ends; none: nobody's prompt
        begins like it."""
        return [] if self._beginnings is None else self._beginnings.of(request)


def _beginnings(prefixes: Prefixes) -> Beginnings:
    return Beginnings(prefixes.offsets.data, prefixes.streams.data, prefixes.ends.data)


NO_PROMPTS: Final = Prompts()
"""Of requests that have nothing in common, and no sessions."""


def prompts_of(requests: Requests) -> Prompts:
    """Return what routers can know of these requests."""
    return Prompts(requests.prefixes, requests.session)
