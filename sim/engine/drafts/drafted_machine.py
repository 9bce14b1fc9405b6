"""What computes steps with drafts, as priced: the target's pass, and the passes of the drafter.

::

    target:   rows = one of each sequence and one per draft, and the tokens of chunks
    drafter:  1 pass over the same rows, then one row of each sequence in every further pass
"""

from array import array
from dataclasses import dataclass

from hardware.steps.prices import StepPrices
from sim.engine.drafts.drafting import Drafting
from sim.engine.machine import Machine
from sim.engine.sequence import Batch


class Passes:
    """Tables of one model for steps whose sequences have several rows.

    Args:
        by_rows: prices by rows of a sequence, from 0 (which is never asked for).
        logits_s: by rows that are sampled, from 0.
        classes: of the caches of its layers, which of the target's tells what they read.
    """

    def __init__(
        self, by_rows: list[StepPrices], logits_s: list[float], classes: list[int]
    ) -> None:
        self.by_rows = by_rows
        self.logits_s = logits_s
        self.classes = classes

    def pass_s(
        self,
        sequences: int,
        rows: int,
        most_rows: int,
        sampled: int,
        reads: list[int],
        chunks: list[tuple[int, int]],
    ) -> float:
        """Return the seconds of one pass.

        Args:
            sequences: that decode.
            rows: of all of them.
            most_rows: of one of them.
            sampled: rows that get logits.
            reads: positions that they read, by class of the target's cache.
            chunks: (chunk_tokens, past_tokens) of the others.

        Raises:
            IndexError: more tokens or sequences than the tables were built for.
        """
        prices = self.by_rows[max(1, most_rows)]
        tokens = rows
        for chunk, _ in chunks:
            tokens += chunk
        own = [reads[place] for place in self.classes]
        attention_s = prices.attention_s(sequences, own, chunks)
        return prices.overhead_s + prices.token_s[tokens] + self.logits_s[sampled] + attention_s


@dataclass(frozen=True)
class AroundPasses:
    """What steps with drafts depend on beside their passes, whoever computes them."""

    drafting: Drafting
    """How many drafts there are."""
    sequence_s: float
    """Of the host, for each sequence of a step."""
    windows: list[int]
    """Of the target's classes of cache; a large number for all positions."""
    once: bool = False
    """Whether the drafter passes over each step once, for its cache alone: where answers are made
    elsewhere nobody would verify what it drafts (vllm/v1/core/sched/scheduler.py,
    ``_drafts_unused``)."""

    def passes(self, sequences: int) -> int:
        """How often the drafter passes in a step of so many sequences."""
        return 1 if self.once else self.drafting.proposed(sequences)


class Drafted(Machine):
    """Steps take as long as they cost, drafts included.

    Args:
        target: what verifies drafts.
        drafter: what makes them; None: they cost nothing (n-gram).
        around: what else there is.
    """

    def __init__(self, target: Passes, drafter: Passes | None, around: AroundPasses) -> None:
        self.target, self.drafter, self.around = target, drafter, around

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """See ``Machine``: one step."""
        end_s = start_s + self.step_s(
            batch.decodes + batch.padding, batch.rows, batch.most_rows, batch.reads, batch.chunks
        )
        ends_s.append(end_s)
        return end_s

    def step_s(
        self,
        decodes: int,
        rows: int,
        most_rows: int,
        reads: list[int],
        chunks: list[tuple[int, int]],
    ) -> float:
        """Return the seconds of a step: see ``Passes.pass_s``."""
        sequences = decodes + len(chunks)
        sampled = rows + len(chunks)
        step_s = self.target.pass_s(decodes, rows, most_rows, sampled, reads, chunks)
        step_s += self.around.sequence_s * sequences
        drafter, passes = self.drafter, self.around.passes(sequences)
        if drafter is None or not passes:
            return step_s
        step_s += drafter.pass_s(decodes, rows, most_rows, sequences, reads, chunks)
        if passes == 1:
            return step_s
        later = reads.copy() if decodes else [0] * len(reads)
        for chunk, past in chunks:
            for place, window in enumerate(self.around.windows):
                later[place] += min(chunk + past, window)
        return step_s + (passes - 1) * drafter.pass_s(sequences, sequences, 1, sequences, later, [])
