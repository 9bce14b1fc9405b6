"""A mixture of experts: a router sends every token to some of them; one may be shared by all."""

from dataclasses import replace
from functools import cached_property

from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mlps.dense import Dense
from model.mlps.load import EVEN, ExpertLoad
from model.mlps.mlp import nonlinearity
from model.operators import NORM_FLOPS, F, Operator
from model.quantization.scheme import Scheme
from model.share import Share

ROUTER, SHARED_GATE = "router", "shared_expert_gate"
CHOOSES = (ROUTER, SHARED_GATE)
"""Matrices that decide who computes, and how much of it counts."""
ACTIVATES, ADDS_UP = "experts_act", "experts_sum"
"""Between an expert's matrices, and behind them: part of what tables of experts time."""
EXPERT_OPERATORS = ("experts", ACTIVATES, ADDS_UP)
"""What works on the tokens that come to a rank's experts; all else of a layer works on the rank's
own."""


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Experts of equal width, and perhaps a shared one that every token takes.

    Routing in groups (DeepSeek: 8 experts of the best 4 of 8 groups) changes who is chosen
    together, not how often each is: counts are the same.
    """

    hidden_size: int
    num_experts: int
    per_token: int
    """Experts that a token is routed to."""
    width: int
    """Of one routed expert."""
    activation: str = "silu"
    gated: bool = True
    bias: bool = False
    """Of the experts' matrices (gpt-oss)."""
    latent: int | None = None
    """Width that routed experts work on, if it is not the hidden size: a matrix before and one
    behind them go from one to the other (Nemotron 3 Super, Kimi K3)."""
    latent_quantized: bool = True
    """Whether those two matrices are quantized where others are."""
    latent_norm: bool = False
    """A norm of what the experts add up to on that width (Kimi K3)."""
    shared: Dense | None = None
    """The expert that every token takes (Qwen2-MoE, Llama 4)."""
    shared_gate: bool = False
    """The shared expert's output is weighted by a gate of its own (Qwen2-MoE)."""
    router_bias: bool = False
    """A number per expert is added to the router's output."""
    router_float32: bool = False
    """Its product is one of float32 numbers, of inputs that are widened before: in vLLM's models of
    GLM-4.5, MiniMax-M2 and Ernie 4.5 (``gate`` in vllm/model_executor/models)."""
    idle_choices: int = 0
    """Choices of the router beside the experts that compute nothing (LongCat's zero experts)."""
    load: ExpertLoad = EVEN
    """How evenly tokens choose."""
    ranks: int = 1
    """Among which experts are dealt whole (expert parallelism); 1: a rank has a part of each."""

    @property
    def vector_numbers(self) -> int:
        """The norm on the latent width; the router's bias is its matrix's."""
        return self.inner_size if self.latent_norm else 0

    @property
    def inner_size(self) -> int:
        """Width of what goes into a routed expert."""
        return self.latent or self.hidden_size

    @property
    def ups(self) -> int:
        """Matrices before the nonlinearity, side by side."""
        return 2 if self.gated else 1

    @property
    def held(self) -> int:
        """Experts of the rank that holds most of them."""
        return -(-self.num_experts // self.ranks)

    def width_on(self, tp: int) -> int:
        """Return the width of an expert on one of ``tp`` ranks."""
        return self.width if self.ranks > 1 else self.width // tp

    @property
    def _pairs_per_token(self) -> float:
        """(token, expert) pairs that the busiest rank computes for every token of a step."""
        if self.ranks == 1:
            return self._mean_used
        busiest = self.load.busiest(self.num_experts, self._mean_used, self.ranks)
        return self._mean_used * busiest * self.held / self.num_experts

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """The shared expert's, the routed experts', and what is never quantized."""
        hidden, inner = repeated(self.hidden_size), repeated(self.inner_size)
        width = Width(self.width) if self.ranks == 1 else repeated(self.width)
        copies, used = self.held, min(self.per_token, self.held)
        shared = self.shared.matrices if self.shared else ()
        choices = repeated(self.num_experts + self.idle_choices)
        gate = (Matrix(SHARED_GATE, (repeated(1),), hidden, quantized=False),)
        shrinks = self.latent_quantized
        latent = (
            Matrix("latent_down", (inner,), hidden, quantized=shrinks),
            Matrix("latent_up", (hidden,), inner, quantized=shrinks),
        )
        ups = (width,) * self.ups
        return (
            *shared,
            Matrix("experts", ups, inner, bias=self.bias, copies=copies, used=used),
            Matrix("experts", (inner,), width, bias=self.bias, copies=copies, used=used),
            Matrix(ROUTER, (choices,), hidden, bias=self.router_bias, quantized=False),
            *(gate if self.shared_gate else ()),
            *(latent if self.latent else ()),
        )

    @property
    def told(self) -> str:
        """See ``Mlp``."""
        return f"MLP width {self.width}"

    def expected(self, tokens: F) -> F:
        """Return how many distinct experts of a layer ``tokens`` tokens are expected to touch.

        Of those that a rank holds, where they are dealt whole.
        """
        touched = self.load.touched(self.num_experts, self._mean_used, tokens)
        return touched if self.ranks == 1 else touched * (self.held / self.num_experts)

    @property
    def _mean_used(self) -> float:
        """Experts that a token is expected to compute: all of its choices but the idle ones."""
        choices = self.num_experts + self.idle_choices
        return self.per_token * self.num_experts / choices if self.idle_choices else self.per_token

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """Router, routed experts as one grouped product, and the weighted sum of their outputs."""
        named = {matrix.name: matrix for matrix in self.matrices}
        pairs, width = rows * self._pairs_per_token, self.width_on(share.tp)
        # The sum reads the outputs of every pair and writes one row per token.
        sum_moved = 1 + self.ranks / self.per_token
        operators = [
            *self._routed(share.products(named[ROUTER], rows), rows, share),
            *(share.products(named["latent_down"], rows) if self.latent else ()),
            *(
                self._products(rows, share, scheme, count)
                for scheme, count in share.schemes(named["experts"])
            ),
            nonlinearity(ACTIVATES, self.activation, self.gated, pairs * width, share),
            share.elementwise(ADDS_UP, pairs * self.inner_size, 2, sum_moved),
        ]
        if self.latent_norm:
            normed, flops = rows * self.inner_size, NORM_FLOPS["rmsnorm"]
            operators.append(share.elementwise("latent_norm", normed, flops, 2, kind="norm"))
        if self.latent:
            operators += share.products(named["latent_up"], rows)
        if self.shared is not None:
            operators += self.shared.operators(rows, share)
        if self.shared_gate:
            operators += share.products(named[SHARED_GATE], rows)
        return operators

    def _routed(self, products: list[Operator], rows: F, share: Share) -> list[Operator]:
        """The router's product in the numbers that it is computed in."""
        if not self.router_float32:
            return products
        widened = share.elementwise("router_inputs", rows * self.hidden_size, 0, 3)
        wide = [
            replace(
                one,
                compute="fp32",
                weight_bytes=2 * one.weight_bytes,
                activation_bytes=2 * one.activation_bytes,
            )
            for one in products
        ]
        return [widened, *wide]

    def _products(self, rows: F, share: Share, scheme: Scheme | None, layers: int) -> Operator:
        """The grouped product of the layers whose experts are stored in one way.

        Its (m, n, k) is gate, up and down side by side: every token goes through k of the experts,
        so m is the number of (token, expert) pairs. Only the touched experts' weights are read.
        Zeros that a kernel fills up with count like weights.
        """
        width, inner, numbers = self.width_on(share.tp), self.inner_size, share.precision
        if scheme is not None:
            width, inner = scheme.computed(width, inner)
        pairs, all_widths = rows * self._pairs_per_token, (self.ups + 1) * width
        matrices = numbers.matrix_bytes(scheme, self.ups * width, inner)
        matrices += numbers.matrix_bytes(scheme, inner, width)
        if self.bias:
            matrices += (self.ups * width + inner) * numbers.activation_bytes
        return Operator(
            name="experts",
            kind="gemm",
            layers=layers,
            flops=2 * pairs * all_widths * inner,
            weight_bytes=self.expected(rows) * matrices,
            activation_bytes=pairs * (2 * inner + all_widths) * numbers.activation_bytes,
            kv_bytes=0.0,
            gemm=(pairs, all_widths, inner),
            groups=self.held,
            compute=numbers.product(scheme),
            stored=scheme.kernel if scheme is not None else None,
            weight_only=scheme is not None and scheme.compute is None,
        )

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """Those of the shared expert."""
        return self.shared.inner_numbers(tokens, tp) if self.shared else 0

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """``T k (3 w + d)``, with w the width of an expert on a rank and d its inputs'."""
        parts = (self.ups + 1) * self.width_on(tp)
        return tokens * self.per_token * (parts + self.inner_size)

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """``T k (max(d, 2 w) + w)``."""
        width = self.width_on(tp)
        return tokens * self.per_token * (max(self.inner_size, self.ups * width) + width)
