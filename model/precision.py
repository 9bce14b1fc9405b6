"""How many bytes a number takes, and in which arithmetic it is multiplied."""

from dataclasses import dataclass
from typing import TypeVar

from model.errors import nearest

T = TypeVar("T")

_DTYPES = {
    "bfloat16": (2.0, "bf16"),
    "float16": (2.0, "fp16"),
    "half": (2.0, "fp16"),
    "float32": (4.0, "fp32"),
    "float": (4.0, "fp32"),
}
_QUANTIZATIONS = {
    "fp8": (1.0, "fp8"),
    "int8": (1.0, "int8"),
    "w8a16": (1.0, None),
    "int4": (0.5, None),
    "fp4": (0.5 + 1 / 16, "fp4"),
}
_KV_DTYPES = {
    "auto": None,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
}


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of one number, and the arithmetic of matrix products."""

    weight_bytes: float
    """One weight of the layers' matrices; embeddings, LM head, routers, norms and biases keep
    `activation_bytes`, as in the usual quantized checkpoints."""
    activation_bytes: float
    """One activation."""
    kv_bytes: float
    """One number of the KV cache."""
    compute: str
    """Arithmetic of the layers' matrix products: fp32, fp16, bf16, fp8, int8 or fp4."""

    @property
    def activation_compute(self) -> str:
        """Arithmetic of everything else: attention, LM head, routers, norms.

        Beside quantized products this is the 16-bit arithmetic of the activations, called fp16:
        where a GPU has bf16 as well, both have the same peak.
        """
        return "fp16" if self.compute in ("fp8", "int8", "fp4") else self.compute

    @property
    def kv_numbers(self) -> str:
        """What the KV cache holds: fp8, or bf16 for anything wider."""
        return "fp8" if self.kv_bytes <= 1.0 else "bf16"


def precision(
    dtype: str = "bfloat16", quantization: str | None = None, kv_cache_dtype: str = "auto"
) -> Precision:
    """Return the precision that three settings under vLLM's names stand for.

    ``fp8`` and ``int8`` quantize weights and the inputs of their products (W8A8), so that the
    products run in that arithmetic. ``int4`` and ``w8a16`` quantize weights only: they are widened
    on the fly and multiplied in ``dtype``; w8a16 is also how vLLM runs fp8 weights on a GPU without
    fp8 arithmetic (Marlin). ``fp4`` is NVIDIA's NVFP4 (W4A4), with its fp8 scale per 16 weights.
    Other scales are left out: one 16-bit scale per 128 weights adds 3% to int4 weights; those of
    8-bit weights, one per tensor or channel, are lost in rounding.

    Args:
        dtype: of activations and unquantized weights: bfloat16, float16 (half), float32 (float).
        quantization: of weights: None, fp8, int8, w8a16, int4 or fp4.
        kv_cache_dtype: auto follows ``dtype``; bfloat16, float16, fp8, fp8_e4m3, fp8_e5m2.

    Raises:
        ValueError: a name that is not known, or a quantization of float32.
    """
    activation_bytes, compute = _lookup("dtype", dtype, _DTYPES)
    kv_bytes = _lookup("kv_cache_dtype", kv_cache_dtype, _KV_DTYPES) or activation_bytes
    if quantization is None:
        return Precision(activation_bytes, activation_bytes, kv_bytes, compute)
    weight_bytes, product = _lookup("quantization", quantization, _QUANTIZATIONS)
    if compute == "fp32":
        raise ValueError(
            f"quantization = {quantization!r} with dtype = {dtype!r}: expected dtype to be "
            "bfloat16 or float16"
        )
    return Precision(weight_bytes, activation_bytes, kv_bytes, product or compute)


def _lookup(setting: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        names = tuple(known)
        raise ValueError(
            f"{setting} = {name!r}, expected one of {', '.join(names)}{nearest(name, names)}"
        )
    return known[name]
