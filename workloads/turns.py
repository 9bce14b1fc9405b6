"""The turns of sessions: drawn, cut at a most of tokens, and as streams of text."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from workloads.lengths import Lengths
from workloads.requests import After, Ints, Prefixes
from workloads.sessions import AT_ONCE, FIRST, MOST_TURNS, QUESTION, TOOL, Sessions
from workloads.streams import stream
from workloads.tools import Started, Tools, started

_FAIR_TRIAL = 1000
"""Sessions of which one should fit."""
_ROWS = 2_000_000
"""Turns that are drawn for those who have a place, when most sessions break off."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns of sessions, session by session; all columns have the shape (turns,)."""

    session: Ints
    """Number of the session as drawn; those that never begin are missing."""
    turn: Ints
    """From 0."""
    prompt_tokens: Ints
    output_tokens: Ints
    cut: npt.NDArray[np.bool_]
    """Whether the prompt lost its oldest tokens."""
    gap: Ints
    """What is between the answers that a turn waits for and it: see ``workloads.sessions``."""
    told: npt.NDArray[np.bool_]
    """Whether the answer is all said again where it stood."""
    agent: Ints
    """Number of the sub-agent that asks, from 1; 0 for the session's own turns."""
    after: After | None = None
    """Whose answers turns wait for; None: each for the one before."""

    def taken(self, rows: slice | npt.NDArray[np.bool_]) -> "Turns":
        """Return some of the turns, before it is known what they wait for."""
        return Turns(
            self.session[rows], self.turn[rows], self.prompt_tokens[rows],
            self.output_tokens[rows], self.cut[rows], self.gap[rows], self.told[rows],
            self.agent[rows],
        )  # fmt: skip

    def first(self, count: int) -> "Turns":
        """Return the first turns."""
        after = self.after
        if after is not None:
            after = After(after.offsets[: count + 1], after.rows[: after.offsets[count]])
        return replace(self.taken(slice(count)), after=after)

    def prefixes(self, system_tokens: int) -> Prefixes:
        """Return the streams of the prompts: the system prompt, then the text of who asks.

        Where a next turn says the answer again, the stream goes to its end. A prompt that lost
        tokens has nothing in common with others but the system prompt.
        """
        rows, shared = len(self.turn), int(system_tokens > 0)
        sessions = np.cumsum(self.turn == 0) - 1
        own = shared + np.where(self.cut, int(rows) + np.arange(rows), sessions)
        own = np.where(self.agent > 0, shared + 2 * int(rows) + self.agent, own)
        said_again = np.zeros(rows, dtype=np.bool_)
        order = np.argsort(own, kind="stable")
        said_again[order[:-1]] = own[order[1:]] == own[order[:-1]]
        said_again &= self.told
        ends = self.prompt_tokens + np.where(said_again, self.output_tokens, 0)
        streams, stops = [own], [ends]
        if shared:
            streams.insert(0, np.zeros(rows, dtype=np.int64))
            stops.insert(0, np.full(rows, system_tokens, dtype=np.int64))
        return Prefixes(
            np.arange(rows + 1, dtype=np.int64) * len(streams),
            np.stack(streams, axis=1).reshape(-1),
            np.stack(stops, axis=1).reshape(-1),
        )


def first_turns(sessions: Sessions, lengths: Lengths, count: int, seed: int) -> Turns:
    """Return the first ``count`` turns of endlessly many sessions.

    Raises:
        TraceError: a file that cannot be used.
        ValueError: next to no turn fits into ``max_context_tokens``.
    """
    of_few = np.minimum(sessions.turns.sample(64, stream(seed, "sessions")), MOST_TURNS)
    each = float(np.mean(of_few))
    if sessions.tools is not None:
        each *= float(np.mean(sessions.tools.requests(64, seed)))
    number = 1 + int(count // each)
    while True:
        turns = turns_of(sessions, lengths, number, seed, 4 * count + _ROWS)
        if len(turns.turn) >= count:
            return turns.first(count)
        if not len(turns.turn) and number >= _FAIR_TRIAL:
            raise no_session_fits(sessions)
        number *= 2


def turns_of(sessions: Sessions, lengths: Lengths, number: int, seed: int, most: int) -> Turns:
    """Return all turns of the first ``number`` sessions.

    Raises:
        TraceError: a file that cannot be used.
        ValueError: more than ``most`` turns.
    """
    for_turns, for_added = stream(seed, "sessions"), stream(seed, "sessions").spawn(1)[0]
    counts = np.minimum(sessions.turns.sample(number, for_turns), MOST_TURNS)
    limit = sessions.max_context_tokens
    if limit is not None and sessions.at_max_context == "end":
        counts = np.minimum(counts, limit // 2 + 1)  # each turn says two tokens at least
    questions = int(counts.sum())
    _check_rows(number, questions, most)
    session = np.repeat(np.arange(number, dtype=np.int64), counts)
    place = np.arange(questions, dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    new, outputs = lengths.sample(questions, stream(seed, "lengths"))
    if sessions.added is not None:
        new = np.where(place == 0, new, sessions.added.sample(questions, for_added))
    gap = np.where(place == 0, FIRST, QUESTION)
    dropped = np.zeros(questions, dtype=np.int64)
    if sessions.reasoning is not None:
        dropped = sessions.reasoning.sample(questions, stream(seed, "reasoning"))
        outputs = outputs + dropped
    if sessions.tools is not None:
        steps = sessions.tools.requests(questions, seed)
        _check_rows(number, int(steps.sum()), most)
        session, gap = np.repeat(session, steps), np.repeat(gap, steps)
        new, outputs, dropped = _with_calls(sessions.tools, steps, new, outputs, dropped, gap, seed)
    turns = _within_limits(sessions, session, new, outputs, dropped, gap)
    if sessions.tools is None or sessions.tools.agents is None:
        return turns
    return _with_agents(sessions, sessions.tools, turns, most, number, seed)


def _with_calls(
    tools: Tools, steps: Ints, new: Ints, outputs: Ints, dropped: Ints, gap: Ints, seed: int
) -> tuple[Ints, Ints, Ints]:
    """Return what requests add, answer, and of that drop, ``steps`` of each question.

    Sets the gap of tools.
    """
    for_output, for_result = stream(seed, "tools").spawn(4)[2:]
    rows, ends = int(steps.sum()), np.cumsum(steps)
    answers = np.zeros(rows, dtype=np.bool_)
    answers[ends - 1] = True
    begins = np.zeros(rows, dtype=np.bool_)
    begins[ends - steps] = True
    gap[~begins] = TOOL
    added = tools.result.sample(rows, for_result)
    said = tools.output.sample(rows, for_output)
    return (
        np.where(begins, np.repeat(new, steps), added),
        np.where(answers, np.repeat(outputs, steps), said),
        np.where(answers, np.repeat(dropped, steps), 0),
    )


def _within_limits(
    sessions: Sessions, session: Ints, new: Ints, outputs: Ints, dropped: Ints, gap: Ints
) -> Turns:
    """Prompts that say all that was said before, as long as they may be."""
    rows = np.arange(len(session), dtype=np.int64)
    begin = np.maximum.accumulate(np.where(gap == FIRST, rows, 0))
    turn = rows - begin
    system, limit = sessions.system_tokens or 0, sessions.max_context_tokens
    said = _within(new + outputs - dropped, begin, turn) + dropped + system  # with the answer
    cut, agent = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.int64)
    if limit is None:
        return Turns(session, turn, said - outputs, outputs, cut, gap, dropped == 0, agent)
    if sessions.at_max_context == "end":
        fits = _within((said > limit).astype(np.int64), begin, turn) == 0
    else:
        fits = _within((system + new + outputs > limit).astype(np.int64), begin, turn) == 0
        cut = said > limit
    prompts = np.minimum(said, limit) - outputs
    return Turns(session, turn, prompts, outputs, cut, gap, dropped == 0, agent).taken(fits)


def _with_agents(
    sessions: Sessions, tools: Tools, turns: Turns, most: int, number: int, seed: int
) -> Turns:
    """Put the requests of sub-agents behind the calls that start them, before what waits for them.

    Only calls start some whose result is asked for: the session has not ended there.
    """
    assert tools.agents is not None
    rows = len(turns.turn)
    after_call = np.flatnonzero(turns.gap == TOOL)
    found = started(
        tools, tools.agents, after_call - 1, sessions.system_tokens or 0,
        sessions.max_context_tokens, seed,
    )  # fmt: skip
    _check_rows(number, rows + len(found.call), most)
    own = np.arange(rows, dtype=np.int64)
    call = np.concatenate((own, found.call))
    agent = np.concatenate((turns.agent, found.agent))
    order = np.lexsort((np.arange(len(call)), agent, call))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    session = turns.session[call][order]
    first = (order < rows) & (turns.gap[np.minimum(order, rows - 1)] == FIRST)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    of_agents = np.where(found.step == 0, AT_ONCE, TOOL)
    plain = np.zeros(len(found.call), dtype=np.bool_)
    return Turns(
        session,
        np.arange(len(order)) - begin,
        np.concatenate((turns.prompt_tokens, found.prompt_tokens))[order],
        np.concatenate((turns.output_tokens, found.output_tokens))[order],
        np.concatenate((turns.cut, plain))[order],
        np.concatenate((turns.gap, of_agents))[order],
        np.concatenate((turns.told, ~plain))[order],
        agent[order],
        _waits(turns, found, rank),
    )


def _waits(turns: Turns, found: Started, rank: Ints) -> After:
    """Return who waits for whom: sub-agents for their call, their further requests for the one
    before, and what comes after a call for the last requests of its sub-agents."""
    rows, more = len(turns.turn), len(found.call)
    begins = np.diff(found.agent, prepend=0) > 0
    ends = np.append(begins[1:], True)[:more]
    own = np.arange(more, dtype=np.int64) + rows
    waiting = [own[begins], own[~begins], found.call[ends] + 1]
    waited_for = [found.call[begins], own[~begins] - 1, own[ends]]
    alone = np.flatnonzero(turns.gap != FIRST)
    alone = alone[~np.isin(alone, found.call + 1)]
    child = rank[np.concatenate((*waiting, alone))]
    parent = rank[np.concatenate((*waited_for, alone - 1))]
    order = np.lexsort((parent, child))
    counts = np.bincount(child, minlength=rows + more)
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    return After(offsets.astype(np.int64), parent[order])


def _check_rows(number: int, rows: int, most: int) -> None:
    if rows > most:
        raise ValueError(
            f"sessions.turns: {number:,} sessions have {rows:,} turns (few of which fit, if most "
            f"sessions break off), expected at most {most:,}; lower turns, or the load"
        )


def no_session_fits(sessions: Sessions) -> ValueError:
    """Say that every first turn is too long."""
    return ValueError(
        f"sessions.max_context_tokens(={sessions.max_context_tokens}): no session begins, as its "
        "first prompt and answer are longer; expected more, or shorter lengths"
    )


def never_begun(turns: Turns, sessions: Sessions) -> tuple[str, ...]:
    """Say how many sessions are missing because their first turn is too long."""
    begun, drawn = int((turns.turn == 0).sum()), int(turns.session[-1]) + 1
    if begun == drawn:
        return ()
    return (
        f"sessions: {drawn - begun:,} of {drawn:,} never begin, as their first turn alone is more "
        f"than max_context_tokens(={sessions.max_context_tokens})",
    )


def _within(values: Ints, begin: Ints, turn: Ints) -> Ints:
    """Sums of ``values`` from the first turn of each session on."""
    sums = np.cumsum(values)
    whole: Ints = sums - (sums - values)[begin] if len(turn) else sums
    return whole
