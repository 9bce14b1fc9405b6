"""Which model of the catalogue a published name means, and what the name says of its weights.

Repositories on huggingface.co put the organisation in front and behind the model's name its
variant (chat, instruct), file format (hf), release date, version and quantization. None of them but
the version changes a shape, so they are left off one kind after the other until the catalogue has
the name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

QUANTIZATIONS = {
    "fp8": ("fp8", "f8", "float8"),
    "fp4": ("fp4", "nvfp4", "mxfp4", "w4a4"),
    "int8": ("int8", "w8a8", "8bit"),
    "int4": ("int4", "awq", "gptq", "w4a16", "4bit", "bnb", "marlin", "squeezellm"),
}
"""Quantization of weights, and the words of names that tell it."""

VARIANTS = frozenset(
    (
        "hf", "instruct", "chat", "it", "base", "pt", "sft", "dpo", "turbo", "meta", "text",
        "preview", "dynamic", "quantized", "block", "bf16", "fp16", "f16", "half", "g128", "128g",
        "autoround", "sparse", "smoothquant", "online", "tensor", "channel", "kv", "python",
        "coder", "math",
    )
)  # fmt: skip
"""Words that change neither shape nor precision."""

ALIASES = {
    "mistral-7b-v0.1": "mistral-7b",
    "mistral-nemo": "mistral-nemo-12b",
    "mistral-nemo-minitron": "mistral-nemo-12b",
    "mistral-small-3": "mistral-small-24b",
    "mistral-small-3.1-24b": "mistral-small-24b",
    "mistral-small-3.2-24b": "mistral-small-24b",
    "mistral-large": "mistral-large-123b",
    "codestral-22b-v0.1": "codestral-22b",
    "llama-4-scout": "llama-4-scout-17b-16e",
    "llama-3.1-nemotron-70b": "llama-3.1-70b",
    "llama-guard-3-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
    "deepseek-r1-distill-qwen-1.5b": "qwen2.5-1.5b",
    "deepseek-r1-distill-qwen-7b": "qwen2.5-7b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "deepseek-7b": "deepseek-llm-7b",
    "deepseek-67b": "deepseek-llm-67b",
    "qwq-32b": "qwen2.5-32b",
    "qwen2-0.5b": "qwen2.5-0.5b",
    "qwen2-1.5b": "qwen2.5-1.5b",
    "qwen2-7b": "qwen2.5-7b",
    "qwen2-72b": "qwen2.5-72b",
    "yi-34b-200k": "yi-34b",
    "yi-6b-200k": "yi-6b",
    "qwen2.5-7b-1m": "qwen2.5-7b",
    "qwen2.5-14b-1m": "qwen2.5-14b",
    "yi-1.5-6b": "yi-6b",
    "yi-1.5-34b": "yi-34b",
    "vicuna-7b": "llama-2-7b",
    "vicuna-13b": "llama-2-13b",
    "phi-3-mini-4k": "phi-3-mini",
    "phi-3.5-mini": "phi-3-mini-128k",
    "phi-3-medium-4k": "phi-3-medium",
    "mixtral-8x7b-v0.1": "mixtral-8x7b",
    "mixtral-8x22b-v0.1": "mixtral-8x22b",
    "open-mixtral-8x22b": "mixtral-8x22b",
}
"""Other names of the same shape."""

_DATE = re.compile(r"\d{4}|\d{6}|\d{8}")
_VERSION = re.compile(r"v\d+(\.\d+)*")
_JOINED = re.compile(r"^(codellama|llama|mixtral|mistral|qwen|phi|yi)[-.]?(\d+(?:\.\d+)?)(?=-|$)")


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a published name stands for."""

    model: str
    """Name in the catalogue."""
    quantization: str | None
    """Of the weights, as far as the name tells: fp8, fp4, int8, int4; None for 16 bits."""


def resolve_name(name: str, catalogue: Sequence[str]) -> ModelName | None:
    """Return the model of ``catalogue`` that ``name`` means; None when it is none of them."""
    words = _words(name)
    quantization = next((found for word in words if (found := _quantization(word))), None)
    for candidate in _candidates(words):
        candidate = ALIASES.get(candidate, candidate)
        if candidate in catalogue:
            return ModelName(candidate, quantization)
    return None


def plain_name(name: str) -> str:
    """Return a name without organisation, variant and quantization, for comparisons."""
    return list(_candidates(_words(name)))[-1]


def _words(name: str) -> list[str]:
    """``"meta-llama/Llama-3.1-70B(-Instruct)"`` to ``["llama", "3.1", "70b"]``."""
    text = re.sub(r"\(.*?\)", "", name.strip().rstrip("/").lower()).rsplit("/", 1)[-1]
    return [word for word in re.split(r"[-_\s:@]+|(?<=[a-z])\.", text) if word]


def _candidates(words: list[str]) -> Iterator[str]:
    """The name with ever less: as it is, without variants, dates, versions."""
    yield _joined(words)
    words = [word for word in words if word not in VARIANTS and not _quantization(word)]
    words = [word for word in words if not re.fullmatch(r"w\d+a\d+|\d+bits?", word)]
    yield _joined(words)
    words = words[:1] + [word for word in words[1:] if not _DATE.fullmatch(word)]
    yield _joined(words)
    words = words[:1] + [word for word in words[1:] if not _VERSION.fullmatch(word)]
    yield _joined(words)


def _joined(words: list[str]) -> str:
    """Join words as the catalogue does: ``llama-2``, but ``qwen3``."""
    text = "-".join(words)
    text = re.sub(r"^code-llama", "codellama", text)
    found = _JOINED.match(text)
    if not found:
        return text
    between = "" if found[1] == "qwen" else "-"
    return f"{found[1]}{between}{found[2]}{text[found.end() :]}"


def _quantization(word: str) -> str | None:
    return next((name for name, words in QUANTIZATIONS.items() if word in words), None)
