"""Which numbers a row's weights are in: the published checkpoint's, where the words mean them."""

from dataclasses import replace

from model.dealing import experts_among
from model.precision import precision
from model.quantization.checkpoint import UNSAID
from model.sharding import cut_scales
from model.spec import DecoderSpec

PRECISIONS = (
    ("w8a16", ("w8a16",)),  # before int8 and fp8: weights alone
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


def whole_experts(spec: DecoderSpec, tp: int, groups: int, notes: list[str]) -> bool:
    """Tell whether GPUs must hold experts whole: as parts their scales would be cut.

    vLLM refuses to start otherwise (fp8_utils.py, ``validate_fp8_block_shape``).
    """
    stored = replace(precision(), weights=spec.checkpoint.weights)
    gpus = tp * groups
    if gpus == 1 or not spec.num_experts:
        return False
    try:
        parts = experts_among(spec, tp, groups, whole=False)
    except ValueError:
        parts = None
    if parts is not None and not cut_scales(parts, stored, tp):
        return False
    if cut_scales(spec.with_whole_experts(gpus), stored, tp):
        return False
    notes.append(f"enable_expert_parallel: blocks of experts do not divide among {gpus} ranks")
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
