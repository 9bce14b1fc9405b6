"""What a checkpoint calls the matrices of a layer, and which of them a list of names means."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from model.errors import ConfigError
from model.quantization.scheme import Scheme
from model.quantization.weights import DENSE, EXPERTS, HEAD, Part

Matches = Callable[[str], bool]
Choice = Callable[[str], Scheme | None]
"""From the name of a matrix, such as ``model.layers.0.mlp.down_proj``, to how it is stored."""

LM_HEAD = "lm_head"
WRAPPERS = ("model.language_model.", "language_model.model.", "language_model.")
"""What stands before the names of a language model inside a model of several kinds of input."""
MOST_MATRICES = 2_000_000
"""Of experts that lists may tell apart; the largest published checkpoint has 250,000."""
EXPERT = re.compile(r"\bexperts\.(\d+)\b")


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the matrices of layer ``i``, by module of ``model.ops``."""

    dense: Mapping[str, tuple[str, ...]]
    experts: str = ""
    """Of all experts of a layer together."""
    expert_matrices: tuple[str, ...] = ()
    """Of one of them, below ``experts.J``."""


def _names(layer: str, **modules: str) -> dict[str, tuple[str, ...]]:
    return {
        module: tuple(f"{layer}.{name}" for name in names.split())
        for module, names in modules.items()
    }


_LAYER = "model.layers.{i}"
_ATTENTION = {"qkv_proj": "self_attn.q_proj self_attn.k_proj self_attn.v_proj"}
_ATTENTION |= {"o_proj": "self_attn.o_proj"}
_MATRICES = ("gate_proj", "up_proj", "down_proj")
_MLP = {"mlp_up": "mlp.gate_proj mlp.up_proj", "mlp_down": "mlp.down_proj"}
_LLAMA = Names(_names(_LAYER, **_ATTENTION, **_MLP))
_QWEN_EXPERTS = f"{_LAYER}.mlp.experts"

NAMES: dict[str, Names] = {
    "phi3": Names(
        _names(
            _LAYER,
            qkv_proj="self_attn.qkv_proj",
            o_proj="self_attn.o_proj",
            mlp_up="mlp.gate_up_proj",
            mlp_down="mlp.down_proj",
        )
    ),
    "gpt2": Names(
        _names(
            "transformer.h.{i}",
            qkv_proj="attn.c_attn",
            o_proj="attn.c_proj",
            mlp_up="mlp.c_fc",
            mlp_down="mlp.c_proj",
        )
    ),
    "opt": Names(
        _names(
            "model.decoder.layers.{i}",
            qkv_proj=_ATTENTION["qkv_proj"],
            o_proj="self_attn.out_proj",
            mlp_up="fc1",
            mlp_down="fc2",
        )
    ),
    "mixtral": Names(
        _names(_LAYER, **_ATTENTION), f"{_LAYER}.block_sparse_moe.experts", ("w1", "w3", "w2")
    ),
    "qwen2_moe": Names(
        _names(
            _LAYER,
            **_ATTENTION,
            mlp_up="mlp.shared_expert.gate_proj mlp.shared_expert.up_proj",
            mlp_down="mlp.shared_expert.down_proj",
        ),
        _QWEN_EXPERTS,
        _MATRICES,
    ),
    "qwen3_moe": Names(_names(_LAYER, **_ATTENTION), _QWEN_EXPERTS, _MATRICES),
    "llama4_text": Names(
        _names(
            _LAYER,
            **_ATTENTION,
            mlp_up="feed_forward.shared_expert.gate_proj feed_forward.shared_expert.up_proj",
            mlp_down="feed_forward.shared_expert.down_proj",
        ),
        f"{_LAYER}.feed_forward.experts",
        _MATRICES,
    ),
}
"""By architecture; all others have Llama's names."""


def layer_parts(
    architecture: str,
    layers: int,
    experts: int,
    choose: Choice,
    *,
    listed: Iterable[str] = (),
) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    """Ask ``choose`` for every matrix of every layer, and count the schemes of each module.

    Matrices that an engine joins to one (query, key and value; gate and up; all experts of a layer)
    must have one scheme. Of the experts the first and the last are asked, and every one that
    ``listed``, the names in the checkpoint's lists, tells apart.

    Raises:
        ConfigError: joined matrices are stored differently, which vLLM refuses as well; or far too
            many are listed.
    """
    names = NAMES.get(architecture, _LLAMA)
    told = {int(found[1]) for name in listed for found in EXPERT.finditer(name)}
    asked = sorted({0, experts - 1, *(n for n in told if n < experts)}) if experts else []
    if layers * len(asked) * len(names.expert_matrices) > MOST_MATRICES:
        raise ConfigError(f"lists tell more than {MOST_MATRICES} matrices of experts apart")
    found: dict[str, list[Scheme | None]] = {}
    for i in range(layers):
        for module in DENSE:
            if module in names.dense:
                matrices = [name.format(i=i) for name in names.dense[module]]
                found.setdefault(module, []).append(_joined(matrices, choose))
        if experts:
            below = names.experts.format(i=i)
            matrices = [f"{below}.{j}.{name}" for j in asked for name in names.expert_matrices]
            found.setdefault(EXPERTS[0], []).append(_joined(matrices, choose))
    head = choose(LM_HEAD)
    counted = [(module, _counted(schemes)) for module, schemes in found.items()]
    return (*counted, *([(HEAD, ((head, None),))] if head is not None else []))


def _joined(matrices: Sequence[str], choose: Choice) -> Scheme | None:
    schemes = {name: choose(name) for name in matrices}
    first = schemes[matrices[0]]
    for name, scheme in schemes.items():
        if scheme != first:
            raise ConfigError(
                f"{matrices[0]} is {first or '16 bits'} but {name} is {scheme or '16 bits'}, "
                "expected the same of both: engines join them to one matrix"
            )
    return first


def _counted(schemes: Sequence[Scheme | None]) -> tuple[Part, ...]:
    if len(set(schemes)) == 1:
        return ((schemes[0], None),)
    return tuple((scheme, schemes.count(scheme)) for scheme in dict.fromkeys(schemes))


def any_of(entries: Iterable[str], *, inside: bool = False) -> Matches:
    """Return a test for names that one of ``entries`` means.

    An entry is a name, the name of what holds it, or a part of it between dots (``self_attn`` and
    ``model.layers.3`` mean all matrices below); a glob with ``*``, of the whole name or of what
    holds it; or, after ``re:``, a regular expression for its beginning. ``inside`` finds plain
    entries anywhere in a name, as vLLM does for AWQ.

    Raises:
        ConfigError: an expression that is none.
    """
    plain: list[str] = []
    whole: set[str] = set()
    patterns: list[str] = []
    for entry in map(_unwrapped, entries):
        if entry.startswith("re:"):
            patterns.append(f"(?:{entry[3:]})")
        elif "*" in entry or "?" in entry:
            patterns += [translate(entry), translate(f"{entry}.*")]
        elif inside:
            plain.append(entry)
        else:
            whole.add(entry)
    expression = _compiled(patterns)

    def matches(name: str) -> bool:
        # vLLM asks this of all experts of a layer at once, not of the matrices of one.
        of_layer = EXPERT.split(name)[0] + "experts" if plain and EXPERT.search(name) else name
        if any(entry in of_layer for entry in plain) or not whole.isdisjoint(_runs(name)):
            return True
        return bool(expression and expression.match(name))

    return matches


def _runs(name: str) -> list[str]:
    """Every run of words between dots: ``a.b`` has a, a.b and b."""
    words = name.split(".")
    count = len(words)
    return [".".join(words[a:b]) for a in range(count) for b in range(a + 1, count + 1)]


def _unwrapped(entry: str) -> str:
    """An entry without the name of a wrapper before it: ``model.`` instead."""
    for wrapper in WRAPPERS:
        if entry.startswith(wrapper):
            rest = entry[len(wrapper) :]
            return rest if rest.startswith((LM_HEAD, "model.")) else f"model.{rest}"
    return entry


def _compiled(patterns: Sequence[str]) -> re.Pattern[str] | None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"{pattern[:80]!r} is no regular expression: {error}") from None
    return re.compile("|".join(patterns)) if patterns else None
