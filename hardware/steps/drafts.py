"""Prices of steps with drafts: the target with several rows a sequence, and the drafter.

What a step is made of: ``sim.engine.drafts.drafted_machine``; tables: ``hardware.steps.cost``.
Drawing and verifying cost, for each sampled row, what the head costs; what a sampler spends on a
logit is the drawing's (``hardware.engines.sampling``).
"""

from collections.abc import Collection
from dataclasses import field, replace

import numpy as np
import numpy.typing as npt

from hardware.prices.together import beside, chunk_cost, decode_pieces, gather_s
from hardware.prices.work import operators_work
from hardware.steps.adding_up import VECTOR_STEPS, add_up
from hardware.steps.joint_prices import JointPrices
from hardware.steps.prices import StepPrices
from hardware.steps.setup import StepSetup
from model.dataclass import dataclass

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassCost:
    """One pass of a model over steps whose sequences have several rows."""

    by_rows: list[StepPrices] = field(repr=False)
    """By rows of a sequence, from 0; rows that never occur have the prices of the next that do."""
    logits_s: list[float] = field(repr=False)
    """By sampled rows, from 0."""
    token_work: tuple[Floats, Floats] = field(repr=False)
    """FLOPs and bytes of one rank by tokens."""
    sequence_work: tuple[Floats, Floats] = field(repr=False)
    """FLOPs and bytes of one rank by sampled rows."""
    joint: JointPrices | None = field(default=None, repr=False)
    """Of data-parallel ranks, what depends on tokens: ``by_rows`` are without it then."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftCost:
    """What steps with drafts cost."""

    target: PassCost
    drafter: PassCost | None
    """None: drafts cost nothing."""
    sequence_s: float
    """Of the host, for each sequence of a step."""


def pass_cost(setup: StepSetup, rows: Collection[int]) -> PassCost:
    """Tabulate one pass of a model.

    Args:
        setup: of the model; ``drawing_s`` by sampled rows, ``step_overhead_s`` once a pass.
        rows: that a sequence has in some steps.

    Raises:
        ValueError: ``tp`` does not divide the model.
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    most_rows = max(rows)
    wide = replace(setup, max_seqs=setup.max_seqs * most_rows)
    group, prices, sampled = setup.group, setup.prices, min(setup.max_tokens, wide.max_seqs)
    tokens, logits = np.arange(setup.max_tokens + 1.0), np.arange(sampled + 1.0)
    (of_tokens, operators_s), of_logits = setup.of_tokens(), group.sequence_operators(logits)
    logits_s = prices.operators_s(of_logits, 0)
    if setup.drawing_s is not None:
        logits_s = logits_s + setup.drawing_s[: sampled + 1]
    if setup.tp > 1:
        logits_s = logits_s + gather_s(group, prices, logits)
    chunks, together = chunk_cost(group, prices), wide.together()
    token_s = [0.0] * len(tokens) if together else wide.token_s(operators_s).tolist()
    tables = (setup.overhead_s, chunks.launch_s, token_s, [0.0] * (setup.max_seqs + 1))
    of_rows = {
        each: StepPrices(
            *tables,
            decode_pieces(group, prices, setup.max_seqs, each, beside=each > 1),
            chunks.seconds, add_up, VECTOR_STEPS,
            beside(group, prices, setup.max_seqs, each),
        )
        for each in sorted(rows)
    }  # fmt: skip
    by_rows = [of_rows[min(each for each in rows if each >= at)] for at in range(most_rows + 1)]
    return PassCost(
        by_rows=by_rows,
        logits_s=logits_s.tolist(),
        token_work=operators_work(of_tokens),
        sequence_work=operators_work(of_logits),
        joint=None if together is None else together.prices(by_rows[-1]),
    )
