"""A request inside an engine, and the batch of one step."""

from math import inf
from typing import Final

from sim.engine.caches.block_tables import Table
from sim.engine.caches.runs import Run


class Sequence:
    """One request in flight. Its token times are never stored one by one.

    While it decodes, how far it has come follows from the engine's count of decode steps:
    see ``sim.engine.decoding.DecodeSet``.
    """

    replica: int
    """Behind a client: where it was sent."""
    deadline_s: float
    """Behind a client: when it is given up."""
    admission: int
    """With a prefix cache: the how-manieth admission this was."""
    held: list[tuple[Run, int]]
    """With a prefix cache: the runs of its first blocks, and how many blocks each had then."""
    named_blocks: int
    """With a prefix cache: how many blocks these are."""
    spans: list[tuple[int, int]]
    """With a prefix cache: streams of its text, and behind which of its blocks each ends."""
    loaded_tokens: int
    """While it loads: tokens that its blocks hold then."""

    settled_tokens: int
    """With groups of the cache: computed for sure when it last took blocks."""
    begun_tokens: int
    """With groups of the cache: computed, or in progress, when it last took blocks."""
    settled_at_join: int
    begun_at_join: int
    """The same when it began to decode."""
    tables: list[Table]
    """With groups and a prefix cache: its blocks, group by group."""
    junction_tokens: int
    """With states and a prefix cache: where others had more than it found; 0: nowhere."""
    joined_step: int
    """Decode steps of its engine when it began to decode."""
    accepts: bytes
    """With drafts: how many are right behind each output token; see ``Acceptance``."""
    proposed: int
    """With drafts: how many wait to be verified."""
    rows: int
    """With drafts: of the coming step, or the one under way."""
    planned_tokens: int
    """With drafts: in the KV cache as far as is known when the coming step is planned, if all
    drafts under way are right."""
    next_told_tokens: int
    """With drafts: those whose full blocks can be found from then on."""
    last_token_s: float
    """Of a preempted sequence: when it got its last token."""
    under_way_tokens: int
    """With pipeline stages: of it, in steps under way."""
    stale_tokens: int
    """With pipeline stages: those of them that were under way when it lost its blocks."""
    awaited_tokens: int
    """With pipeline stages: of its answer, that steps under way will bring."""
    eligible_step: int
    """With pipeline stages: the first one that it can be in."""
    working_until_s: float
    """With pipeline stages: when the last step begun with it ends."""
    last_step: int
    """With pipeline stages: which step of its engine brought its last token."""

    __slots__ = (
        "accepts",
        "admission",
        "arrival_s",
        "awaited_tokens",
        "begun_at_join",
        "begun_tokens",
        "brought_tokens",
        "cached_tokens",
        "computed_s",
        "deadline_s",
        "eligible_step",
        "finish_step",
        "first_scheduled_s",
        "first_token_s",
        "generated_tokens",
        "goes_on",
        "held",
        "joined_row",
        "joined_step",
        "junction_tokens",
        "kv_tokens",
        "last_step",
        "last_token_s",
        "leaves",
        "loaded_tokens",
        "loading_s",
        "lost_at_s",
        "lost_s",
        "named_blocks",
        "next_told_tokens",
        "output_tokens",
        "paused_s",
        "planned_tokens",
        "preemptions",
        "prefills",
        "priority",
        "prompt_tokens",
        "proposed",
        "replica",
        "request",
        "rows",
        "settled_at_join",
        "settled_tokens",
        "slots",
        "spans",
        "stale_tokens",
        "store_tokens",
        "tables",
        "target_tokens",
        "told_tokens",
        "transit",
        "under_way_tokens",
        "waits",
        "working_until_s",
    )

    def __init__(
        self, request: int, arrival_s: float, prompt_tokens: int, output_tokens: int, priority: int
    ) -> None:
        self.request = request
        self.arrival_s = arrival_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.priority = priority
        self.kv_tokens = 0
        """Tokens in the KV cache: kept up to date in prefill, as of ``joined_step`` in decode."""
        self.target_tokens = prompt_tokens
        """Tokens to prefill: the prompt, and after a preemption all that was generated, too. Ahead,
        of one that decodes: those that were known when it last came from outside of a step."""
        self.generated_tokens = 0
        """Tokens produced, as of ``joined_step`` in decode."""
        self.finish_step = -1
        self.joined_row = -1
        self.first_scheduled_s = -1.0
        self.first_token_s = -1.0
        self.computed_s = 0.0
        """Until its first token: of the steps that computed a part of its prompt."""
        self.lost_s = 0.0
        """Until its first token: from losing its blocks until the next step that worked on it."""
        self.lost_at_s = -1.0
        """When it lost them, while it has none."""
        self.paused_s = 0.0
        """Of the gaps between its tokens in which it lost its blocks or its turn."""
        self.preemptions = 0
        self.cached_tokens = 0
        """Prompt tokens that the prefix cache had when the sequence was first admitted."""
        self.brought_tokens = 0
        """Tokens behind those whose KV was brought from elsewhere then."""
        self.store_tokens = 0
        """Those of them that were in a store that replicas share, and not nearer."""
        self.loading_s = 0.0
        """How long it waited for KV on its way; below 0 while it does."""
        self.waits = False
        """Whether it is in the queue."""
        self.prefills = False
        """Whether it is among those whose prompt is being computed."""
        self.leaves = False
        """Whether it has ended, and whoever plans ahead does not know it yet."""
        self.goes_on = False
        """With drafts, if it has ended so: whether it is in one more step, for nobody."""
        self.told_tokens = 0
        """With drafts, of one that decodes: those whose full blocks can be found, until it is in a
        step again."""
        self.slots = 0
        """With drafts: tokens for which it holds blocks, those of rejected drafts included."""
        self.transit = 0
        """Whether it holds blocks outside of the batch: see ``sim.engine.loads``."""


def known_at(sequence: Sequence, step: int, ahead: bool) -> int:
    """Return the tokens in the cache of one that decodes which are known.

    Args:
        sequence: that decodes.
        step: after so many decode steps, those under way included.
        ahead: whether the last of them is planned while the one before it is computed: then the
            token that it puts into the cache is known only if that one has not computed it.
    """
    cached = sequence.kv_tokens + step - sequence.joined_step
    return max(cached - 1, min(cached, sequence.target_tokens)) if ahead else cached


NOBODY: Final = Sequence(-1, inf, 0, 0, 0)
"""Who arrives when nobody does any more."""


class Batch:
    """What an engine computes in one step, or in ``steps`` equal decode steps."""

    __slots__ = (
        "chunks",
        "closed",
        "decodes",
        "drafted",
        "gained",
        "growth",
        "held_back",
        "most_rows",
        "open",
        "padding",
        "pairs",
        "preempted",
        "prefills",
        "reads",
        "returned",
        "rows",
        "steps",
        "until_s",
    )

    def __init__(self, classes: int = 1) -> None:
        self.decodes = 0
        """Sequences that gain one token by decoding."""
        self.padding = 0
        """Rows that are computed for nothing: finished ones in static batching; ahead, those who
        were given up when the step was planned."""
        self.reads = [0] * classes
        """KV positions that decodes and padding attend in the first step, the current one's too, by
        class of cache."""
        self.growth = [0] * classes
        """By how many positions that grows from step to step."""
        self.rows = 0
        """With drafts: query rows of decodes and padding, one and their drafts of each."""
        self.most_rows = 0
        """With drafts: of the one that has most."""
        self.pairs = [0] * classes
        """With drafts: of these rows and the positions that each attends, by class of cache."""
        self.gained = 0
        """With drafts, when the step is done: tokens of those who decoded."""
        self.drafted = 0
        """With drafts, when the step is done: drafts of theirs, right or wrong."""
        self.prefills: list[Sequence] = []
        self.chunks: list[tuple[int, int]] = []
        """``(chunk_tokens, past_tokens)``, parallel to ``prefills``."""
        self.steps = 1
        """How many such steps may follow each other before the scheduler must look again."""
        self.open = True
        """Whether it has to look earlier if somebody arrives."""
        self.until_s = inf
        """No step is to begin at this moment or later before it has looked."""
        self.closed = False
        """Whether blocks ran out, so that nobody is admitted."""
        self.preempted: list[Sequence] = []
        """Who lost its blocks while this batch was formed."""
        self.held_back: list[Sequence] = []
        """Who would decode, and gets no token for want of budget."""
        self.returned: list[Sequence] = []
        """Who decodes, and got no token in the step before."""

    def clear(self) -> None:
        """Let go of all sequences; the counts are to be set anew."""
        if self.prefills:
            self.prefills.clear()
            self.chunks.clear()
        if self.preempted:
            self.preempted.clear()
        self.padding = 0
        if self.held_back:
            self.held_back = []
        if self.returned:
            self.returned = []
