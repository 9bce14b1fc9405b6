"""How the numbers of one matrix are stored, and in which arithmetic its product runs."""

from dataclasses import replace

from model.dataclass import dataclass

WHOLE = 0
"""Instead of a number of rows or columns: all of them."""

INDEX_BYTES = 8
"""Of one input of a matrix whose groups are in activation order (GPTQ's ``desc_act``): the group's
number and its place in the sorted order, int32 each, as vLLM's Marlin kernel keeps them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Storage and arithmetic of quantized matrices (n outputs, k inputs)."""

    numbers: str
    """What one weight is: fp8, int8, int4, fp4, nf4 or int2 and int3."""
    bits: float
    """Of one weight."""
    compute: str | None = None
    """Arithmetic of the product, with inputs quantized alike: fp8, int8 or fp4. None: weights are
    widened to the activations' numbers on the fly (weight-only)."""
    block: tuple[int, int] = (WHOLE, WHOLE)
    """Rows (outputs) and columns (inputs) that share a scale: (WHOLE, WHOLE) is one per matrix,
    (1, WHOLE) one per output channel, (1, 128) one per 128 inputs of each output."""
    scale_bits: float = 32
    """Of one scale."""
    zero_bits: float = 0
    """Of the zero point beside each scale; 0 for symmetric formats."""
    flat: bool = False
    """Blocks run over the whole matrix, whatever its rows: ranks may cut them anywhere."""
    activation_order: bool = False
    """Groups follow the inputs' importance instead of their order: an index says which, and a rank
    that holds a part of the inputs keeps the scales of all groups."""

    marlin: bool = False
    """Its products are those of Marlin, whatever the numbers of 4 bits (vLLM's
    ``VLLM_MXFP4_USE_MARLIN``)."""

    filled_up: bool = False
    """Ranks that share experts get whole groups each, the last one zeros to the end (vLLM's
    ``Mxfp4MoEMethod``: gpt-oss has 90 groups, which 4 ranks hold as 23)."""

    reordered: bool = False
    """The scales of experts are copied into the order in which their kernel reads them (Triton's on
    Hopper, ``_swizzle_mxfp4``)."""

    tiles: tuple[int, int] = (1, 1)
    """Multiples that an expert's width on a rank and its inputs are filled up to with zeros, where
    they lie in memory (``Mxfp4MoEMethod`` as well): by the kernel, see ``hardware.arithmetic``."""

    @property
    def kernel(self) -> str | None:
        """Return what tables call its products where they are not those of its arithmetic.

        fp8_block: fp8 with scales by block, whose inputs are quantized in groups at every product;
        int4 and mxfp4: weights of 4 bits that are widened beside the product; mxfp4_fp8: to fp8.
        """
        if self.numbers == "fp8" and self.compute == "fp8" and self.block[1]:
            return "fp8_block"
        if self.bits == 4 and self.compute in (None, "fp8"):
            if self.numbers != "fp4" or self.marlin:
                return "int4"
            return "mxfp4_fp8" if self.compute else "mxfp4"
        return None

    def computed(self, width: int, inner: int) -> tuple[int, int]:
        """Return an expert's width on a rank, and its inputs, as they are priced.

        Prices of Marlin and of MXFP4 with inputs in fp8 are those of other experts, of whole tiles:
        of gpt-oss 3,072 inputs are computed for 2,880, and of half of its width 1,536 for 1,440.
        Tables of gpt-oss itself hold what is filled up already.
        """
        if not self.marlin and self.kernel != MXFP4_FP8.kernel:
            return width, inner
        of_width, of_inputs = self.tiles
        return self.part(width, width, of_width), self.part(inner, inner, of_inputs)

    def part(self, size: int, whole: int, tile: int = 1) -> int:
        """Return how many numbers a rank holds that has ``size`` of ``whole`` experts' numbers.

        Args:
            size: of the rank's part.
            whole: of all ranks.
            tile: one of ``tiles``.
        """
        group = self.block[1]
        if self.filled_up and group and size != whole:
            size = -(-size // group) * group
        return -(-size // tile) * tile

    def matrix_bytes(self, n: int, k: int, whole_k: int | None = None) -> float:
        """Return the bytes of an (n, k) matrix with its scales, zeros and indices.

        ``n * k`` numbers, one scale (and zero) per started block. ``whole_k`` counts the inputs of
        the matrix of which this is one rank's part: k unless given.
        """
        rows, columns = self.block
        inputs = (whole_k or k) if self.activation_order else k
        scales = _pieces(n, rows) * _pieces(inputs, columns)
        index = INDEX_BYTES * k if self.activation_order else 0
        return (n * k * self.bits + scales * (self.scale_bits + self.zero_bits)) / 8 + index

    def __str__(self) -> str:
        rows, columns = self.block
        if rows > 1:
            scales = f", {rows} x {columns} blocks"
        elif columns:
            scales = f", groups of {columns}"
        else:
            scales = ", channels" if rows else ""
        zeros = " with zeros" if self.zero_bits else ""
        order = ", act-order" if self.activation_order else ""
        only = "" if self.compute else ", weights only"
        return f"{self.numbers}{scales}{zeros}{order}{only}"


def _pieces(length: int, size: int) -> int:
    """How many pieces of ``size`` cover ``length``; one piece is the whole of it."""
    return -(-length // size) if size else 1


FP8_TENSOR = Scheme(numbers="fp8", bits=8, compute="fp8")
FP8_CHANNEL = Scheme(numbers="fp8", bits=8, compute="fp8", block=(1, WHOLE))
FP8_BLOCKS = Scheme(numbers="fp8", bits=8, compute="fp8", block=(128, 128))
FP8_ONLY = Scheme(numbers="fp8", bits=8, block=(1, WHOLE))
MXFP8 = Scheme(numbers="fp8", bits=8, compute="fp8", block=(1, 32), scale_bits=8)
INT8_CHANNEL = Scheme(numbers="int8", bits=8, compute="int8", block=(1, WHOLE))
INT8_ONLY = Scheme(numbers="int8", bits=8, block=(1, WHOLE))
NVFP4 = Scheme(numbers="fp4", bits=4, compute="fp4", block=(1, 16), scale_bits=8)
NVFP4_ONLY = Scheme(numbers="fp4", bits=4, block=(1, 16), scale_bits=8)
MXFP4 = Scheme(numbers="fp4", bits=4, compute="fp4", block=(1, 32), scale_bits=8, filled_up=True)
MXFP4_ONLY = Scheme(numbers="fp4", bits=4, block=(1, 32), scale_bits=8, filled_up=True)
MXFP4_MARLIN = replace(MXFP4_ONLY, marlin=True)
MXFP4_FP8 = Scheme(
    numbers="fp4", bits=4, compute="fp8", block=(1, 32), scale_bits=8, filled_up=True
)
NF4 = Scheme(numbers="nf4", bits=4, block=(1, 64), flat=True)


def grouped(bits: int, group: int, *, zeros: bool = False, act_order: bool = False) -> Scheme:
    """Return a weight-only format of integers in groups along the inputs.

    ``bits + 16 / group (+ bits / group)`` bits a weight: a 16-bit scale per group, and a packed
    zero point where there is one. A group of -1 or 0 is a whole output channel.
    """
    return Scheme(
        numbers=f"int{bits}",
        bits=bits,
        block=(1, max(group, WHOLE)),
        scale_bits=16,
        zero_bits=bits if zeros else 0,
        activation_order=act_order and group > 0,
    )


GPTQ = grouped(4, 128)
AWQ = grouped(4, 128, zeros=True)
