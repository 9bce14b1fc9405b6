"""Sums over the steps of a run, in one pass."""

from collections.abc import Sequence as SequenceOf
from dataclasses import field

import numpy as np
import numpy.typing as npt

from hardware.evidence import CoveredRange
from hardware.steps.cost import StepCost
from model.dataclass import dataclass
from sim.measuring.steady_state import Window
from sim.measuring.timeline import KvLevel
from sim.recording.blocks import Block, blocks
from sim.recording.result import Result
from sim.settings.scenario import Kind

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class StepTotals:
    """What metrics need of the steps; seconds are of replicas, not of the clock."""

    # Within the window:
    decoded_tokens: int = 0
    decodes: int = 0
    """Sequences that decoded, summed over steps."""
    gained_tokens: int = 0
    """What they gained."""
    drafted: int = 0
    """Drafts of theirs that were verified."""
    busy_s: float = 0.0
    batch_s: float = 0.0
    """Sequences decoding or prefilling, times seconds."""
    kv_blocks_s: float = 0.0
    """KV blocks in use, times seconds."""
    kv_blocks_max: float = 0.0
    # Of the whole run:
    steps: int = 0
    run_busy_s: float = 0.0
    flops: float = 0.0
    moved_bytes: float = 0.0
    step_tokens_max: int = 0
    step_decodes_max: int = 0
    outside: int = 0
    """Steps beyond the calibration's range; none where it has no limit."""
    _kv: KvLevel = field(default_factory=KvLevel)

    def add(self, block: Block, window: Window) -> None:
        """Count what a block adds within the window."""
        start_s, end_s = block.floats("start_s"), block.floats("end_s")
        overlap_s = np.minimum(end_s, window.stop_s) - np.maximum(start_s, window.start_s)
        overlap_s = np.maximum(overlap_s, 0.0)
        batch = block.ints("decodes") + block.ints("chunks")
        self.busy_s += float(overlap_s.sum())
        self.batch_s += float((overlap_s * batch).sum())
        self.kv_blocks_s += float((overlap_s * self._kv.blocks(block)).sum())
        held = block.floats("kv_blocks")[window.holds(end_s)]
        self.kv_blocks_max = max(self.kv_blocks_max, float(held.max(initial=0.0)))
        inside = block.steps_within(window.start_s, window.stop_s)
        self.decodes += int((block.ints("decodes") * inside).sum())
        gained = int((block.gained() * inside).sum())
        self.gained_tokens += gained
        self.decoded_tokens += gained
        if "drafted" in block.segments:
            self.drafted += int((block.ints("drafted") * inside).sum())
        if not len(block.returned_step):
            return
        returned = window.holds(block.step_end_s[block.returned_step])
        self.decoded_tokens -= int(returned.sum())  # they count as resumed

    def add_work(self, block: Block, price: StepCost, covered: CoveredRange | None) -> None:
        """Count what a block adds to the whole run."""
        steps = block.ints("steps")
        decodes, rows = block.ints("decodes") + block.ints("padding"), block.query_rows()
        tokens, sequences = rows + block.ints("prefill_tokens"), decodes + block.ints("chunks")
        flops, moved_bytes = price.work(tokens, sequences, decodes, rows=rows, steps=steps)
        self.flops += flops
        self.moved_bytes += moved_bytes
        self.steps += int(steps.sum())
        self.run_busy_s += float((block.floats("end_s") - block.floats("start_s")).sum())
        self.step_tokens_max = max(self.step_tokens_max, int(tokens.max(initial=0)))
        self.step_decodes_max = max(self.step_decodes_max, int(decodes.max(initial=0)))
        if covered is not None:
            beyond = (tokens > covered.max_step_tokens) | (decodes > covered.max_decodes)
            self.outside += int(steps[beyond].sum())


def step_totals(result: Result, window: Window, kinds: SequenceOf[Kind]) -> tuple[StepTotals, ...]:
    """Sum up the steps of a run by kind of replica. FLOPs and bytes are those of one rank."""
    totals = tuple(StepTotals() for _ in kinds)
    kind_of = np.zeros(len(result.replicas["steps"]), dtype=np.int64)
    for place, kind in enumerate(kinds):
        kind_of[kind.numbers] = place
    for block in blocks(result):
        place = int(kind_of[block.replica])
        pool = kinds[place].pool
        totals[place].add(block, window)
        totals[place].add_work(block, pool.price, pool.calibration.covered)
    for kind, each in zip(kinds, totals, strict=True):
        reads = result.reads_of(kind.numbers.tolist())
        flops, moved_bytes = kind.pool.price.work((), (), (), reads)
        each.flops += flops
        each.moved_bytes += moved_bytes
    return totals
