"""What the words of a published name say of its weights, where there is no checkpoint to read."""

import re
from collections.abc import Sequence
from dataclasses import replace

from model.dataclass import dataclass
from model.quantization.scheme import (
    AWQ,
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_TENSOR,
    GPTQ,
    INT8_CHANNEL,
    INT8_ONLY,
    MXFP4,
    MXFP4_ONLY,
    MXFP8,
    NF4,
    NVFP4,
    NVFP4_ONLY,
    Scheme,
    grouped,
)
from model.quantization.weights import EXPERTS, LAYERS, Part, Weights, uniform


@dataclass(frozen=True, slots=True)
class Told:
    """What a name says."""

    method: str
    """vLLM's name of the method that checkpoints of such names use."""
    scheme: Scheme
    kv_fp8: bool = False
    kept: tuple[str, ...] = ()
    """Matrices of every layer that stay in 16 bits."""
    inner_layers_only: bool = False
    """The first and the last layer stay in 16 bits, too."""
    experts_only: bool = False
    """All but the routed experts stay in 16 bits."""

    def weights(self, layers: int, source: str) -> Weights:
        """Return the storage of a model of so many layers."""
        if self.experts_only:
            return uniform(self.scheme, self.method, source, EXPERTS)
        parts: tuple[Part, ...] = ((self.scheme, None),)
        if self.inner_layers_only:
            parts = ((self.scheme, tuple(range(1, layers - 1))), (None, (0, layers - 1)))
        kept: Part = (None, None)
        of_modules = (*((name, (kept,)) for name in self.kept), (LAYERS[0], parts))
        return Weights(of_modules, self.method, source)


_CT = "compressed-tensors"
_GPTQ8 = grouped(8, 128)
_WORDS: tuple[tuple[tuple[str, ...], Told], ...] = (
    (("awq",), Told("awq", AWQ)),
    (("bnb", "8bit"), Told("bitsandbytes", INT8_ONLY)),
    (("bnb",), Told("bitsandbytes", NF4)),
    (("nf4",), Told("bitsandbytes", NF4)),
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
    (("mxfp8",), Told("modelopt", MXFP8)),
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
SIXTEEN_BITS = ("bf16", "fp16", "f16", "half")
"""Words of checkpoints that are not quantized, though the first published one may be."""
QUANTIZATION_WORDS = frozenset(word for words, _ in _WORDS for word in words) | {*_REFUSED}
DETAILS = frozenset(
    (
        "quantized", "dynamic", "block", "online", "tensor", "channel", "kv", "g128", "128g",
        "smoothquant", "unsloth", *SIXTEEN_BITS,
    )
)  # fmt: skip
"""Words that say of the weights no more than others do."""
_BITS = re.compile(r"w(\d+)a\d+|(\d+)bits?|int(\d+)")
_CHECKPOINT = ", expected a path to the checkpoint's config.json"
_UNTOLD = (
    ((), ("unsloth", "bnb"), "which modules of an unsloth-bnb checkpoint stay in 16 bits"),
    (("cyankiwi", "cpatonn"), ("awq",), "the groups of these AWQ checkpoints"),
)
"""Publishers (none: all), words, and what only the checkpoint says."""

ATTENTION = ("qkv_proj", "o_proj")
LATENT = ("qkv_a_proj", "q_b_proj", "kv_b_proj", "index_q_proj", "index_k_proj")
"""Attention with a latent cache, but for its last projection."""
BLOCKS = {
    "": ("qwen3",),
    "qwen": ("qwen3",),
    "deepseek": ("deepseek",),
    "zai": ("glm-5",),
    "minimaxai": ("minimax",),
    "stepfun": ("step",),
}
"""Publishers, by the first word of their name, and families that they store in fp8 of 128 x 128
blocks."""
NVIDIAS_EXPERTS = (
    "minimax", "kimi-k2.6", "kimi-k2.7", "glm-5.1", "glm-5.2", "qwen3.5", "gpt-oss",
)  # fmt: skip
"""Families of whose layers NVIDIA stores nothing but the routed experts in fp4
(``exclude_modules`` of their hf_quant_config.json)."""
NVIDIAS_ATTENTION = {"deepseek": LATENT, "kimi": (*LATENT, "o_proj"), "glm-5": (*LATENT, "o_proj")}
"""And what stays in 16 bits of others."""
INSTRUCT_IN_FP8 = {"mistralai": "ministral-3-"}
"""Publishers, and families whose instruct checkpoints are fp8 without saying so: bases and
reasoning models are in 16 bits, and so are the copies that are called BF16."""
DELTA_RULE = ("delta_in", "delta_out")
"""Of gated delta nets, which the recipes of llm-compressor leave alone (``re:.*linear_attn.*``)."""


def tells_weights(word: str) -> bool:
    """Tell whether a word of a name is about its weights, and not about its shape."""
    return word in QUANTIZATION_WORDS or word in DETAILS or bool(_BITS.fullmatch(word))


def told_by(words: Sequence[str], publisher: str) -> Told | None:
    """Return what the words of a name say; None for 16 bits.

    ``publisher`` is the organisation before the name, whose habits count (``_as_published``).

    Raises:
        ValueError: a format that is not modelled, or that only the checkpoint tells.
    """
    words = [re.sub(r"^(\d+bit)s$", r"\1", word) for word in words]
    for word in (*words, *publisher.split("-")[:1]):
        if word in _REFUSED:
            raise ValueError(f"{word} weights are not modelled")
    present = set(words)
    told = next((told for wanted, told in _WORDS if present.issuperset(wanted)), None)
    for word in words:
        found = _BITS.fullmatch(word)
        bits = int(found[1] or found[2] or found[3]) if found else None
        if bits is not None and (told is None or told.scheme.bits != bits):
            method = f" of {told.method}" if told else ""
            raise ValueError(f"{word} weights{method} are not modelled by name{_CHECKPOINT}")
    for who, wanted, what in _UNTOLD:
        if present.issuperset(wanted) and publisher in (who or (publisher,)):
            raise ValueError(f"the name does not tell {what}{_CHECKPOINT}")
    own = INSTRUCT_IN_FP8.get(publisher)
    if told is None and own and "instruct" in present and present.isdisjoint(SIXTEEN_BITS):
        return Told("fp8", FP8_TENSOR) if "-".join(words).startswith(own) else None
    return told and _as_published(told, words, publisher)


def _as_published(told: Told, words: Sequence[str], publisher: str) -> Told:
    """Return what a publisher's habits add.

    Those of `BLOCKS` store fp8 in blocks. Meta's quantize the MLPs between the first and the last.
    NVIDIA's are ModelOpt's, and their hf_quant_config.json asks for an fp8 KV cache; in fp4 they
    leave attention alone in the newer families. AMD's MXFP4 is Quark's, with inputs alike.
    Red Hat's of Llama 4 leave attention alone (``ignore`` of their config.json), and what
    llm-compressor makes of Qwen3-Next and its successors the delta rule.
    """
    plain_fp8, name = told == Told("fp8", FP8_TENSOR), "-".join(words)
    if publisher == "meta-llama" and plain_fp8:
        return Told("fbgemm_fp8", FP8_CHANNEL, kept=ATTENTION, inner_layers_only=True)
    if publisher == "nvidia" and told.scheme.compute in ("fp8", "fp4"):
        method = "modelopt" if told.scheme.compute == "fp8" else "modelopt_fp4"
        told = replace(told, method=method, kv_fp8=True)
        if method == "modelopt_fp4":
            kept = (k for begin, k in NVIDIAS_ATTENTION.items() if name.startswith(begin))
            told = replace(
                told,
                experts_only=name.startswith(NVIDIAS_EXPERTS),
                kept=next(kept, ()),
            )
        return told
    if publisher == "amd" and told.scheme == MXFP4_ONLY:
        return Told("quark", MXFP4)
    red_hat = publisher in ("redhatai", "neuralmagic")
    if red_hat and list(words[:2]) == ["llama", "4"]:
        return replace(told, kept=ATTENTION)
    if (red_hat or told.method == _CT) and name.startswith(("qwen3-next", "qwen3.")):
        return replace(told, kept=DELTA_RULE)
    if plain_fp8 and name.startswith(BLOCKS.get(publisher.split("-")[0], ())):
        return Told("fp8", FP8_BLOCKS)
    return told
