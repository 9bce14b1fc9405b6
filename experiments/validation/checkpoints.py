"""Which numbers a row's weights are in: the published checkpoint's, where the words mean them."""

from dataclasses import replace

from model.precision import precision
from model.quantization.checkpoint import UNSAID
from model.sharding import cut_scales
from model.spec import DecoderSpec

PRECISIONS = (
    ("fp4", ("fp4",)),
    ("int4", ("int4", "awq", "gptq", "w4a16", "4bit", "4-bit")),
    ("fp8", ("fp8", "float8", "e4m3")),  # before int8: w8a8 is said of both
    ("int8", ("int8", "w8a8", "8bit", "8-bit")),
)
"""Quantizations, and the words that mean them."""


def quantization_of(words: str) -> str | None:
    """Return the quantization that a row's words mean; None for 16 or 32 bits."""
    text = words.lower()
    return next((name for name, known in PRECISIONS if any(word in text for word in known)), None)


def whole_experts(spec: DecoderSpec, tp: int, notes: list[str]) -> bool:
    """Tell whether the ranks of a group must hold experts whole: parts would cut their scales.

    vLLM refuses to start otherwise (fp8_utils.py, ``validate_fp8_block_shape``).
    """
    stored = replace(precision(), weights=spec.checkpoint.weights)
    if tp == 1 or not spec.num_experts or not cut_scales(spec, stored, tp):
        return False
    if cut_scales(spec.with_whole_experts(tp), stored, tp):
        return False
    notes.append(f"enable_expert_parallel: blocks of experts do not divide among {tp} ranks")
    return True


def as_served(spec: DecoderSpec, words: str, notes: list[str]) -> DecoderSpec:
    """Return a model whose checkpoint is the published one if the words say its numbers.

    Else it says nothing, and the words decide.

    Args:
        spec: of the catalogue, and of what its name says.
        words: of the row's precision, or of the model's name.
        notes: what was assumed, appended to.
    """
    quantization, weights = quantization_of(words), spec.checkpoint.weights
    if quantization not in {scheme.numbers for scheme in weights.schemes()}:
        return replace(spec, checkpoint=UNSAID)
    notes.append(f"weights: those of the published checkpoint ({weights})")
    return replace(spec, checkpoint=replace(spec.checkpoint, kv_fp8=False))
