"""What a checkpoint calls the matrices of a layer, and which of them a list of names means."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Protocol

from model.errors import ConfigError
from model.matrices import Matrix
from model.quantization.scheme import Scheme
from model.quantization.weights import HEAD, Part

Matches = Callable[[str], bool]
Choice = Callable[[str], Scheme | None]
"""From the name of a matrix, such as ``model.layers.0.mlp.down_proj``, to how it is stored."""

LM_HEAD = "lm_head"
WRAPPERS = (
    "model.language_model.", "language_model.model.", "language_model.",
    "thinker.model.", "thinker.",
)  # fmt: skip
"""What stands before the names of a language model inside a model of several kinds of input."""
MOST_MATRICES = 2_000_000
"""Of experts that lists may tell apart; the largest published checkpoint has 250,000."""
EXPERT = re.compile(r"\bexperts\.(\d+)\b")


class Kind(Protocol):
    """Equal layers, see ``model.shape.Layers``."""

    @property
    def places(self) -> tuple[int, ...]:
        """In the model, from 0."""
        ...

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Of one of them."""
        ...


Names = Mapping[str, tuple[str, ...]]
"""What a checkpoint calls the matrices that an engine joins to one, by the name of that one: with
``{i}`` for the number of the layer and, of experts, ``{j}`` for that of the expert. Where dense
layers stand between those with experts, the name of a shared expert's matrix has ``BESIDE`` before
it."""

BESIDE = "shared_"


def names_below(layer: str, **modules: str) -> Names:
    """Return names below a layer's, of each module separated by blanks."""
    return {
        module: tuple(f"{layer}.{name}" for name in names.split())
        for module, names in modules.items()
    }


def layer_parts(
    names: Names, layers: Sequence[Kind], choose: Choice, *, listed: Iterable[str] = ()
) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    """Ask ``choose`` for every matrix of every layer, and tell which layers have which scheme.

    Matrices that an engine joins to one (query, key and value; gate and up; all experts of a layer)
    must have one scheme. Of the experts the first and the last are asked, and every one that
    ``listed``, the names in the checkpoint's lists, tells apart.

    Raises:
        ConfigError: joined matrices are stored differently, which vLLM refuses as well; or far too
            many are listed.
    """
    told = {int(found[1]) for name in listed for found in EXPERT.finditer(name)}
    found: dict[str, dict[Scheme | None, list[int]]] = {}
    for kind in layers:
        routed = any(each.copies > 1 for each in kind.matrices)
        for matrix in dict.fromkeys(each.name for each in kind.matrices if each.quantized):
            copies = max(each.copies for each in kind.matrices if each.name == matrix)
            asked = sorted({0, copies - 1, *(j for j in told if j < copies)})
            called = (routed and names.get(f"{BESIDE}{matrix}")) or names[matrix]
            if len(kind.places) * len(asked) * len(called) > MOST_MATRICES:
                raise ConfigError(f"lists tell more than {MOST_MATRICES} matrices apart")
            schemes = found.setdefault(matrix, {})
            for i in kind.places:
                one = [name.format(i=i, j=j) for j in asked for name in called]
                schemes.setdefault(_joined(dict.fromkeys(one), choose), []).append(i)
    counted = [
        (module, tuple((scheme, tuple(places)) for scheme, places in schemes.items()))
        for module, schemes in found.items()
    ]
    head = choose(LM_HEAD)
    return (*counted, *([(HEAD, ((head, None),))] if head is not None else []))


def _joined(matrices: Iterable[str], choose: Choice) -> Scheme | None:
    schemes = {name: choose(name) for name in matrices}
    named, first = next(iter(schemes.items()))
    for name, scheme in schemes.items():
        if scheme != first:
            raise ConfigError(
                f"{named} is {first or '16 bits'} but {name} is {scheme or '16 bits'}, "
                "expected the same of both: engines join them to one matrix"
            )
    return first


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
        """Tell whether an entry means a module, by its full name."""
        # vLLM asks this of all experts of a layer at once, not of the matrices of one.
        of_layer = EXPERT.split(name)[0] + "experts" if plain and EXPERT.search(name) else name
        if any(entry in of_layer for entry in plain) or not whole.isdisjoint(_runs(name)):
            return True
        return expression is not None and any(map(expression.match, _wrapped(name)))

    return matches


def _wrapped(name: str) -> tuple[str, ...]:
    """What a matrix is called, alone and inside each wrapper: expressions are of whole names."""
    rest = name.removeprefix("model.")
    return (name, *(wrapper + rest for wrapper in WRAPPERS))


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
