"""Sessions: conversations whose prompts grow by what was said.

::

    turn 0   [system][first prompt] -> answer 0
    turn 1   [system][first prompt][answer 0][added] -> answer 1
    turn 2   [system][first prompt][answer 0][added][answer 1][added] -> answer 2

All lengths are drawn beforehand (``workloads.turns``), so prompts are columns. What depends on the
run is only when a turn is asked: the think time, or the time of a tool, after the answer before it
is complete. The text of a session is one stream (``workloads.prefixes``), told by its turns up to
the end of their answers, so that a prefix cache finds what earlier turns have left there. With
``reasoning`` an answer is said again without it, so at other places: its text ends with the prompt.
"""

from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from workloads.arrivals import ClosedLoop
from workloads.config import Config, Count, NonNegative
from workloads.lengths import LengthLaw, anchored_laws, empirical_laws
from workloads.requests import Floats, Ints
from workloads.streams import stream
from workloads.thinking import ThinkLaw, think_times_s
from workloads.tools import Tools

MOST_TURNS = 100_000
"""Of a session; a law that says more is cut here."""


FIRST, QUESTION, TOOL, AT_ONCE = range(4)
"""What is between a turn and the answers that it waits for: it is the first; a user thinks; a tool
works; nothing."""


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
    """How these times vary about their mean. Default: exponential."""
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

    reasoning: LengthLaw | None = None
    """Tokens of reasoning in front of every answer, on top of lengths.output, which later turns do
    not say again, as chat templates drop it. Default: all of an answer is said again."""
    tools: Tools | None = None
    """Tools and sub-agents that an agent uses before it answers. None: every question is one
    request."""

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
        thinks = self.think_law != "constant" and bool(self.think_s)
        laws = (self.turns, self.added, self.reasoning)
        tools = self.tools is not None and self.tools.is_random
        return thinks or tools or any(law is not None and law.is_random for law in laws)

    @property
    def files(self) -> tuple[str, ...]:
        """Every path that laws read, as written."""
        return tuple(law.path for _, law in empirical_laws(self))

    def anchored(self, base_dir: Path) -> "Sessions":
        """Return the same with its relative paths made absolute from ``base_dir``."""
        return anchored_laws(self, base_dir)

    def told(self) -> list[str]:
        """Say what is drawn from files, and what becomes of turns that do not fit.

        Raises:
            TraceError: a file that cannot be used.
        """
        found = [f"sessions.{key} is drawn from {law.told()}" for key, law in empirical_laws(self)]
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

    def think_times_s(self, gap: Ints, loop: ClosedLoop | None, seed: int) -> Floats:
        """Return the time before each turn, after the answers before it, seconds.

        Of first turns it is that of the users of ``loop``, or none; of others as ``gap`` says.
        """
        count = len(gap)
        first = np.zeros(count)
        if loop is not None:
            first = loop.think_times_s(count, stream(seed, "think"))
        further = first
        if self.think_s is not None:
            law: ThinkLaw = self.think_law or "exponential"
            further = think_times_s(self.think_s, law, count, stream(seed, "think"))
        times_s = np.where(gap == FIRST, first, further)
        if self.tools is None:
            return times_s
        tools = think_times_s(
            self.tools.time_s, self.tools.time_law, count, stream(seed, "tools").spawn(2)[1]
        )
        return np.where(gap == TOOL, tools, np.where(gap == AT_ONCE, 0.0, times_s))
