"""A mixture of experts: a router sends every token to some of them; one may be shared by all."""

from dataclasses import dataclass
from functools import cached_property

from model.matrices import Matrix, Width, repeated
from model.mlps.dense import Dense
from model.mlps.mlp import nonlinearity
from model.operators import F, Operator, floats
from model.quantization.scheme import Scheme
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Gated experts of equal width, and perhaps a shared one that every token takes."""

    hidden_size: int
    num_experts: int
    per_token: int
    """Experts that a token is routed to."""
    width: int
    """Of one routed expert."""
    activation: str = "silu"
    shared: Dense | None = None
    """The expert that every token takes (Qwen2-MoE, Llama 4)."""
    shared_gate: bool = False
    """The shared expert's output is weighted by a gate of its own (Qwen2-MoE)."""
    router_bias: bool = False
    """A number per expert is added to the router's output."""
    vector_numbers = 0

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """The shared expert's, the routed experts', and what is never quantized."""
        hidden, width = repeated(self.hidden_size), Width(self.width)
        copies, used = self.num_experts, self.per_token
        shared = self.shared.matrices if self.shared else ()
        gate = (Matrix("shared_expert_gate", (repeated(1),), hidden, quantized=False),)
        return (
            *shared,
            Matrix("experts", (width, width), hidden, copies=copies, used=used),
            Matrix("experts", (hidden,), width, copies=copies, used=used),
            Matrix(
                "router",
                (repeated(self.num_experts),),
                hidden,
                bias=self.router_bias,
                quantized=False,
            ),
            *(gate if self.shared_gate else ()),
        )

    @property
    def told(self) -> str:
        """See ``Mlp``."""
        return f"MLP width {self.width}"

    def expected(self, tokens: F) -> F:
        """Return how many distinct experts of a layer ``tokens`` tokens are expected to touch.

        ``E (1 - (1 - k/E)^t)`` for t tokens that choose k of E experts each, uniformly and
        independently: one expert is missed by one token with probability 1 - k/E. Real routers are
        less even and touch fewer.
        """
        missed = 1.0 - self.per_token / self.num_experts
        return self.num_experts * (1.0 - missed ** floats(tokens))

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """Router, routed experts as one grouped product, and the weighted sum of their outputs."""
        named = {matrix.name: matrix for matrix in self.matrices}
        pairs, width = rows * self.per_token, self.width // share.tp
        # The sum reads the outputs of every pair and writes one row per token.
        sum_moved = 1 + 1 / self.per_token
        operators = [
            *share.products(named["router"], rows),
            *(
                self._products(rows, share, scheme, count)
                for scheme, count in share.schemes(named["experts"])
            ),
            nonlinearity("experts_act", self.activation, True, pairs * width, share),
            share.elementwise("experts_sum", pairs * self.hidden_size, 2, sum_moved),
        ]
        if self.shared is not None:
            operators += self.shared.operators(rows, share)
        if self.shared_gate:
            operators += share.products(named["shared_expert_gate"], rows)
        return operators

    def _products(self, rows: F, share: Share, scheme: Scheme | None, layers: int) -> Operator:
        """The grouped product of the layers whose experts are stored in one way.

        Its (m, n, k) is gate, up and down side by side: every token goes through k of the experts,
        so m is the number of (token, expert) pairs. Only the touched experts' weights are read.
        """
        hidden, width, numbers = self.hidden_size, self.width // share.tp, share.precision
        pairs, all_widths = rows * self.per_token, 3 * width
        matrices = numbers.matrix_bytes(scheme, 2 * width, hidden)
        matrices += numbers.matrix_bytes(scheme, hidden, width)
        return Operator(
            name="experts",
            kind="gemm",
            layers=layers,
            flops=2 * pairs * all_widths * hidden,
            weight_bytes=self.expected(rows) * matrices,
            activation_bytes=pairs * (2 * hidden + all_widths) * numbers.activation_bytes,
            kv_bytes=0.0,
            gemm=(pairs, all_widths, hidden),
            groups=self.num_experts,
            compute=numbers.product(scheme),
        )

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """Those of the shared expert."""
        return self.shared.inner_numbers(tokens, tp) if self.shared else 0

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """``T k (3 w + hidden)``, with w the width of an expert on a rank."""
        return tokens * self.per_token * (3 * (self.width // tp) + self.hidden_size)

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """``T k (max(hidden, 2 w) + w)``."""
        width = self.width // tp
        return tokens * self.per_token * (max(self.hidden_size, 2 * width) + width)
