"""Sessions of a recorded trace: whose prompts go on with earlier ones, asked as their users would.

A trace tells when each request came, not that a user waited for an answer before. Some name it:
chats, agents and their sub-agents (``workloads.traces.links``). Elsewhere, where prompts have
identities of their blocks (``hash_ids``), they tell whose prompts begin with all full blocks of an
earlier one::

    row 3    [a][b][c][d ]           the whole of it but its last, partial block: a b c
    row 9    [a][b][c][e][f ]        goes on with row 3, if nobody did before

Such rows are turns of a session. The first is asked when it was recorded, every further one a gap
after the answers that it waits for: the recorded distance, less what these answers took where they
were recorded. So a slow system is not sent turns whose users would still be waiting.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workloads.config import Config, Count, NonNegative, Positive
from workloads.continued import continued, full_blocks, grown, resent, said_again
from workloads.counts import count_of
from workloads.requests import After, Floats, Ints, Requests

if TYPE_CHECKING:
    from workloads.traces.links import Links


class TraceSessions(Config):
    """Turns of conversations and agents in a trace, each asked a gap after the answer before.

    Who waits for whom is told by the columns of the format, if it has some, or found by hash_ids: a
    prompt that begins with all full blocks of an earlier one goes on with it.
    """

    shared_blocks: Count = 2
    """Of turns that are found by hash_ids: fewest blocks that two prompts need to have in common,
    as many begin with the same system prompt."""
    longest_gap_s: Positive | None = None
    """Of turns that are found by hash_ids: a prompt that came later than this after the one that it
    goes on with begins a session of its own, seconds. Default: never too late."""
    most_gap_s: Positive | None = None
    """Longer gaps are cut to this, seconds. Default: gaps are as recorded."""
    recorded_ttft_s: NonNegative = 0.0
    """What the first token of an answer took where the trace was recorded, seconds; of no
    importance where the trace tells what answers took, or gaps."""
    recorded_tpot_s: NonNegative = 0.0
    """And every further one. The gap after an answer is the recorded distance of two turns less
    these; with 0 users are slower than they were by what their answers took."""
    resent: bool = True
    """Where the trace says which requests are turns, but not what prompts have in common: whether a
    turn says again all that was said before, if its prompt is long enough."""


def in_sessions(
    requests: Requests, links: "Links | None", sessions: TraceSessions, rate_scale: float = 1.0
) -> Requests:
    """Return the same requests session by session.

    Args:
        requests: by time.
        links: who waits for whom, where the trace says so.
        sessions: the rules.
        rate_scale: so many times as fast as recorded are the arrivals. More sessions begin in a
            second then; the gaps within one are as recorded.

    Raises:
        ValueError: nothing is known of how prompts begin, or a request waits for two sessions.
    """
    recorded_s = requests.arrival_s * rate_scale
    if links is None:
        links = _found(requests, recorded_s, sessions)
    elif sessions.longest_gap_s is not None:
        raise ValueError(
            f"trace_sessions.longest_gap_s(={sessions.longest_gap_s:g}) is for sessions that are "
            "found by hash_ids, and this trace tells its own; expected most_gap_s"
        )
    session = _sessions(links.after)
    order = np.argsort(session, kind="stable")
    follows = np.diff(links.after.offsets)[order] > 0
    gap_s = _gaps_s(requests, recorded_s, links, sessions)
    number = np.cumsum(~follows) - 1
    turn = np.arange(len(order)) - np.flatnonzero(~follows)[number]
    prefixes = requests.prefixes
    if links.adds:
        requests = replace(requests, prompt_tokens=grown(requests, links.after), prefixes=None)
        prefixes = resent(requests, links.after, prefixes)
    elif prefixes is not None:
        prefixes = said_again(requests, prefixes, continued(requests, prefixes, links.after))
    elif sessions.resent:
        prefixes = resent(requests, links.after)
    return Requests(
        arrival_s=np.where(follows, np.nan, requests.arrival_s[order]),
        prompt_tokens=requests.prompt_tokens[order],
        output_tokens=requests.output_tokens[order],
        priority=requests.priority[order],
        think_s=gap_s[order],
        prefixes=prefixes and prefixes.taken(order),
        session=number,
        turn=turn,
        after=_ordered(links.after, order),
        notes=(*requests.notes, _told(number, turn, gap_s[order][follows], links, sessions)),
    )


def _found(requests: Requests, recorded_s: Floats, sessions: TraceSessions) -> "Links":
    """Links by the identities of blocks."""
    from workloads.traces.links import Links

    if requests.prefixes is None:
        raise ValueError(
            "trace_sessions: nothing tells which prompts go on with others, expected hash_ids in "
            "every row, or columns that name sessions"
        )
    before = _before(requests, recorded_s, sessions)
    counts = (before >= 0).astype(np.int64)
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    unknown = np.full(len(before), np.nan)
    return Links(After(offsets, before[before >= 0]), unknown, unknown, 0)


def _before(requests: Requests, recorded_s: Floats, sessions: TraceSessions) -> Ints:
    """Return of each row the row that it goes on with; -1 for none."""
    prefixes = requests.prefixes
    assert prefixes is not None
    full = full_blocks(prefixes).tolist()
    starts, streams = prefixes.offsets.tolist(), prefixes.streams.tolist()
    prompts = requests.prompt_tokens.tolist()
    arrivals, longest = recorded_s.tolist(), sessions.longest_gap_s
    before = np.full(len(prompts), -1, dtype=np.int64)
    last: dict[int, int] = {}  # by the last full block of its prompt, who was not gone on with
    for row, start in enumerate(starts[:-1]):
        for place in range(starts[row + 1] - 1, start + sessions.shared_blocks - 2, -1):
            earlier = last.get(streams[place])
            if earlier is None or prompts[earlier] >= prompts[row]:
                continue
            if longest is None or arrivals[row] - arrivals[earlier] <= longest:
                before[row] = earlier
                del last[streams[place]]
            break
        if full[row] >= sessions.shared_blocks:
            last[streams[start + full[row] - 1]] = row
    return before


def _sessions(after: After) -> Ints:
    """Return the number of each row's session, counted by their first rows.

    Raises:
        ValueError: a row waits for rows of two sessions.
    """
    offsets, rows = after.offsets.tolist(), after.rows.tolist()
    session: list[int] = []
    count = 0
    for row in range(len(offsets) - 1):
        before = {session[each] for each in rows[offsets[row] : offsets[row + 1]]}
        if len(before) > 1:
            raise ValueError(
                "trace_sessions: a request waits for requests of several sessions, expected "
                "sessions that begin with one request"
            )
        session.append(before.pop() if before else count)
        count = max(count, session[-1] + 1)
    return np.array(session, dtype=np.int64)


def _ordered(after: After, order: Ints) -> After | None:
    """Return the same for rows in another order; None where each waits for the one before."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    counts = np.diff(after.offsets)[order]
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    places = np.arange(offsets[-1]) + np.repeat(after.offsets[:-1][order] - offsets[:-1], counts)
    rows = rank[after.rows[places]]
    if counts.max(initial=0) <= 1 and np.array_equal(rows, np.flatnonzero(counts) - 1):
        return None
    return After(offsets, rows)


def _gaps_s(
    requests: Requests, recorded_s: Floats, links: "Links", sessions: TraceSessions
) -> Floats:
    """Time between the last answer that a row waits for, as recorded, and the row; at least 0."""
    took_s = sessions.recorded_ttft_s + sessions.recorded_tpot_s * (requests.output_tokens - 1)
    took_s = np.where(np.isnan(links.took_s), took_s, links.took_s)
    counts = np.diff(links.after.offsets)
    follows = counts > 0
    recorded_gap_s = np.zeros(len(counts))
    if len(links.after.rows):
        before = links.after.rows
        since_s = np.repeat(recorded_s, counts) - recorded_s[before] - took_s[before]
        starts = links.after.offsets[:-1][follows]
        recorded_gap_s[follows] = np.maximum(np.minimum.reduceat(since_s, starts), 0.0)
    gap_s = np.where(np.isnan(links.gap_s), recorded_gap_s, links.gap_s)
    if sessions.most_gap_s is not None:
        gap_s = np.minimum(gap_s, sessions.most_gap_s)
    return np.where(follows, gap_s, 0.0)


def _told(session: Ints, turn: Ints, gap_s: Floats, links: "Links", sessions: TraceSessions) -> str:
    count, most = int(session[-1]) + 1, int(turn.max()) + 1
    middle = f", half of them with gaps of at most {np.median(gap_s):,.4g} s" if len(gap_s) else ""
    took = ""
    known = np.isfinite(links.gap_s).any() or np.isfinite(links.took_s).any()
    if not known and not sessions.recorded_ttft_s and not sessions.recorded_tpot_s:
        took = "; what answers took when it was recorded is in the gaps"
    lost = ""
    if links.lost:
        lost = f"; {links.lost:,} go on with requests that are not in the trace, and begin sessions"
    return (
        f"sessions: {count_of(len(session), 'turn')} of {count_of(count, 'session')}, at most "
        f"{most} of one{middle}; the first is asked at its time, each further one its gap after "
        f"the answer before{took}{lost}"
    )
