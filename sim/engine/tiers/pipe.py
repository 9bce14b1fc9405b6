"""A link with two directions, each one job after the other, that share some of their speed.

in    |-- job 1 --|-------- job 2 --------|              alone: full speed
out               |-- job 3 --|-- job 4 --|              both: ``together`` of it, each
"""

from math import inf
from typing import Final

IN: Final = 0
OUT: Final = 1


class Job:
    """A transfer: ``work_s`` seconds of its direction at full speed."""

    __slots__ = ("done_s", "left_s", "since_s", "work_s")

    def __init__(self, work_s: float) -> None:
        self.work_s = work_s
        self.left_s = work_s
        """Seconds at full speed that were left at ``since_s``."""
        self.since_s = inf
        """When it began, or when its speed changed; infinity: it has not begun."""
        self.done_s = inf
        """When it ends, unless its speed changes."""


class Pipe:
    """A job begins when the one before it in its direction has ended.

    Args:
        together: speed of each direction while both are busy, as a share of its speed alone.
    """

    def __init__(self, together: float = 1.0) -> None:
        self.together = together
        self.lines: list[list[Job]] = [[], []]
        self._first = [0, 0]  # of each line, the place of the job under way
        self.busy_s = [0.0, 0.0]
        """How long each direction was at work on jobs that have ended."""

    def send(self, job: Job, way: int, now_s: float) -> None:
        """Add a job, now: not before the last time that was asked for."""
        self.lines[way].append(job)
        if self._head(way) is job:
            self._begin(job, way, now_s)

    def next_s(self) -> float:
        """When the next job ends; infinity without any."""
        one, other = self._head(IN), self._head(OUT)
        next_s = one.done_s if one is not None else inf
        return min(next_s, other.done_s) if other is not None else next_s

    def ended(self, now_s: float) -> list[Job]:
        """Jobs that have ended by now, in order; each is told once."""
        done: list[Job] = []
        while self.next_s() <= now_s:
            one, other = self._head(IN), self._head(OUT)
            way = IN
            if one is None or (other is not None and other.done_s < one.done_s):
                way = OUT
            job = other if way == OUT else one
            assert job is not None
            self._end(job, way)
            done.append(job)
        return done

    def _head(self, way: int) -> Job | None:
        line, first = self.lines[way], self._first[way]
        return line[first] if first < len(line) else None

    def _begin(self, job: Job, way: int, now_s: float) -> None:
        other = self._head(1 - way)
        speed = 1.0 if other is None else self.together
        job.since_s, job.done_s = now_s, now_s + job.left_s / speed
        if other is not None and len(self.lines[way]) - self._first[way] == 1:
            self._change(other, now_s, 1.0, self.together)

    def _end(self, job: Job, way: int) -> None:
        now_s = job.done_s
        self.busy_s[way] += job.work_s
        self._first[way] += 1
        following = self._head(way)
        if following is not None:
            other = self._head(1 - way)
            speed = 1.0 if other is None else self.together
            following.since_s, following.done_s = now_s, now_s + following.left_s / speed
            if self._first[way] > 64 and 2 * self._first[way] > len(self.lines[way]):
                del self.lines[way][: self._first[way]]
                self._first[way] = 0
            return
        self.lines[way].clear()
        self._first[way] = 0
        other = self._head(1 - way)
        if other is not None:
            self._change(other, now_s, self.together, 1.0)

    def _change(self, job: Job, now_s: float, before: float, after: float) -> None:
        """The job under way goes on at another speed."""
        if before == after:
            return
        job.left_s = max(0.0, job.left_s - (now_s - job.since_s) * before)
        job.since_s, job.done_s = now_s, now_s + job.left_s / after
