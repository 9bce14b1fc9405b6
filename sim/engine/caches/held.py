"""What sequences hold of a prefix cache: runs of blocks, and whose texts they are."""

from typing import Final

from sim.engine.caches.runs import ANONYMOUS, Run
from sim.engine.sequence import Sequence

_OWN: Final = -2
"""Stream of what only the first request can look for; those of the others are below."""


def held_runs(sequence: Sequence) -> list[Run]:
    """Return the runs that a sequence holds, as they were split since."""
    runs: list[Run] = []
    for run, count in sequence.held:
        left = count - run.count
        runs.append(run)
        while left:
            rest = run.rest
            assert rest is not None
            run = rest
            left -= run.count
            runs.append(run)
    return runs


def own_stream(sequence: Sequence) -> int:
    """The stream of a request's own text."""
    return _OWN - sequence.request


def told(sequence: Sequence) -> int:
    """How many blocks of a sequence can have an identity."""
    return sequence.spans[-1][1] if sequence.spans else 0


def check_holders(running: list[Sequence]) -> None:
    """Compare what runs count with who holds them. Raises AssertionError: names what disagrees."""
    for run, count in _holders(running).items():
        if run.holders != count or run.after is not None:
            raise AssertionError(
                f"stream {run.stream} from block {run.first} on counts {run.holders} holders, "
                f"{count} requests hold it"
            )


def check_known(known: set[Run], running: list[Sequence], free: list[Run]) -> None:
    """Compare the runs that can be found with those that are held, and those that are free and
    have an identity. Raises AssertionError."""
    named, held = {run for run in free if run.stream != ANONYMOUS}, set(_holders(running))
    if known != named | held:
        raise AssertionError(
            f"{len(known)} runs can be found, {len(named)} free and {len(held)} held ones "
            "have an identity: expected the same runs"
        )


def _holders(running: list[Sequence]) -> dict[Run, int]:
    holders: dict[Run, int] = {}
    for sequence in running:
        for run in held_runs(sequence):
            holders[run] = holders.get(run, 0) + 1
    return holders
