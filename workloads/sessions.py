"""Sessions: conversations whose prompts grow by what was said.

::

    turn 0   [system][first prompt] -> answer 0
    turn 1   [system][first prompt][answer 0][added] -> answer 1
    turn 2   [system][first prompt][answer 0][added][answer 1][added] -> answer 2

All lengths are drawn beforehand, so prompts are columns. What depends on the run is only when a
turn is asked: the think time after the answer before it is complete. The text of a session is one
stream (``workloads.prefixes``), told by its turns up to the end of their answers, so that a prefix
cache finds what earlier turns have left there.

Not covered: tool calls and turns that wait for several others; answers of which a part is not
said again (reasoning that a chat template drops).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from workloads.arrivals import ClosedLoop
from workloads.config import Config, Count, NonNegative
from workloads.lengths import Empirical, LengthLaw, Lengths
from workloads.requests import Floats, Ints, Prefixes
from workloads.streams import stream
from workloads.thinking import ThinkLaw, think_times_s

MOST_TURNS = 100_000
"""Of a session; a law that says more is cut here."""
_FAIR_TRIAL = 1000
"""Sessions of which one should fit."""
_ROWS = 2_000_000
"""Turns that are drawn for those who have a place, when most sessions break off."""


class Sessions(Config):
    """Conversations: each turn says again all that was said, and something new.

    ``lengths.prompt`` is then the first prompt of a session, ``lengths.output`` the answer of every
    turn. A turn is asked when the answer before it is complete and thought about; one that is
    rejected or given up ends its session. ``arrivals`` say when sessions begin; the users of a
    closed loop have one session after the other.
    """

    turns: LengthLaw
    """How many turns a session has, at most 100000."""
    added: LengthLaw | None = None
    """New tokens of the user in each further turn. Default: as lengths.prompt."""
    think_s: NonNegative | None = None
    """Mean time between an answer and the next turn, seconds. Default: think_s of a closed loop,
    which is then also the time before a new session."""
    think_law: ThinkLaw | None = None
    """How these times vary about their mean. Default: constant."""
    system_tokens: Count | None = None
    """Tokens of a system prompt that all sessions begin with, before the first prompt; none: no two
    sessions begin alike."""
    max_context_tokens: Count | None = None
    """Most tokens of a turn, its prompt and its answer; none: only the engine sets a limit, and
    rejects what is longer."""
    at_max_context: Literal["end", "truncate"] = "end"
    """What becomes of a turn that is longer: its session ends before it, or its prompt loses the
    oldest tokens behind the system prompt, so that prompt and answer fit. A turn of which even the
    new text does not fit is never asked, and ends its session."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.think_law is not None and self.think_s is None:
            raise ValueError("think_law is how think_s varies: think_s is missing beside it")
        if self.at_max_context == "truncate" and self.max_context_tokens is None:
            raise ValueError("at_max_context(=truncate) needs max_context_tokens")
        return self

    @property
    def is_random(self) -> bool:
        """Whether turns, their lengths or think times depend on the seed."""
        thinks = self.think_law == "exponential" and bool(self.think_s)
        laws = (self.turns, self.added)
        return thinks or any(law is not None and law.is_random for law in laws)

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that laws read, as written."""
        laws = (self.turns, self.added)
        return tuple(law.path for law in laws if isinstance(law, Empirical))

    def anchored(self, base_dir: Path) -> "Sessions":
        """Return the same with its relative paths made absolute from ``base_dir``."""
        changes = {
            name: law.anchored(base_dir)
            for name, law in (("turns", self.turns), ("added", self.added))
            if isinstance(law, Empirical)
        }
        return self.model_copy(update=changes)

    def told(self) -> list[str]:
        """Say what is drawn from files, and what becomes of turns that do not fit.

        Raises:
            TraceError: a file that cannot be used.
        """
        found = [
            f"{words} are drawn from {law.told()}"
            for words, law in (("turns of sessions", self.turns), ("added lengths", self.added))
            if isinstance(law, Empirical)
        ]
        rule = "a turn that is rejected or times out ends its session"
        most = self.max_context_tokens
        if most is not None and self.at_max_context == "end":
            rule += f"; so does one of more than {most:,} tokens, which is not asked"
        elif most is not None:
            rule += (
                f"; prompts lose their oldest tokens behind the system prompt where they and their "
                f"answer are more than {most:,} tokens, and a session ends where the new text "
                "alone is"
            )
        return [*found, f"sessions: {rule}"]

    def think_times_s(self, turn: Ints, loop: ClosedLoop | None, seed: int) -> Floats:
        """Return the time before each turn, after the answer before it, seconds.

        Of first turns it is that of the users of ``loop``, or none.
        """
        count = len(turn)
        first = np.zeros(count)
        if loop is not None:
            first = loop.think_times_s(count, stream(seed, "think"))
        if self.think_s is None:
            return first
        law: ThinkLaw = self.think_law or "constant"
        further = think_times_s(self.think_s, law, count, stream(seed, "think"))
        return np.where(turn == 0, first, further)


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

    def taken(self, rows: slice | npt.NDArray[np.bool_]) -> "Turns":
        """Return some of the turns."""
        return Turns(
            self.session[rows], self.turn[rows], self.prompt_tokens[rows],
            self.output_tokens[rows], self.cut[rows],
        )  # fmt: skip

    def prefixes(self, system_tokens: int) -> Prefixes:
        """Return the streams of the prompts: the system prompt, then the text of their session.

        Where a next turn says the answer again, the stream goes to its end. A prompt that lost
        tokens has nothing in common with others but the system prompt.
        """
        rows, shared = len(self.turn), int(system_tokens > 0)
        sessions = np.cumsum(self.turn == 0) - 1
        own = shared + np.where(self.cut, int(rows) + np.arange(rows), sessions)
        said_again = np.zeros(rows, dtype=np.bool_)
        said_again[:-1] = own[1:] == own[:-1]
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
    of_few = sessions.turns.sample(64, stream(seed, "sessions"))
    number = 1 + int(count // min(float(np.mean(of_few)), MOST_TURNS))
    while True:
        turns = turns_of(sessions, lengths, number, seed, 4 * count + _ROWS)
        if len(turns.turn) >= count:
            return turns.taken(slice(count))
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
    rows = int(counts.sum())
    if rows > most:
        raise ValueError(
            f"sessions.turns: {number:,} sessions have {rows:,} turns (few of which fit, if most "
            f"sessions break off), expected at most {most:,}; lower turns, or the load"
        )
    session = np.repeat(np.arange(number, dtype=np.int64), counts)
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    turn = np.arange(rows, dtype=np.int64) - begin
    new, outputs = lengths.sample(rows, stream(seed, "lengths"))
    if sessions.added is not None:
        new = np.where(turn == 0, new, sessions.added.sample(rows, for_added))
    system = sessions.system_tokens or 0
    said = _within(new + outputs, begin, turn) + system  # with the answer
    cut = np.zeros(rows, dtype=np.bool_)
    if limit is None:
        return Turns(session, turn, said - outputs, outputs, cut)
    if sessions.at_max_context == "end":
        fits = said <= limit
    else:
        fits = _within((system + new + outputs > limit).astype(np.int64), begin, turn) == 0
        cut = said > limit
    prompts = np.minimum(said, limit) - outputs
    return Turns(session, turn, prompts, outputs, cut).taken(fits)


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
