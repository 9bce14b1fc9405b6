"""Gaps between consecutive tokens of a request, from the columns of steps."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.result import Result

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenGaps:
    """Inter-token latencies: row ``i`` stands for ``weight[i]`` equal gaps that ended together."""

    gap_s: Floats
    end_s: Floats
    weight: Ints


def token_gaps(result: Result) -> TokenGaps:
    """Every gap between consecutive tokens of one request, without expanding to tokens.

    A running batch decodes together, so one step gives each of its sequences one gap::

        step       p           q           i
        decodes    5           0           7
        joined     -           2           -
                   |-----------------------|  5 gaps: those that decoded in p
                               |-----------|  2 gaps: those whose prefill ended in q

    Sequences that joined in ``p`` itself have the gap of those that decoded in it. A gap across a
    preemption is in ``result.resumed_gap_s``, with weight 1; a sequence that is preempted between
    joining and its first decoding step must not be counted as joined. The same holds for one that
    the token budget did not reach; when it decodes again it is in ``result.returned_step``.

    Raises:
        ValueError: a step decodes other sequences than those that joined before.
    """
    steps = result.steps()
    end_s = result.step_end_s
    replica = np.asarray(steps["replica"], dtype=np.int64)
    decodes = np.asarray(steps["decodes"], dtype=np.int64)
    joined = np.asarray(steps["joined"], dtype=np.int64)
    index = np.arange(len(end_s))
    decoding = decodes > 0
    changes = replica[1:] != replica[:-1]
    first = np.maximum.accumulate(np.where(np.append([True], changes), index, 0))
    last = _backwards_minimum(np.where(np.append(changes, [True]), index, len(index)))
    previous, since = _history(decoding, joined, first)

    veterans = np.where(decoding, decodes - since, 0)
    if len(result.returned_step):  # their gaps are longer, and among the resumed ones
        veterans -= np.bincount(result.returned_step, minlength=len(veterans))
    wrong = np.flatnonzero((veterans < 0) | ((veterans > 0) & (previous < first)))
    if len(wrong):
        step = int(wrong[0])
        raise ValueError(
            f"replica {replica[step]} decodes {decodes[step]} sequences in the step that ended at "
            f"{end_s[step]} s, expected the {since[step]} that joined since its last decoding step"
            f"{'' if previous[step] < first[step] else ' or more'}"
        )
    old = np.flatnonzero(veterans)

    # Joiners of a step q without decoding take their first gap at the next decoding step, i.
    following = _backwards_minimum(np.where(decoding, index, len(index)))
    new = np.flatnonzero(~decoding & (joined > 0) & (following <= last))
    at = following[new]

    return TokenGaps(
        np.concatenate(
            (end_s[old] - end_s[previous[old]], end_s[at] - end_s[new], result.resumed_gap_s)
        ),
        np.concatenate((end_s[old], end_s[at], result.resumed_end_s)),
        np.concatenate((veterans[old], joined[new], np.ones(len(result.resumed_gap_s), np.int64))),
    )


def _history(decoding: npt.NDArray[np.bool_], joined: Ints, first: Ints) -> tuple[Ints, Ints]:
    """Of every step: the decoding step before it, p, and how many joined after p without decoding.

    ``first`` is the first step of the same replica; p is ``first - 1`` when there is none.
    """
    latest = np.maximum.accumulate(np.where(decoding, np.arange(len(decoding)), -1))
    previous = np.maximum(np.append([-1], latest[:-1])[: len(latest)], first - 1)
    newcomers = np.where(decoding, 0, joined)
    total = np.cumsum(newcomers)
    since = total - newcomers - np.where(previous >= 0, total[previous], 0)
    return previous, since


def _backwards_minimum(values: Ints) -> Ints:
    """Smallest value at or after each position."""
    return np.minimum.accumulate(values[::-1])[::-1]
