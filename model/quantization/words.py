"""What the words of a published name say of its weights, where there is no checkpoint to read."""

from dataclasses import dataclass

from model.quantization.scheme import (
    AWQ,
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_TENSOR,
    GPTQ,
    INT8_CHANNEL,
    INT8_ONLY,
    MXFP4_ONLY,
    NF4,
    NVFP4,
    NVFP4_ONLY,
    Scheme,
    grouped,
)
from model.quantization.weights import Weights, uniform


@dataclass(frozen=True, slots=True)
class Told:
    """What a name says."""

    method: str
    """vLLM's name of the method that checkpoints of such names use."""
    scheme: Scheme
    kv_fp8: bool = False
    inner_mlps_only: bool = False
    """Attention, and the MLPs of the first and the last layer, stay in 16 bits."""

    def weights(self, layers: int, source: str) -> Weights:
        """Return the storage of a model of so many layers."""
        if not self.inner_mlps_only:
            return uniform(self.scheme, self.method, source)
        parts = ((self.scheme, tuple(range(1, layers - 1))), (None, (0, layers - 1)))
        return Weights((("mlp_up", parts), ("mlp_down", parts)), self.method, source)


_CT = "compressed-tensors"
_GPTQ8 = grouped(8, 128)
_WORDS: tuple[tuple[tuple[str, ...], Told], ...] = (
    (("awq",), Told("awq", AWQ)),
    (("bnb", "8bit"), Told("bitsandbytes", INT8_ONLY)),
    (("bnb",), Told("bitsandbytes", NF4)),
    (("gptq", "int8"), Told("gptq", _GPTQ8)),
    (("gptq", "8bit"), Told("gptq", _GPTQ8)),
    (("gptq",), Told("gptq", GPTQ)),
    (("autoround",), Told("auto-round", GPTQ)),
    (("marlin",), Told("gptq", GPTQ)),
    (("nvfp4a16",), Told(_CT, NVFP4_ONLY)),
    (("nvfp4",), Told("modelopt_fp4", NVFP4)),
    (("fp4",), Told("modelopt_fp4", NVFP4)),
    (("w4a4",), Told("modelopt_fp4", NVFP4)),
    (("mxfp4",), Told("mxfp4", MXFP4_ONLY)),
    (("fp8", "dynamic"), Told(_CT, FP8_CHANNEL)),
    (("fp8", "block"), Told(_CT, FP8_BLOCKS)),
    (("fp8", "kv"), Told("fp8", FP8_TENSOR, kv_fp8=True)),
    (("fp8",), Told("fp8", FP8_TENSOR)),
    (("f8",), Told("fp8", FP8_TENSOR)),
    (("float8",), Told("fp8", FP8_TENSOR)),
    (("w8a8",), Told(_CT, INT8_CHANNEL)),
    (("w8a16",), Told(_CT, INT8_ONLY)),
    (("w4a16",), Told(_CT, GPTQ)),
    (("int8",), Told(_CT, INT8_CHANNEL)),
    (("8bit",), Told("bitsandbytes", INT8_ONLY)),
    (("int4",), Told(_CT, GPTQ)),
    (("4bit",), Told("bitsandbytes", NF4)),
)
"""Words that must all be there, most telling first."""

_REFUSED = ("gguf", "exl2", "exl3", "aqlm", "squeezellm", "hqq", "torchao", "quip", "w4a8", "mlx")
QUANTIZATION_WORDS = frozenset(word for words, _ in _WORDS for word in words) | {*_REFUSED}

BLOCKS = ("qwen3",)
"""Families whose publishers store fp8 in 128 x 128 blocks."""


def told_by(words: list[str], publisher: str) -> Told | None:
    """Return what the words of a name say; None for 16 bits.

    ``publisher`` is the organisation before the name: Qwen's own fp8 checkpoints have blocks from
    Qwen3 on, NVIDIA's are ModelOpt's, Meta's quantize the MLPs between the first and the last.

    Raises:
        ValueError: a format that is not modelled.
    """
    for word in (*words, *publisher.split("-")[:1]):
        if word in _REFUSED:
            raise ValueError(f"{word} weights are not modelled")
    present = set(words)
    for wanted, told in _WORDS:
        if not present.issuperset(wanted):
            continue
        if told.method == "fp8" and publisher == "meta-llama":
            return Told("fbgemm_fp8", FP8_CHANNEL, inner_mlps_only=True)
        if told.method == "fp8" and publisher == "nvidia":
            return Told("modelopt", told.scheme, told.kv_fp8)
        own = publisher in ("", "qwen") and words[0].startswith(BLOCKS)
        return Told("fp8", FP8_BLOCKS) if own and told == Told("fp8", FP8_TENSOR) else told
    return None
