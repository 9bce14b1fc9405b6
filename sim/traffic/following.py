"""Which turns of a session are asked next, once one of them has left."""

from array import array


class Following:
    """What comes after what. As it stands: requests without sessions, after which nothing comes."""

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """Note that a turn has its answer, or never will.

        Returns:
            The rows that are asked now, each after its think time; and whether the session is over,
            as nothing of it is asked any more.
        """
        return [], True


class Chains(Following):
    """Each turn is asked after the one before.

    Args:
        turn: of each row its place in its session; rows of a session follow each other.
    """

    def __init__(self, turn: memoryview) -> None:
        self._turn = turn

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """See ``Following``."""
        row += 1
        if answered and row < len(self._turn) and self._turn[row]:
            return [row], False
        return [], True


class Graphs(Following):
    """A turn is asked after all of some earlier ones; so several of a session may be under way.

    Args:
        starts: of each row, where the rows begin that wait for it; and the end of all.
        behind: these rows.
        missing: of each row, for how many it still waits.
        session: of each row.
    """

    def __init__(
        self, starts: memoryview, behind: memoryview, missing: "array[int]", session: memoryview
    ) -> None:
        self._starts, self._behind = starts, behind
        self._missing = missing
        self._session = session
        self._under_way: dict[int, int] = {}
        """Of sessions with more than one turn under way or, from here on, none: how many."""

    def left(self, row: int, answered: bool) -> tuple[list[int], bool]:
        """See ``Following``."""
        found: list[int] = []
        if answered:
            for place in range(self._starts[row], self._starts[row + 1]):
                following = self._behind[place]
                self._missing[following] -= 1
                if not self._missing[following]:
                    found.append(following)
        session = self._session[row]
        under_way = self._under_way.pop(session, 1) - 1 + len(found)
        if under_way:
            self._under_way[session] = under_way
        return found, not under_way
