"""The matrices of a layer, and how the ranks of a group share them."""

from model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Width:
    """One side of a matrix: ``count`` pieces of ``each`` numbers, which ranks divide in pieces."""

    count: int
    each: int = 1
    copied: bool = False
    """Where there are fewer pieces than ranks, every rank keeps a copy of one (KV heads)."""

    @property
    def whole(self) -> int:
        """Numbers of all ranks together."""
        return self.count * self.each

    def on_rank(self, tp: int) -> int:
        """Numbers of one of ``tp`` ranks."""
        return max(1, self.count // tp) * self.each

    def divides(self, tp: int) -> bool:
        """Whether ``tp`` ranks can share it."""
        return self.count % tp == 0 or (self.copied and tp % self.count == 0)


def repeated(size: int) -> Width:
    """Return a side that every rank has in full."""
    return Width(1, size, copied=True)


@dataclass(frozen=True, slots=True)
class Matrix:
    """One matrix of a layer, under the name that its product has in a step."""

    name: str
    """Checkpoints' names for it are the family's, see ``model.families``."""
    outputs: tuple[Width, ...]
    """Of the parts that an engine joins: queries, keys and values; gate and up."""
    inputs: Width
    bias: bool = False
    unbiased: Width | None = None
    """Numbers of the outputs that have none beside others that do (a gate beside queries)."""
    quantized: bool = True
    """Quantization may shrink it; routers and gates keep the activations' precision."""
    copies: int = 1
    """Of the same shape: experts."""
    used: int = 1
    """Copies that one token goes through."""
    unpacked: bool = False
    """An engine that finds it quantized keeps it in the activations' precision as well."""

    @property
    def parameters(self) -> int:
        """Weights of one copy, without biases."""
        return self.inputs.whole * sum(part.whole for part in self.outputs)

    def bias_numbers(self, tp: int = 1) -> int:
        """Biases that one of ``tp`` ranks keeps."""
        if not self.bias:
            return 0
        without = self.unbiased.on_rank(tp) if self.unbiased else 0
        return sum(part.on_rank(tp) for part in self.outputs) - without

    @property
    def sides(self) -> tuple[Width, ...]:
        """Everything that ranks may divide."""
        return (*self.outputs, self.inputs)
