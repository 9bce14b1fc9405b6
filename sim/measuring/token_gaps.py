"""Gaps between consecutive tokens of a request, from the columns of steps."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from sim.measuring.successive import before
from sim.recording.blocks import STEPS, Block, blocks
from sim.recording.result import Result

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenGaps:
    """Inter-token latencies: row ``i`` stands for ``weight[i]`` equal gaps that ended together.

    A weight may be 0, and the gap is then 0, too.
    """

    gap_s: Floats
    end_s: Floats
    weight: Ints

    def within(self, start_s: float, stop_s: float) -> "TokenGaps":
        """Those that ended after ``start_s`` and not after ``stop_s``."""
        end_s = self.end_s
        if not len(end_s) or (end_s.min() > start_s and end_s.max() <= stop_s):
            return self
        inside = (end_s > start_s) & (end_s <= stop_s)
        return TokenGaps(self.gap_s[inside], end_s[inside], self.weight[inside])


def token_gaps(result: Result) -> Iterator[TokenGaps]:
    """Every gap between consecutive tokens of one request, block by block, not token by token.

    A running batch decodes together, so one step gives each of its sequences one gap (and, with
    drafts, as many gaps of 0 as drafts were accepted)::

        step       p           q           i
        decodes    5           0           7
        joined     -           2           -
                   |-----------------------|  5 gaps: those that decoded in p
                               |-----------|  2 gaps: those whose prefill ended in q

    Sequences that joined in ``p`` itself have the gap of those that decoded in it. A gap across a
    preemption is in ``result.resumed_gap_s``, with weight 1; a sequence that is preempted between
    joining and its first decoding step must not be counted as joined. The same holds for one that
    the token budget did not reach; when it decodes again it is in ``result.returned_step``.

    Engines with pipeline stages say of each step behind which earlier ones its tokens come.

    Raises:
        ValueError: a step decodes other sequences than those that joined before.
    """
    history, by_steps = _History(), GapsBySteps(result)
    for block in blocks(result):
        if by_steps.tell(block):
            yield from by_steps.gaps(block)
            continue
        if block.begins:
            history = _History()
        yield from history.gaps(block)
    for start in range(0, len(result.resumed_gap_s), STEPS):
        rows = slice(start, start + STEPS)
        gap_s = np.asarray(result.resumed_gap_s[rows], dtype=np.float64)
        end_s = np.asarray(result.resumed_end_s[rows], dtype=np.float64)
        yield TokenGaps(gap_s, end_s, np.ones(len(gap_s), dtype=np.int64))


class GapsBySteps:
    """Gaps of replicas that say of each step behind which earlier ones its tokens come.

    A token may follow one of any step before, so the ends of a replica's steps are kept.
    """

    def __init__(self, result: Result) -> None:
        self._result = result
        counts = result.replicas.get("gaps", np.zeros(len(result.reads), np.int64))
        self._last = np.cumsum(counts)
        self._first = self._last - counts
        self._row = 0
        self._seen_s: list[Floats] = []
        self._steps = 0

    def tell(self, block: Block) -> bool:
        """Take a block; say whether its replica is one of these."""
        replica = block.replica
        if self._first[replica] == self._last[replica]:
            return False
        if block.begins:
            self._row, self._seen_s, self._steps = int(self._first[replica]), [], 0
        self._seen_s.append(block.seen_s)
        self._steps += len(block.seen_s)
        return True

    def gaps(self, block: Block) -> Iterator[TokenGaps]:
        """The gaps that end in a block."""
        seen_s, last = np.concatenate(self._seen_s), int(self._last[block.replica])
        self._seen_s = [seen_s]
        while self._row < last:
            until = min(self._row + 3 * STEPS, last)
            rows = np.asarray(self._result.gaps[self._row : until]).reshape(-1, 3)
            here = int(np.searchsorted(rows[:, 0], self._steps))
            step, before, weight = rows[:here].T
            yield TokenGaps(seen_s[step] - seen_s[before], seen_s[step], weight)
            self._row += 3 * here
            if here < len(rows):
                return


class _History:
    """What the next block of a replica has to know of those before it."""

    def __init__(self) -> None:
        self.decoded_s = np.nan
        """End of the last step that decoded; NaN if none did."""
        self.joined_s: Floats = np.empty(0)
        """Ends of the steps without decoding since then in which sequences joined."""
        self.joined: Ints = np.empty(0, dtype=np.int64)
        """How many did in each."""

    def gaps(self, block: Block) -> Iterator[TokenGaps]:
        """The gaps that end in a block: within decoding, and of those who join it."""
        decodes, steps, ends_s = block.ints("decodes"), block.ints("steps"), block.seen_s
        first = np.cumsum(steps) - steps
        end_s = ends_s[first + steps - 1]
        joined = np.where(decodes > 0, 0, block.ints("joined"))
        decoding = np.flatnonzero(decodes)
        waiting = np.concatenate(([self.joined.sum()], self.joined.sum() + np.cumsum(joined)))
        # Who joined between a decoding segment and the one before it.
        since = waiting[decoding] - before(waiting[decoding], 0)
        before_s = before(end_s[decoding], self.decoded_s)
        # Their gaps are longer, and among the resumed ones.
        veterans = decodes[decoding] - since
        if len(block.returned_step):
            rows = np.searchsorted(first, block.returned_step)
            veterans -= np.bincount(rows, minlength=len(first))[decoding]
        self._check(block, decoding, veterans, before_s, since)

        gap_s = np.empty_like(ends_s)
        np.subtract(ends_s[1:], ends_s[:-1], out=gap_s[1:])  # of a segment's first step: below
        begun = first[decoding]
        gap_s[begun] = ends_s[begun] - before_s
        weight = np.repeat(decodes, steps)
        weight[begun] = veterans
        nobody = np.flatnonzero(decodes == 0)
        if (steps[nobody] > 1).any():
            gap_s[weight == 0] = 0.0
        else:
            gap_s[first[nobody]] = gap_s[begun[veterans == 0]] = 0.0
        yield TokenGaps(gap_s, ends_s, weight)
        if "gained" in block.segments:
            # Accepted drafts arrive together with the token in front of them.
            together = np.repeat(block.gained() - decodes, steps)
            yield TokenGaps(np.zeros(len(ends_s)), ends_s, together)

        # Joiners of a step without decoding take their first gap at the next decoding step.
        rows = np.flatnonzero(joined)
        joined_s = np.concatenate((self.joined_s, end_s[rows]))
        count = np.concatenate((self.joined, joined[rows]))
        rows = np.concatenate((np.full(len(self.joined), -1), rows))
        place = np.searchsorted(decoding, rows)
        taken = place < len(decoding)
        at_s = ends_s[first[decoding[place[taken]]]]
        yield TokenGaps(at_s - joined_s[taken], at_s, count[taken])
        self.joined_s, self.joined = joined_s[~taken], count[~taken]
        if len(decoding):
            self.decoded_s = float(end_s[decoding[-1]])

    @staticmethod
    def _check(block: Block, decoding: Ints, veterans: Ints, before_s: Floats, since: Ints) -> None:
        wrong = np.flatnonzero((veterans < 0) | ((veterans > 0) & np.isnan(before_s)))
        if not len(wrong):
            return
        place = wrong[0]
        row, steps = decoding[place], block.ints("steps")
        ends_at = block.step_end_s[steps[:row].sum()]
        raise ValueError(
            f"replica {block.replica} decodes {block.segments['decodes'][row]} sequences in the "
            f"step that ended at {ends_at} s, expected the {since[place]} that joined since its "
            f"last decoding step{'' if np.isnan(before_s[place]) else ' or more'}"
        )
