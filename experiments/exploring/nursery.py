"""Where workers of the live page come from: a process without threads, which has all loaded.

The server has threads, and a copy of a process with threads may wait for ever for a lock that one
of them held. So its workers are copies of another process (``multiprocessing``'s fork server): one
that is killed is replaced at once, at any time. That process ends with the server.
"""

from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext

LOADED = ["experiments.exploring.workers", "experiments.running.pieces"]
"""What workers need."""


@cache
def context() -> ForkServerContext:
    """Return how workers are started; what they need begins to be loaded."""
    found = get_context("forkserver")
    found.set_forkserver_preload(LOADED)
    forkserver.ensure_running()
    return found
