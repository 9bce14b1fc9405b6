"""From a model, its GPUs and an engine's limits to the tables that price every step."""

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hardware.calibration import DATASHEET, Calibration
from hardware.gpu import Gpu
from hardware.group import Group
from hardware.links.handing_over import handed_over_s
from hardware.prices.choose import prices_of
from hardware.prices.graphs import largest_graph, launched, with_graphs
from hardware.prices.protocol import Prices
from hardware.prices.together import (
    all_reduces_s,
    attention_works,
    beside,
    chunk_cost,
    decode_pieces,
    gather_s,
)
from hardware.prices.work import operators_work
from hardware.steps.cost import StepCost
from hardware.steps.prices import Beside
from hardware.steps.ranks import ALONE, JointTables, Ranks, joint_tables
from model.dataclass import dataclass
from model.dealing import experts_among
from model.operators import Operator
from model.precision import Precision
from model.same import Same
from model.spec import DecoderSpec
from model.stages import Stage

Floats = npt.NDArray[np.float64]

MOST_TABULATED = 2**22
"""Tokens or sequences of one step: their tables take a gigabyte then."""
KEPT_TABLES = 4
"""Of operators by tokens, which points of a sweep share; a megabyte each with 8,192 tokens."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StepSetup:
    """What the price of a step depends on, the step itself apart."""

    spec: DecoderSpec
    gpu: Gpu
    """Every rank's."""
    tp: int = 1
    """Ranks that share the model."""
    precision: Precision
    """Bytes per number, and arithmetic."""
    calibration: Calibration = DATASHEET
    """Efficiencies and overheads."""
    fused: bool = True
    """FlashAttention's traffic; otherwise scores and probabilities go through memory."""
    max_tokens: int
    """Most tokens of one step."""
    max_seqs: int
    """Most sequences of one step, decoding or with a chunk."""
    step_overhead_s: float | None = None
    """Host time per step. None: the calibration's."""
    sequence_overhead_s: float | None = None
    """Host time per sequence. None: the calibration's."""
    drawing_s: Floats | None = None
    """Of tokens, by sequences of the step from 0 to ``max_seqs``. None: nothing."""
    enable_expert_parallel: bool = False
    """GPUs hold experts whole, instead of a part of each."""
    max_cudagraph_capture_size: int | None = None
    """Tokens of the largest step that a graph replays. None: twice the seats, up to 512."""
    enforce_eager: bool = False
    """No step is replayed from a graph: the host launches its kernels one by one."""
    graphs_of_decodes: bool = False
    """Graphs replay steps of decodes alone: the host launches those with a chunk."""
    ranks: Ranks = ALONE
    """Data-parallel ones, each of ``tp`` GPUs."""
    stage: Stage | None = None
    """Of a pipeline, that alone, and what it receives and sends. The host's time for a step is the
    first one's, that for sequences the last one's. None: the whole model."""
    number: int = 0
    """Which stage that is, from 0."""

    @cached_property
    def prices(self) -> Prices:
        """Seconds of operators and collectives."""
        return prices_of(self.gpu, self.calibration, fused=self.fused)

    @cached_property
    def group(self) -> Group:
        """One rank of the stage, or of the whole model."""
        stage = self.stage or Stage(self.spec)
        whole = self.enable_expert_parallel
        spec = experts_among(stage.spec, self.tp, self.ranks.count, whole=whole)
        return Group(
            spec=spec, gpu=self.gpu, tp=self.tp, dp=self.ranks.count, precision=self.precision,
            embeds=stage.embeds, predicts=stage.predicts,
        )  # fmt: skip

    def bare_sequence_s(self, operators: list[Operator]) -> Floats:
        """Seconds by sequences of the step, from 0: LM head and gather of the logits."""
        if not self.group.predicts:
            return np.zeros(self.max_seqs + 1)
        seconds = self.prices.operators_s(operators, 0)
        if self.tp > 1:
            sequences = np.arange(self.max_seqs + 1.0)
            seconds = seconds + gather_s(self.group, self.prices, sequences)
        return seconds

    def sequence_s(self, bare_s: Floats) -> Floats:
        """The same with what the host takes, drawing their tokens included."""
        if not self.group.predicts:
            return bare_s
        drawn_s = 0.0 if self.drawing_s is None else self.drawing_s
        return bare_s + self.host_sequence_s * np.arange(self.max_seqs + 1.0) + drawn_s

    def of_tokens(self) -> tuple[list[Operator], Floats]:
        """Operators by tokens of the step, from 0, and their seconds: setups of other seats share
        them."""
        return _of_tokens(
            self.spec, Same(self.gpu), Same(self.calibration), tp=self.tp,
            precision=self.precision, fused=self.fused, max_tokens=self.max_tokens,
            enable_expert_parallel=self.enable_expert_parallel, ranks=self.ranks, stage=self.stage,
        )  # fmt: skip

    def token_s(self, seconds: Floats) -> Floats:
        """Seconds by tokens of the step, from 0: what the GPUs spend on them, attention apart.

        ``seconds`` are those of their operators.
        """
        group, prices, tokens = self.group, self.prices, np.arange(self.max_tokens + 1.0)
        if self.tp > 1:
            seconds = seconds + all_reduces_s(group, prices, tokens)
        if self._graphs and not self.enforce_eager:
            eager_s = group.spec.expert_layers * prices.host.eager_experts_s
            seconds = with_graphs(seconds, self._largest_graph, eager_s)
        return seconds + handed_over_s(group, prices, self.calibration, self.number, tokens)

    def together(self) -> JointTables | None:
        """What data-parallel ranks spend on tokens together; None for one rank."""
        if self.ranks.count == 1:
            return None
        return joint_tables(
            self.group, self.prices, self.ranks, self.max_tokens, self._largest_graph,
            graphs=self._graphs,
        )  # fmt: skip

    @property
    def overhead_s(self) -> float:
        """Once per step: the host's share, and launches of every layer."""
        host, step_s = self.prices.host, self.step_overhead_s
        step_s = host.step_s if step_s is None else step_s
        return (step_s if self.group.embeds else 0.0) + self.group.spec.num_layers * host.layer_s

    @property
    def host_sequence_s(self) -> float:
        """What the host takes for each sequence of a step."""
        each_s = self.sequence_overhead_s
        return self.prices.host.sequence_s if each_s is None else each_s

    @property
    def eager_s(self) -> float:
        """What the host takes to launch a step that has a chunk and no graph; 0 with them."""
        if not (self.enforce_eager or self.graphs_of_decodes):
            return 0.0
        spec, host = self.group.spec, self.prices.host
        plain = spec.num_layers - spec.expert_layers
        experts_s = max(host.eager_experts_s, host.eager_layer_s)
        return plain * host.eager_layer_s + spec.expert_layers * experts_s

    @property
    def _graphs(self) -> bool:
        return self.calibration.kernels is not None

    @property
    def _largest_graph(self) -> int:
        return largest_graph(self.max_seqs, self.max_cudagraph_capture_size)


def step_cost(setup: StepSetup) -> StepCost:
    """Tabulate the prices of all steps that ``setup`` allows.

    Raises:
        ValueError: ``tp`` does not divide the model; no link between GPUs; a limit below 1.
        UnsupportedPrecisionError: the GPU lacks the arithmetic.
    """
    _check_limits(max_tokens=setup.max_tokens, max_seqs=setup.max_seqs)
    group, prices = setup.group, setup.prices
    of_tokens, operators_s = setup.of_tokens()
    of_sequences = group.sequence_operators(np.arange(setup.max_seqs + 1.0))
    bare_s, together = setup.bare_sequence_s(of_sequences), setup.together()
    token_s = setup.token_s(operators_s) if together is None else together.even_s
    pieces = decode_pieces(group, prices, setup.max_seqs)
    with_chunks = beside(group, prices, setup.max_seqs)
    if setup.enforce_eager and setup.eager_s > 0:
        with_chunks = with_chunks or Beside(pieces, 0.0)
        pieces = launched(pieces, token_s.tolist(), setup.eager_s)
    return StepCost(
        idle_start_s=prices.host.idle_start_s,
        overhead_s=setup.overhead_s,
        token_s=token_s.tolist(),
        sequence_s=setup.sequence_s(bare_s).tolist(),
        windows=group.spec.windows,
        decode_pieces=pieces,
        beside=with_chunks,
        eager_s=setup.eager_s,
        chunk_cost=chunk_cost(group, prices),
        token_work=operators_work(of_tokens),
        sequence_work=operators_work(of_sequences),
        attention_work=attention_works(group),
        bare_sequence_s=bare_s,
        together=together,
    )


@lru_cache(maxsize=KEPT_TABLES)
def _of_tokens(
    spec: DecoderSpec, gpu: Same[Gpu], calibration: Same[Calibration], **rest: Any
) -> tuple[list[Operator], Floats]:
    setup = StepSetup(
        spec=spec, gpu=gpu.value, calibration=calibration.value, max_seqs=1, **rest
    )  # fmt: skip
    operators = setup.group.token_operators(np.arange(setup.max_tokens + 1.0))
    return operators, setup.prices.operators_s(operators, setup.group.spec.num_layers)


def _check_limits(**limits: int) -> None:
    for name, limit in limits.items():
        if not 1 <= limit <= MOST_TABULATED:
            raise ValueError(
                f"{name} = {limit} of one step, expected 1 to {MOST_TABULATED}; "
                "engine.max_num_batched_tokens, max_model_len and max_num_seqs decide"
            )
