"""Prices of steps with drafts: the target with several rows a sequence, and the drafter.

What a step is made of: ``sim.engine.drafted_machine``; what tables hold: ``hardware.step_cost``.
Drawing and verifying cost, for each sampled row, what the head costs; what a sampler spends on a
logit is the drawing's (``hardware.sampling``).
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hardware.adding_up import VECTOR_STEPS, add_up
from hardware.calibration import Calibration
from hardware.gpu import Gpu
from hardware.group import Group
from hardware.prices.choose import prices_of
from hardware.prices.graphs import largest_graph, with_graphs
from hardware.prices.together import all_reduces_s, chunk_cost, decode_pieces, gather_s
from hardware.prices.work import operators_work
from hardware.step_prices import StepPrices
from model.precision import Precision
from model.shape import DecoderSpec

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftCost:
    """What steps with drafts cost."""

    target: PassCost
    drafter: PassCost | None
    """None: drafts cost nothing."""
    sequence_s: float
    """Of the host, for each sequence of a step."""


def pass_cost(
    spec: DecoderSpec,
    gpu: Gpu,
    *,
    tp: int,
    precision: Precision,
    calibration: Calibration,
    fused: bool,
    max_tokens: int,
    max_seqs: int,
    rows: Collection[int],
    step_overhead_s: float,
    drawing_s: Floats | None = None,
    max_cudagraph_capture_size: int | None = None,
) -> PassCost:
    """Tabulate one pass of a model.

    Args:
        spec: the model, with its experts as ranks have them.
        gpu: every rank's.
        tp: ranks that share it.
        precision: bytes per number, and arithmetic.
        calibration: efficiencies and overheads.
        fused: see ``hardware.step_cost.step_cost``.
        max_tokens: most tokens of one step.
        max_seqs: most sequences of one step.
        rows: that a sequence has in some steps.
        step_overhead_s: once a pass, beside what its layers take of the host.
        drawing_s: of tokens, by sampled rows from 0 on. None: nothing.
        max_cudagraph_capture_size: see ``hardware.step_cost.step_cost``.

    Raises:
        ValueError: ``tp`` does not divide the model.
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    most_rows = max(rows)
    sampled = min(max_tokens, max_seqs * most_rows)
    group = Group(spec=spec, gpu=gpu, tp=tp, precision=precision)
    prices = prices_of(gpu, calibration, fused=fused)
    tokens, logits = np.arange(max_tokens + 1.0), np.arange(sampled + 1.0)
    of_tokens, of_logits = group.token_operators(tokens), group.sequence_operators(logits)
    token_s = prices.operators_s(of_tokens, spec.num_layers)
    logits_s = prices.operators_s(of_logits, 0)
    if drawing_s is not None:
        logits_s = logits_s + drawing_s[: sampled + 1]
    if tp > 1:
        token_s = token_s + all_reduces_s(group, prices, tokens)
        logits_s = logits_s + gather_s(group, prices, logits)
    if calibration.kernels is not None:
        largest = largest_graph(max_seqs * most_rows, max_cudagraph_capture_size)
        eager_s = spec.expert_layers * prices.host.eager_experts_s
        token_s = with_graphs(token_s, largest, eager_s)
    chunks = chunk_cost(group, prices)
    overhead_s = step_overhead_s + spec.num_layers * prices.host.layer_s
    tables = (overhead_s, chunks.launch_s, token_s.tolist(), [0.0] * (max_seqs + 1))
    of_rows = {
        each: StepPrices(
            *tables, decode_pieces(group, prices, max_seqs, each), chunks.seconds, add_up,
            VECTOR_STEPS,
        )
        for each in sorted(rows)
    }  # fmt: skip
    by_rows = [of_rows[min(each for each in rows if each >= at)] for at in range(most_rows + 1)]
    return PassCost(
        by_rows=by_rows,
        logits_s=logits_s.tolist(),
        token_work=operators_work(of_tokens),
        sequence_work=operators_work(of_logits),
    )
