"""How many bytes a number takes, and in which arithmetic it is multiplied."""

from typing import TypeVar

from model.dataclass import dataclass
from model.errors import one_of
from model.quantization.methods import SETTINGS, check_setting
from model.quantization.scheme import Scheme
from model.quantization.weights import PLAIN, Weights, uniform

T = TypeVar("T")

_DTYPES = {
    "bfloat16": (2.0, "bf16"),
    "float16": (2.0, "fp16"),
    "half": (2.0, "fp16"),
    "float32": (4.0, "fp32"),
    "float": (4.0, "fp32"),
}
KV_DTYPES = {
    "auto": None,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_inc": 1.0,
}
"""vLLM's names of what the KV cache holds, and bytes of one number; auto follows the checkpoint."""

KV_NOT_MODELLED = (
    "fp8_ds_mla", "fp8_per_token_head", "int8", "int8_per_token_head", "int4_per_token_head",
    "nvfp4", "nvfp4_ds_mla", "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_3bit_nc",
)  # fmt: skip
"""Names that vLLM has, too."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of one number, and the arithmetic of matrix products."""

    activation_bytes: float
    """One activation; also one weight of embeddings, norms, routers, biases, and of every matrix
    that is not quantized."""
    kv_bytes: float
    """One number of the KV cache."""
    compute: str
    """Arithmetic of whatever is not quantized: fp32, fp16 or bf16."""
    weights: Weights = PLAIN
    """Which matrices are quantized, and how."""

    def product(self, scheme: Scheme | None) -> str:
        """Return the arithmetic of products with matrices of a scheme."""
        return self.compute if scheme is None or scheme.compute is None else scheme.compute

    @property
    def main_compute(self) -> str:
        """Arithmetic of most matrix products: fp32, fp16, bf16, fp8, int8 or fp4."""
        return self.product(self.weights.main)

    def matrix_bytes(
        self, scheme: Scheme | None, n: int, k: int, whole_k: int | None = None
    ) -> float:
        """Return the bytes of an (n, k) matrix; see ``Scheme.matrix_bytes``."""
        if scheme is None:
            return n * k * self.activation_bytes
        return scheme.matrix_bytes(n, k, whole_k)

    @property
    def kv_numbers(self) -> str:
        """What the KV cache holds: fp8, or bf16 for anything wider."""
        return "fp8" if self.kv_bytes <= 1.0 else "bf16"


def precision(
    dtype: str = "bfloat16",
    quantization: str | Weights | None = None,
    kv_cache_dtype: str = "auto",
) -> Precision:
    """Return the precision that three settings under vLLM's names stand for.

    ``fp8`` and ``int8`` quantize weights and the inputs of their products (W8A8), so that the
    products run in that arithmetic; ``fp4`` is NVIDIA's NVFP4 (W4A4). ``awq``, ``gptq``, ``int4``,
    ``bitsandbytes`` and ``w8a16`` quantize weights only: they are widened on the fly and multiplied
    in ``dtype``. Scales and zeros are counted, see ``model.quantization.scheme``.

    Args:
        dtype: of activations and unquantized weights: bfloat16, float16 (half), float32 (float).
        quantization: what is quantized, or a name of `SETTINGS` for all matrices of the layers.
        kv_cache_dtype: auto follows ``dtype``; otherwise one of `KV_DTYPES`.

    Raises:
        ValueError: a name that is not known, or a quantization of float32.
    """
    activation_bytes, compute = _lookup("dtype", dtype, _DTYPES)
    kv_bytes = _lookup("kv_cache_dtype", kv_cache_dtype, KV_DTYPES) or activation_bytes
    weights = _named(quantization) if isinstance(quantization, str) else quantization or PLAIN
    if compute == "fp32" and weights.schemes():
        told = quantization if isinstance(quantization, str) else str(weights)
        raise ValueError(
            f"quantization = {told!r} with dtype = {dtype!r}: expected dtype to be bfloat16 or "
            "float16"
        )
    return Precision(activation_bytes, kv_bytes, compute, weights)


def check_kv_dtype(name: str) -> str:
    """Return a name of what the KV cache holds. Raises ValueError with the choices."""
    if name in KV_NOT_MODELLED:
        raise ValueError(f"not modelled, expected one of {', '.join(KV_DTYPES)}")
    if name not in KV_DTYPES:
        raise ValueError(one_of(name, tuple(KV_DTYPES)))
    return name


def _named(quantization: str) -> Weights:
    try:
        setting = SETTINGS[check_setting(quantization)]
    except (ValueError, KeyError) as error:
        raise ValueError(f"quantization = {quantization!r}: {error}") from None
    if setting.scheme is None:
        raise ValueError(
            f"quantization = {quantization!r}: expected a checkpoint whose config.json says the "
            "scheme (quantization_config)"
        )
    return uniform(setting.scheme, quantization, None, setting.modules)


def _lookup(setting: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise ValueError(f"{setting} = {name!r}: {one_of(name, tuple(known))}")
    return known[name]
