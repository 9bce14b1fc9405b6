"""Steps with drafts that several engines compute together: the ranks of data-parallel attention.

Ranks meet in every layer of experts, those of the drafter included, so that each pass is over when
the slowest of them is (``hardware.steps.joint_prices``). Whoever has nothing to compute goes with
the others through all passes, with as many rows as one sequence has (vllm/v1/worker/gpu_worker.py,
``execute_dummy_batch``).
"""

from hardware.steps.joint_prices import JointPrices
from sim.engine.drafts.drafted_machine import AroundPasses, Passes
from sim.engine.sequence import Batch


class Asked:
    """What one rank computes in one pass: see ``Passes.pass_s``."""

    __slots__ = ("chunks", "host_s", "most_rows", "reads", "rows", "sampled", "sequences", "tokens")

    def __init__(
        self,
        sequences: int,
        rows: int,
        most_rows: int,
        sampled: int,
        reads: list[int],
        chunks: list[tuple[int, int]],
        tokens: int,
        host_s: float,
    ) -> None:
        self.sequences = sequences
        self.rows = rows
        self.most_rows = most_rows
        self.sampled = sampled
        self.reads = reads
        self.chunks = chunks
        self.tokens = tokens
        """All of them, also where they are computed for the others' sake."""
        self.host_s = host_s


class JointPass:
    """Passes of one model, whose ``passes`` leave out what depends on tokens alone."""

    def __init__(self, passes: Passes, prices: JointPrices) -> None:
        self.passes = passes
        self.prices = prices

    def pass_s(self, asked: list[Asked]) -> float:
        """Return the seconds of one pass of all ranks."""
        shares_s, together_s = self.prices.shares_s([each.tokens for each in asked])
        slowest_s = 0.0
        for rank, each in enumerate(asked):
            own_s = self.passes.pass_s(
                each.sequences, each.rows, each.most_rows, each.sampled, each.reads, each.chunks
            )
            slowest_s = max(slowest_s, own_s + each.host_s + shares_s[rank])
        return slowest_s + together_s


class JointDrafted:
    """Steps of all ranks, drafts included.

    Args:
        target: what verifies drafts.
        drafter: what makes them; None: they cost nothing (n-gram).
        around: what else there is; as many drafts in every step.
    """

    def __init__(self, target: JointPass, drafter: JointPass | None, around: AroundPasses) -> None:
        self.target, self.drafter, self.around = target, drafter, around

    def step_s(self, batches: list[Batch], dummies: list[bool]) -> float:
        """Return the seconds of a step.

        Args:
            batches: of every rank.
            dummies: whether a rank computes its batch for the others' sake alone.
        """
        windows, sequence_s = self.around.windows, self.around.sequence_s
        verified, first, later = list[Asked](), list[Asked](), list[Asked]()
        for rank, batch in enumerate(batches):
            if dummies[rank]:
                whole = Asked(0, 0, 1, 0, batch.reads, [], batch.rows, 0.0)
                verified.append(whole)
                first.append(whole)
                later.append(Asked(0, 0, 1, 0, batch.reads, [], 1, 0.0))
                continue
            decodes, rows, chunks = batch.decodes + batch.padding, batch.rows, batch.chunks
            sequences, tokens = decodes + len(chunks), rows
            ends = batch.reads.copy() if decodes else [0] * len(batch.reads)
            for chunk, past in chunks:
                tokens += chunk
                for place, window in enumerate(windows):
                    ends[place] += min(chunk + past, window)
            most, reads, host_s = batch.most_rows, batch.reads, sequence_s * sequences
            sampled = rows + len(chunks)
            verified.append(Asked(decodes, rows, most, sampled, reads, chunks, tokens, host_s))
            first.append(Asked(decodes, rows, most, sequences, reads, chunks, tokens, 0.0))
            later.append(Asked(sequences, sequences, 1, sequences, ends, [], sequences, 0.0))
        step_s = self.target.pass_s(verified)
        drafter, passes = self.drafter, self.around.passes(0)
        if drafter is None:
            return step_s
        step_s += drafter.pass_s(first)
        return step_s + (passes - 1) * drafter.pass_s(later) if passes > 1 else step_s
