"""Which turns of a session are asked next, once one of them has left."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from workloads.requests import After, Requests


class Following(Protocol):
    """What comes after what."""

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """Note that a turn has its answer, or never will.

        Returns:
            The rows that are asked now, each after its think time; and whether the session is over,
            as nothing of it is asked any more.
        """


class Alone:
    """Requests without sessions."""

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """See ``Following``."""
        return [], True


class Chains:
    """Each turn is asked after the one before."""

    def __init__(self, turn: npt.NDArray[np.int64]) -> None:
        self._turn = turn

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """See ``Following``."""
        row += 1
        if answered and row < len(self._turn) and self._turn[row]:
            return [row], False
        return [], True


class Graphs:
    """A turn is asked after all of some earlier ones; so several of a session may be under way."""

    def __init__(self, after: After, session: npt.NDArray[np.int64]) -> None:
        counts = np.diff(after.offsets)
        behind = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        order = np.argsort(after.rows, kind="stable")
        self._behind = behind[order]
        starts = np.searchsorted(after.rows[order], np.arange(len(counts) + 1))
        self._starts = starts.astype(np.int64)
        self._missing = counts
        self._session = session
        self._under_way: dict[int, int] = {}
        """Of sessions with more than one turn under way or, from here on, none: how many."""

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """See ``Following``."""
        found = []
        if answered:
            for following in self._behind[self._starts[row] : self._starts[row + 1]].tolist():
                self._missing[following] -= 1
                if not self._missing[following]:
                    found.append(following)
        session = int(self._session[row])
        under_way = self._under_way.pop(session, 1) - 1 + len(found)
        if under_way:
            self._under_way[session] = under_way
        return found, not under_way


def following_of(requests: Requests) -> Following:
    """Return what tells which rows come after one."""
    if requests.turn is None or requests.session is None:
        return Alone()
    if requests.after is None:
        return Chains(requests.turn)
    return Graphs(requests.after, requests.session)
