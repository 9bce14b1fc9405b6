"""What an agent does between a question and its answer: it calls tools, and starts sub-agents.

::

    question -> call -> [tool] -> result added -> call -> [sub-agents ...] -> result added -> answer

Every arrow to the right is a request: it says again all that was said, with what the tool gave. The
requests of sub-agents begin a text of their own, behind the system prompt; the agent waits for all
of them, and then for its tool.
"""

from typing import Annotated, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from workloads.config import Config, NonNegative
from workloads.lengths import LengthLaw
from workloads.requests import Ints
from workloads.streams import stream
from workloads.thinking import ThinkLaw

Share = Annotated[float, Field(gt=0, le=1)]
MOST_CALLS = 10_000
"""Of a question; a law that says more is cut here."""


class SubAgents(Config):
    """Agents that a call starts side by side; what comes after it waits for all of them."""

    count: LengthLaw
    """How many are started at once."""
    share: Share = 1.0
    """Share of the calls that start some."""
    prompt: LengthLaw
    """The first prompt of each, behind the system prompt."""
    output: LengthLaw
    """The answer to each of their requests."""
    steps: LengthLaw | None = None
    """Requests of each, one after the other, with a tool between them. Default: one."""
    added: LengthLaw | None = None
    """What each further request adds. Default: as tools.result."""


class Tools(Config):
    """Calls of tools: requests between a question and its answer, each behind a tool's result.

    A question with two calls is three requests: two that end in a call, and the answer.
    """

    calls: LengthLaw
    """Calls before the answer to a question, one after the other, at most 10000."""
    share: Share = 1.0
    """Share of the questions that call tools; the others are answered at once."""
    output: LengthLaw
    """Tokens of a request that ends in a call."""
    result: LengthLaw
    """Tokens that the tool's result adds to the prompt."""
    time_s: NonNegative
    """Mean time from a call to the tool's result, seconds."""
    time_law: ThinkLaw = "constant"
    """How these times vary about their mean."""
    agents: SubAgents | None = None
    """Sub-agents that calls start. None: tools are no users of the model."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.agents is not None and self.agents.added is not None and self.agents.steps is None:
            raise ValueError("agents.added is what further requests add: agents.steps is missing")
        return self

    @property
    def laws(self) -> tuple[LengthLaw, ...]:
        """Every law of lengths and counts."""
        own = (self.calls, self.output, self.result)
        agents = self.agents
        more = (
            ()
            if agents is None
            else (agents.count, agents.prompt, agents.output, agents.steps, agents.added)
        )
        return tuple(law for law in (*own, *more) if law is not None)

    @property
    def is_random(self) -> bool:
        """Whether calls, their lengths or times depend on the seed."""
        shares = self.share < 1.0 or (self.agents is not None and self.agents.share < 1.0)
        times = self.time_law == "exponential" and self.time_s > 0
        return shares or times or any(law.is_random for law in self.laws)

    def requests(self, questions: int, seed: int) -> Ints:
        """Return how many requests each question takes: shape (questions,).

        More questions begin with the same.
        """
        luck = stream(seed, "tools")
        calls = np.minimum(self.calls.sample(questions, luck.spawn(1)[0]), MOST_CALLS)
        return np.where(luck.random(questions) < self.share, calls, 0) + 1


class Started(NamedTuple):
    """Requests of sub-agents, agent by agent; all columns have the shape (requests,)."""

    call: Ints
    """Row of the request whose call started it."""
    agent: Ints
    """Number of the agent, from 1 and ascending."""
    step: Ints
    """From 0."""
    prompt_tokens: Ints
    output_tokens: Ints


def started(
    tools: Tools, agents: SubAgents, calls: Ints, system_tokens: int, most: int | None, seed: int
) -> Started:
    """Draw the sub-agents that calls start.

    Args:
        tools: what stands in for what the agents do not say.
        agents: the laws.
        calls: rows of the requests that end in a call.
        system_tokens: what every prompt begins with.
        most: tokens of a request, prompt and answer; an agent ends before a longer one.
        seed: of the run.
    """
    luck = stream(seed, "agents")
    of_count, of_steps, of_prompt, of_added, of_output = luck.spawn(5)
    some = luck.random(len(calls)) < agents.share
    counts = np.where(some, agents.count.sample(len(calls), of_count), 0)
    total = int(counts.sum())
    steps = np.ones(total, dtype=np.int64)
    if agents.steps is not None:
        steps = np.minimum(agents.steps.sample(total, of_steps), MOST_CALLS)
    rows = int(steps.sum())
    begin = np.cumsum(steps) - steps
    step = np.arange(rows, dtype=np.int64) - np.repeat(begin, steps)
    new = (agents.added or tools.result).sample(rows, of_added)
    new[step == 0] = agents.prompt.sample(total, of_prompt)
    outputs = agents.output.sample(rows, of_output)
    sums = np.cumsum(new + outputs)
    said = sums - np.repeat((sums - new - outputs)[begin], steps) + system_tokens
    agent = np.repeat(np.arange(1, total + 1, dtype=np.int64), steps)
    found = Started(np.repeat(calls, counts)[agent - 1], agent, step, said - outputs, outputs)
    if most is None:
        return found
    fits = said <= most  # what is said only grows
    return Started(
        found.call[fits], found.agent[fits], found.step[fits], found.prompt_tokens[fits],
        found.output_tokens[fits],
    )  # fmt: skip
