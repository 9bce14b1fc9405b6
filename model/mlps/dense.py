"""An MLP that every token goes through: two matrices, or three when gated."""

from functools import cached_property

from model.dataclass import dataclass
from model.matrices import Matrix, Width, repeated
from model.mlps.mlp import nonlinearity
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Up and down, and a gate beside up (SwiGLU) in most."""

    hidden_size: int
    width: int
    gated: bool = True
    activation: str = "silu"
    """A key of ``model.operators.ACTIVATION_FLOPS``."""
    bias: bool = False
    num_experts = 0

    @property
    def vector_numbers(self) -> int:
        """The two learned numbers of xIELU (Apertus)."""
        return 2 if self.activation == "xielu" else 0

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Gate and up are one product."""
        hidden, width = repeated(self.hidden_size), Width(self.width)
        ups = (width,) * (2 if self.gated else 1)
        return (
            Matrix("mlp_up", ups, hidden, bias=self.bias),
            Matrix("mlp_down", (hidden,), width, bias=self.bias),
        )

    @property
    def told(self) -> str:
        """See ``Mlp``."""
        return f"MLP width {self.width}"

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mlp``."""
        up, down = self.matrices
        inner = rows * (self.width // share.tp)
        return [
            *share.products(up, rows),
            nonlinearity("mlp_act", self.activation, self.gated, inner, share),
            *share.products(down, rows),
        ]

    def inner_numbers(self, tokens: int, tp: int) -> int:
        """``T m I``: the m inner products (m is 3 with a gate), of width I on a rank."""
        return tokens * (3 if self.gated else 2) * (self.width // tp)

    def routed_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return 0

    def workspace_numbers(self, tokens: int, tp: int) -> int:
        """See ``Mlp``."""
        return 0
