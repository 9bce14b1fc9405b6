"""What the prompts of turns have in common with those before, as streams of text.

The answer to a turn is said again by the turn that goes on with it, so both find it in a cache.
"""

from itertools import pairwise

import numpy as np

from workloads.requests import After, Ints, Prefixes, Requests


def full_blocks(prefixes: Prefixes) -> Ints:
    """Return how many blocks of each prompt are full; the last one may be partial.

    A prompt that has a second block fills its first, which tells the size of all.
    """
    counts = np.diff(prefixes.offsets)
    some = counts > 0
    firsts = prefixes.ends[prefixes.offsets[:-1][some]]
    size = int(firsts.max(initial=0))
    last = np.zeros(len(counts), dtype=np.int64)
    last[some] = prefixes.ends[prefixes.offsets[1:][some] - 1]
    return counts - (some & (last < size * counts))


def continued(requests: Requests, prefixes: Prefixes, after: After) -> Ints:
    """Return of each row whose prompt it says again, of those it waits for; -1 for none.

    That is so if it is longer and begins with all full blocks of that prompt, one at least; of
    several the longest.

    Args:
        requests: the rows.
        prefixes: identities of their blocks.
        after: whose answers each waits for.
    """
    full, counts = full_blocks(prefixes), np.diff(prefixes.offsets)
    rows, earlier = _pairs(after)
    fits = (full[earlier] > 0) & (full[earlier] <= counts[rows])
    fits &= requests.prompt_tokens[earlier] < requests.prompt_tokens[rows]
    rows, earlier = rows[fits], earlier[fits]
    place = full[earlier] - 1
    same = prefixes.streams[prefixes.offsets[rows] + place]
    alike = same == prefixes.streams[prefixes.offsets[earlier] + place]
    return _longest(requests, rows[alike], earlier[alike])


def _pairs(after: After) -> tuple[Ints, Ints]:
    """Rows, and each of those that they wait for."""
    counts = np.diff(after.offsets)
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts), after.rows


def _longest(requests: Requests, rows: Ints, earlier: Ints) -> Ints:
    """Return of each row the one with the longest prompt that is paired with it; -1 for none."""
    found = np.full(len(requests), -1, dtype=np.int64)
    order = np.argsort(requests.prompt_tokens[earlier], kind="stable")
    found[rows[order]] = earlier[order]  # the last one stays
    return found


def said_again(requests: Requests, prefixes: Prefixes, before: Ints) -> Prefixes:
    """Let every prompt that another goes on with tell its answer, too, as the other says it again.

    Where the other is at least as long as prompt and answer, these are its first tokens. Of several
    that go on with it the first counts.
    """
    whole = requests.prompt_tokens + requests.output_tokens
    rows = np.flatnonzero(before >= 0)[::-1]
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


def grown(requests: Requests, after: After) -> Ints:
    """Return the prompts of turns that tell what they add: all that was said before comes first.

    Args:
        requests: the rows, with prompts as told.
        after: whose answers each waits for; it goes on with the first of them.
    """
    prompts, outputs = requests.prompt_tokens.tolist(), requests.output_tokens.tolist()
    counts = np.diff(after.offsets).tolist()
    for row, start in enumerate(after.offsets[:-1].tolist()):
        if counts[row]:
            before = int(after.rows[start])
            prompts[row] += prompts[before] + outputs[before]
    return np.array(prompts, dtype=np.int64)


def resent(requests: Requests, after: After, first: Prefixes | None = None) -> Prefixes:
    """Return the streams of turns that say again all that was said, where nothing tells otherwise.

    A turn goes on with a prompt and an answer that it waited for, if it is longer than both, with
    the longest; else its text is its own. Of several that go on with the same answer, the first
    goes on with its stream, the others branch off. ``first`` tells how first turns begin.
    """
    rows, earlier = _pairs(after)
    totals = requests.prompt_tokens + requests.output_tokens
    fits = requests.prompt_tokens[rows] >= totals[earlier]
    before = _longest(requests, rows[fits], earlier[fits]).tolist()
    whole, prompts = totals.tolist(), requests.prompt_tokens.tolist()
    told: list[list[tuple[int, int]]] = []
    gone_on: set[int] = set()
    begins, own = _first_texts(first, len(requests))
    for row, goes_on in enumerate(before):
        if goes_on < 0:
            told.append([*begins[row], (own + row, prompts[row])])
        elif goes_on in gone_on:
            told.append([*told[goes_on], (own + row, prompts[row])])
        else:
            gone_on.add(goes_on)
            stream, _ = told[goes_on][-1]
            told[goes_on][-1] = (stream, whole[goes_on])
            told.append([*told[goes_on][:-1], (stream, prompts[row])])
    counts = [len(each) for each in told]
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))
    pairs = np.array([pair for each in told for pair in each], dtype=np.int64).reshape(-1, 2)
    return Prefixes(offsets, pairs[:, 0].copy(), pairs[:, 1].copy())


def _first_texts(first: Prefixes | None, rows: int) -> tuple[list[list[tuple[int, int]]], int]:
    """Streams and ends of each row, and a number that no stream has, nor any above it."""
    if first is None:
        return [[] for _ in range(rows)], 0
    pairs = list(zip(first.streams.tolist(), first.ends.tolist(), strict=True))
    bounds = pairwise(first.offsets.tolist())
    return [pairs[low:high] for low, high in bounds], int(first.streams.max(initial=-1)) + 1
