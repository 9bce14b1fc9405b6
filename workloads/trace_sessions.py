"""Sessions of a recorded trace: whose prompts go on with earlier ones, asked as their users would.

A trace tells when each request came, not that a user waited for an answer before. Where prompts
have identities of their blocks (``hash_ids``), it tells whose prompts begin with all full blocks of
an earlier one::

    row 3    [a][b][c][d ]           the whole of it but its last, partial block: a b c
    row 9    [a][b][c][e][f ]        goes on with row 3, if nobody did before

Such rows are turns of a session. The first is asked when it was recorded, every further one a gap
after the answer to the one before: the recorded distance of the two, less what the answer took
where it was recorded. So a slow system is not sent turns whose users would still be waiting.

Not covered: turns that wait for several others; of two prompts that go on with the same one, the
later is a session of its own.
"""

from itertools import pairwise

import numpy as np

from workloads.config import Config, Count, NonNegative, Positive
from workloads.requests import Floats, Ints, Prefixes, Requests


class TraceSessions(Config):
    """Turns of conversations in a trace, each asked a gap after the answer before.

    They are found by the ``hash_ids`` of a Mooncake or Bailian trace: a prompt that begins with all
    full blocks of an earlier one goes on with it.
    """

    shared_blocks: Count = 2
    """Fewest blocks that two prompts need to have in common: many begin with the same system
    prompt."""
    longest_gap_s: Positive | None = None
    """A prompt that came later than this after the one that it goes on with begins a session of its
    own, seconds. Default: never too late."""
    recorded_ttft_s: NonNegative = 0.0
    """What the first token of an answer took where the trace was recorded, seconds."""
    recorded_tpot_s: NonNegative = 0.0
    """And every further one. The gap after an answer is the recorded distance of two turns less
    these; with 0 users are slower than they were by what their answers took."""


def in_sessions(requests: Requests, sessions: TraceSessions, rate_scale: float = 1.0) -> Requests:
    """Return the same requests session by session.

    ``rate_scale``: so many times as fast as recorded are the arrivals. More sessions begin in a
    second then; the gaps within one are as recorded.

    Raises:
        ValueError: nothing is known of how prompts begin.
    """
    if requests.prefixes is None:
        raise ValueError(
            "trace_sessions: nothing tells which prompts go on with others, expected hash_ids in "
            "every row"
        )
    recorded_s = requests.arrival_s * rate_scale
    before = _before(requests, requests.prefixes, recorded_s, sessions)
    order, turn = _in_order(before)
    follows = before[order] >= 0
    gap_s = _gaps_s(requests, recorded_s, before, sessions)[order]
    arrival_s = np.where(follows, np.nan, requests.arrival_s[order])
    session = np.cumsum(~follows) - 1
    prefixes = _with_answers(requests, requests.prefixes, before).taken(order)
    return Requests(
        arrival_s=arrival_s,
        prompt_tokens=requests.prompt_tokens[order],
        output_tokens=requests.output_tokens[order],
        priority=requests.priority[order],
        think_s=np.where(follows, gap_s, 0.0),
        prefixes=prefixes,
        session=session,
        turn=turn,
        notes=(*requests.notes, _told(session, turn, gap_s[follows], sessions)),
    )


def _before(
    requests: Requests, prefixes: Prefixes, recorded_s: Floats, sessions: TraceSessions
) -> Ints:
    """Return of each row the row that it goes on with; -1 for none."""
    offsets, streams = prefixes.offsets.tolist(), prefixes.streams.tolist()
    ends, prompts = prefixes.ends.tolist(), requests.prompt_tokens.tolist()
    arrivals, longest = recorded_s.tolist(), sessions.longest_gap_s
    firsts = prefixes.ends[prefixes.offsets[:-1][np.diff(prefixes.offsets) > 0]]
    size = int(firsts.max(initial=0))  # of a block: a prompt that has a second one fills its first
    before = np.full(len(prompts), -1, dtype=np.int64)
    last: dict[int, int] = {}  # by the last full block of its prompt, who was not gone on with
    for row, (start, stop) in enumerate(pairwise(offsets)):
        full = stop
        if stop > start and ends[stop - 1] < size * (stop - start):
            full -= 1
        for place in range(stop - 1, start + sessions.shared_blocks - 2, -1):
            earlier = last.get(streams[place])
            if earlier is None or prompts[earlier] >= prompts[row]:
                continue
            if longest is None or arrivals[row] - arrivals[earlier] <= longest:
                before[row] = earlier
                del last[streams[place]]
            break
        if full - start >= sessions.shared_blocks:
            last[streams[full - 1]] = row
    return before


def _in_order(before: Ints) -> tuple[Ints, Ints]:
    """Return rows session by session, in the order of their first turns, and the turn of each."""
    after = np.full(len(before), -1, dtype=np.int64)
    rows = np.flatnonzero(before >= 0)
    after[before[rows]] = rows
    following, order, turn = after.tolist(), [], []
    for first in np.flatnonzero(before < 0).tolist():
        row, number = first, 0
        while row >= 0:
            order.append(row)
            turn.append(number)
            row, number = following[row], number + 1
    return np.array(order, dtype=np.int64), np.array(turn, dtype=np.int64)


def _gaps_s(
    requests: Requests, recorded_s: Floats, before: Ints, sessions: TraceSessions
) -> Floats:
    """Time between the answer to the row before, as it was recorded, and each row; at least 0."""
    took_s = sessions.recorded_ttft_s + sessions.recorded_tpot_s * (requests.output_tokens - 1)
    gap_s = recorded_s - recorded_s[before] - took_s[before]
    return np.where(before >= 0, np.maximum(gap_s, 0.0), 0.0)


def _with_answers(requests: Requests, prefixes: Prefixes, before: Ints) -> Prefixes:
    """Let every prompt that another goes on with tell its answer, too, as the other says it again.

    Where the other is at least as long as prompt and answer, these are its first tokens.
    """
    whole = requests.prompt_tokens + requests.output_tokens
    rows = np.flatnonzero(before >= 0)
    rows = rows[requests.prompt_tokens[rows] >= whole[before[rows]]]
    source, most = np.arange(len(before), dtype=np.int64), requests.prompt_tokens.copy()
    source[before[rows]], most[before[rows]] = rows, whole[before[rows]]
    taken = prefixes.taken(source)
    owner = np.repeat(np.arange(len(before)), np.diff(taken.offsets))
    begins = np.concatenate((np.zeros(1, dtype=np.int64), taken.ends[:-1]))
    begins[np.flatnonzero(np.diff(owner, prepend=-1))] = 0
    kept = begins < most[owner]
    counts = np.bincount(owner[kept], minlength=len(before))
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    ends = np.minimum(taken.ends, most[owner])
    return Prefixes(offsets, taken.streams[kept], ends[kept])


def _told(session: Ints, turn: Ints, gap_s: Floats, sessions: TraceSessions) -> str:
    count, most = int(session[-1]) + 1, int(turn.max()) + 1
    middle = f", half of them with gaps of at most {np.median(gap_s):,.4g} s" if len(gap_s) else ""
    took = ""
    if not sessions.recorded_ttft_s and not sessions.recorded_tpot_s:
        took = "; what answers took when it was recorded is in the gaps"
    return (
        f"sessions: {len(session):,} requests are turns of {count:,} sessions, at most {most} of "
        f"one{middle}; the first is asked at its time, each further one its gap after the answer "
        f"before{took}"
    )
