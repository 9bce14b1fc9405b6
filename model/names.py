"""Which model of the catalogue a published name means, and what the name says of its weights.

Repositories on huggingface.co put the organisation in front and behind the model's name its
variant (chat, instruct), file format (hf), release date and quantization. Where none of them
changes the shape they are left off one kind after the other until the catalogue or
``model.aliases`` has the name. A word that is not known is never left off.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import combinations, pairwise

from model.aliases import ALIASES, Alias
from model.dataclass import dataclass
from model.quantization.words import SIXTEEN_BITS, Told, tells_weights, told_by

VARIANTS = frozenset(
    (
        "hf", "instruct", "chat", "it", "base", "pt", "sft", "dpo", "turbo", "meta", "thinking",
        "python", "reasoning",
    )
)  # fmt: skip
"""Words that change neither shape nor precision."""

PUBLISHERS = frozenset(("meta", "nvidia", "c4ai"))
"""Words that some publishers set before their models' names."""
_EDITION = re.compile(r"v\d|preview")
_DATE = re.compile(r"\d{4}|\d{6}|\d{8}")
_SIZE = re.compile(r"\d+(x\d+)?(\.\d+)?[bm]")
_WHOLE, _PART = re.compile(r"(?:^|\D)\d{1,2}$"), re.compile(r"\d{1,2}[bm]?$")
"""Numbers before a point, and behind it."""
_JOINED = re.compile(r"^(codellama|llama|mixtral|mistral|qwen|phi|yi)[-.]?(\d+(?:\.\d+)?)(?=-|$)")
_PATH = re.compile(r"^(/|\./|\.\./|~|[a-zA-Z]:\\)|\\|\.(json|gguf|safetensors|bin|ya?ml)$", re.I)


@dataclass(frozen=True, slots=True)
class ModelName:
    """What a published name stands for."""

    model: str
    """Name in the catalogue."""
    told: Told | None = None
    """What it says of the weights; None for 16 bits."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Keys of the config that differ from the catalogue's."""
    sixteen_bits: bool = False
    """It says that nothing is quantized, whatever the catalogue's model is."""

    @property
    def quantization(self) -> str | None:
        """Numbers of the weights: fp8, fp4, int8, int4; None for 16 bits."""
        if self.told is None:
            return None
        numbers = self.told.scheme.numbers
        return "int4" if numbers == "nf4" else numbers


def looks_like_path(text: str) -> bool:
    """Tell whether a text means a file or folder: published names are ``name`` or ``org/name``."""
    return bool(_PATH.search(text)) or text.endswith("/") or text.count("/") > 1


def resolve_name(name: str, catalogue: Sequence[str]) -> ModelName | None:
    """Return the model of ``catalogue`` that ``name`` means; None when it is none of them.

    Raises:
        ValueError: the name says a quantization that is not modelled.
    """
    for words in _with_points(_words(name)):
        for candidate in _candidates(words):
            alias = ALIASES.get(candidate, Alias(candidate))
            if alias.model in catalogue:
                publisher = name.strip().lower().rpartition("/")[0].rpartition("/")[2]
                told = told_by(words, publisher)
                plain = told is None and not {*words}.isdisjoint(SIXTEEN_BITS)
                return ModelName(alias.model, told, alias.changes, plain)
    return None


def plain_name(name: str) -> str:
    """Return a name without organisation, variant and quantization, for comparisons."""
    return list(_candidates(_words(name)))[-1]


def _words(name: str) -> list[str]:
    """``"meta-llama/Llama-3.1-70B(-Instruct)"`` to ``["llama", "3.1", "70b"]``."""
    text = re.sub(r"\(.*?\)", "", name.strip().rstrip("/").lower()).rsplit("/", 1)[-1]
    return [word for word in re.split(r"[-_\s:@]+|(?<=[a-z])\.", text) if word]


def _with_points(words: list[str]) -> Iterator[list[str]]:
    """The words as they are, then with ever more numbers joined by a point.

    Names of files and services have none: ``mixtral-8x7b-instruct-v0-1``, ``llama_3_1_70b``.
    """
    numbers = [_WHOLE.search(left) and _PART.match(right) for left, right in pairwise(words)]
    gaps = [at for at, both in enumerate(numbers) if both]
    for count in range(len(gaps) + 1):
        for joined in combinations(gaps, count):
            text = "".join(word + ("." if at in joined else " ") for at, word in enumerate(words))
            yield text.split()


def _candidates(words: list[str]) -> Iterator[str]:
    """The name with ever less: as it is, without quantization, variants, dates.

    A date goes only beside a size: it is all that tells mistral-large-2407 from mistral-large-2512.
    """
    yield _joined(words)
    words = [word for at, word in enumerate(words) if not _about_weights(words, at)]
    yield _joined(words)
    yield _joined([word for word in words if word not in PUBLISHERS])
    words = [word for word in words if word not in PUBLISHERS]
    words = [word for word in words if word not in VARIANTS]
    yield _joined(words)
    if any(_SIZE.fullmatch(word) for word in words):
        words = words[:1] + [word for word in words[1:] if not _DATE.fullmatch(word)]
        yield _joined(words)


def _about_weights(words: list[str], at: int) -> bool:
    """A word of the weights' numbers, or the edition of such a checkpoint: ``FP4-v2``."""
    behind = at > 0 and tells_weights(words[at - 1])
    return tells_weights(words[at]) or (behind and bool(_EDITION.fullmatch(words[at])))


def _joined(words: list[str]) -> str:
    """Join words as the catalogue does: ``llama-2``, but ``qwen3``."""
    text = "-".join(words)
    text = re.sub(r"^code-llama", "codellama", text)
    found = _JOINED.match(text)
    if not found:
        return text
    between = "" if found[1] == "qwen" else "-"
    return f"{found[1]}{between}{found[2]}{text[found.end() :]}"
