"""How the engine cuts its KV cache: groups of layers, each with a table of blocks of its own.

A block holds so many tokens of one group's layers, and all groups draw from one pool, so that their
blocks are equally large. Layers that keep everything take one block for every ``block_tokens``
tokens of a request; layers with a window give back the blocks that it has left behind; layers with
a state take one block for a request, whatever its length. As in vLLM's v1/core/kv_cache_utils.py:

- Layers that need equally many tokens in a block are one group, whatever the bytes of each.
- Otherwise pages of layers are made equal: the block of the smaller page holds more tokens where
  that comes out even, else the page is padded; the page of attention grows until it holds a state.
- With drafts a request keeps a state behind each row, so that rejected ones leave no trace.
- Layers that attend chunks give back a chunk's blocks when the next one begins.
- Then every kind of layers is cut into groups of equally many layers: as many as the rarest kind
  has, or the commonest where the two hardly differ; what is missing in the last group is padding.

Before there were groups, and where ``disable_hybrid_kv_cache_manager`` is set, layers with windows
keep everything where others do.
"""

from collections.abc import Iterable
from dataclasses import replace
from math import lcm

from hardware.engines.table import vllm
from hardware.engines.versions import Version, version_key
from hardware.memory.drafts import Drafts
from hardware.memory.kept_states import ONE_STATE, KeptStates
from hardware.memory.kv_compressed import compressed_layout
from hardware.memory.kv_layout import KvGroup, KvLayout
from model.caches import COMPRESSED, INDEX, LATENT, Cache
from model.dataclass import dataclass
from model.errors import UnsupportedLayersError
from model.mixers.recurrent import CONV
from model.precision import Precision
from model.shape import DecoderSpec

KERNEL_TOKENS = 16
"""Tokens that attention kernels want a block to be a multiple of."""
LATENT_TOKENS = 64
"""The same of kernels for latent attention (FlashMLA), and of an index."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Equal layers before they are cut into groups."""

    places: tuple[int, ...]
    """Which layers of the model they are, in order."""
    page_bytes: int
    """Of a block of one layer."""
    group: KvGroup

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.places)


def kv_layout(
    spec: DecoderSpec,
    *,
    precision: Precision,
    tp: int = 1,
    block_size: int = 16,
    version: str = "",
    disable_hybrid_kv_cache_manager: bool = False,
    states: KeptStates = ONE_STATE,
    drafts: Drafts | None = None,
) -> KvLayout:
    """Return how the engine cuts the KV cache of a model.

    Args:
        spec: the model.
        precision: of cache and activations.
        tp: ranks; of a latent each has a copy.
        block_size: tokens of a block, if nothing asks for more.
        version: of vLLM; by default the newest.
        disable_hybrid_kv_cache_manager: layers with a window keep everything.
        states: what is kept of a request where layers have one.
        drafts: whose drafter's layers are cut with the model's.

    Raises:
        UnsupportedLayersError: layers with a state, or entries that several tokens share, without
            groups.
    """
    rules, at = vllm().memory, version_key(version or vllm().newest)
    own, ahead = spec, 0 if drafts is None else drafts.tokens
    if drafts is not None:
        spec = drafts.beside(spec)
    hybrid = _has_groups(spec, at) and not disable_hybrid_kv_cache_manager
    if any(cache.kind == COMPRESSED for cache in spec.caches):
        rule = rules.compressed_blocks.at(at) if hybrid else None
        if rule is None:
            raise _needs_groups(spec)
        return compressed_layout(spec, precision=precision, tp=tp, rule=rule)
    size = _block_tokens(spec, precision, tp, block_size, states.block_multiple, ahead)
    kinds = _kinds(spec, precision, tp, size, states.blocks + ahead, ahead)
    if not hybrid:
        kinds = _all_kept(spec, kinds)
    if not kinds:
        return KvLayout((), 1)
    kept = {(each.group.window, each.group.state, each.group.block_tokens) for each in kinds}
    if len(kept) == 1:
        layers = sum(each.layers for each in kinds)
        bytes_ = sum(each.layers * each.page_bytes for each in kinds)
        return KvLayout((replace(kinds[0].group, layers=layers),), bytes_)
    kinds = _of_one_page(kinds)
    counts = [each.layers for each in kinds]
    layers = min(counts)
    if max(counts) < layers * rules.alike_layers.at(at):
        layers = max(counts)
    groups, places = zip(*(part for each in kinds for part in _cut(each, layers)), strict=True)
    if drafts is not None and drafts.drafter is not None:
        one = replace(own, layers=drafts.drafter.spec.layers)
        theirs = _kinds(one, precision, tp, size, states=1, ahead=0)
        alike = {each.group for each in _with_page(theirs, kinds[0].page_bytes)}
        groups = tuple(replace(each, drafts=replace(each, layers=0) in alike) for each in groups)
    return KvLayout(groups, layers * kinds[0].page_bytes, kinds[0].page_bytes, places)


def _needs_groups(spec: DecoderSpec) -> UnsupportedLayersError:
    return UnsupportedLayersError(
        f"{spec.name}: entries that stand for several tokens need groups of the KV cache, "
        "expected engine.scheduler: chunked_prefill, vLLM 0.20 or later and "
        "engine.disable_hybrid_kv_cache_manager: false"
    )


def _cut(kind: _Kind, layers: int) -> Iterable[tuple[KvGroup, tuple[int, ...]]]:
    """Cut a kind into groups of at most so many layers, which go round; and which they are."""
    groups = -(-kind.layers // layers)
    for place in range(groups):
        own = kind.places[place::groups]
        yield replace(kind.group, layers=len(own)), own


def several_groups(
    spec: DecoderSpec, version: str = "", disable_hybrid_kv_cache_manager: bool = False
) -> bool:
    """Return whether layers do not keep equally much, so that the cache has groups."""
    hybrid = _has_groups(spec, version_key(version or vllm().newest))
    kinds = {cache.window for cache in _entries(spec)}
    if any(cache.states for cache in spec.caches):
        return True
    return len(kinds) > 1 and hybrid and not disable_hybrid_kv_cache_manager


def _has_groups(spec: DecoderSpec, at: Version) -> bool:
    """Whether an engine that nobody tells otherwise cuts the cache of a model into groups."""
    rules = vllm().memory
    chunks = spec.attention_chunk_tokens is not None
    return rules.hybrid_groups.at(at) and (not chunks or rules.chunked_groups.at(at))


def _entries(spec: DecoderSpec) -> dict[Cache, tuple[int, ...]]:
    """Caches with entries for tokens, and which layers have each."""
    found: dict[Cache, tuple[int, ...]] = {}
    for kind in spec.layers:
        for cache in kind.mixer.caches:
            if cache.per_entry.whole and cache.kept:
                found[cache] = found.get(cache, ()) + kind.places
    return found


def state_bytes(
    spec: DecoderSpec, precision: Precision, tp: int, ahead: int
) -> list[tuple[tuple[int, ...], int]]:
    """Layers that keep a state, and its bytes on one rank.

    A convolution keeps the inputs of ``ahead`` drafts, too (``MambaStateShapeCalculator``).
    """
    states = []
    for kind in spec.layers:
        kept = [state for cache in kind.mixer.caches if cache.kept for state in cache.states]
        kept = [
            replace(state, times=state.times + ahead) if state.name == CONV else state
            for state in kept
        ]
        each = sum(state.bytes(precision.activation_bytes, tp) for state in kept)
        if each:
            states.append((kind.places, int(each)))
    return states


def _block_tokens(
    spec: DecoderSpec,
    precision: Precision,
    tp: int,
    block_size: int,
    multiple: int,
    ahead: int,
) -> int:
    """Tokens of a block of attention: as its kernels want them, and so that it holds a state."""
    caches = list(_entries(spec))
    latent = any(cache.kind in (LATENT, INDEX) for cache in caches)
    size = -(-block_size // LATENT_TOKENS) * LATENT_TOKENS if latent else block_size
    states = [bytes_ for _, bytes_ in state_bytes(spec, precision, tp, ahead)]
    if not states or not caches:
        return size
    token_bytes = max(cache.entry_bytes(precision.kv_bytes, tp) for cache in caches)
    least = lcm(max(KERNEL_TOKENS, block_size), multiple)
    return max(block_size, least * _ceil(max(states) / (least * token_bytes)))


def _ceil(number: float) -> int:
    return -int(-number // 1)


def _kinds(
    spec: DecoderSpec, precision: Precision, tp: int, size: int, states: int, ahead: int
) -> list[_Kind]:
    """Kinds of layers by what they keep, equal ones together, in the order of the model."""
    found: dict[tuple[int, KvGroup], tuple[int, ...]] = {}

    def add(places: tuple[int, ...], page_bytes: int, group: KvGroup) -> None:
        """Put layers to those that keep the same; ``places`` are theirs in the model."""
        found[page_bytes, group] = _joined(found.get((page_bytes, group), ()), places)

    for cache, layers in _entries(spec).items():
        page = int(cache.entry_bytes(precision.kv_bytes, tp) * size)
        chunk = spec.attention_chunk_tokens
        chunked = cache.window is not None and cache.window == chunk
        if chunked and chunk is not None and chunk % size:
            raise UnsupportedLayersError(
                f"{spec.name}: attention_chunk_size = {chunk}: expected a multiple of the "
                f"{size} tokens of a block"
            )
        group = KvGroup(layers=0, block_tokens=size, window=cache.window, chunked=chunked)
        add(layers, page, group)
    pages = [page for page, _ in found]
    for layers, bytes_ in state_bytes(spec, precision, tp, ahead):
        page = max([bytes_, *pages])
        add(layers, page, KvGroup(layers=0, block_tokens=size, state=True, states=states))
    return [_Kind(layers, page, group) for (page, group), layers in found.items()]


def _all_kept(spec: DecoderSpec, kinds: list[_Kind]) -> list[_Kind]:
    """Windows keep everything where other layers do.

    Raises:
        UnsupportedLayersError: layers with a state, which need a block of another kind.
    """
    if len({each.group.state for each in kinds}) > 1:
        raise UnsupportedLayersError(
            f"{spec.name}: layers with a state beside attention need groups of the KV cache, "
            "expected engine.scheduler: chunked_prefill, vLLM 0.9.2 or later and "
            "engine.disable_hybrid_kv_cache_manager: false"
        )
    if len({each.group.window for each in kinds}) == 1:
        return kinds
    return [replace(each, group=replace(each.group, window=None, chunked=False)) for each in kinds]


def _of_one_page(kinds: Iterable[_Kind]) -> list[_Kind]:
    """Make pages equal: more tokens in a block where that comes out even, else padding."""
    kinds = list(kinds)
    return _with_page(kinds, max(each.page_bytes for each in kinds))


def _with_page(kinds: Iterable[_Kind], largest: int) -> list[_Kind]:
    """Make pages as large as the largest."""
    equal = []
    for each in kinds:
        times, rest = divmod(largest, each.page_bytes)
        group = each.group
        if not rest and not group.state:
            group = replace(group, block_tokens=group.block_tokens * times)
        equal.append(_Kind(each.places, largest, group))
    merged: dict[KvGroup, tuple[int, ...]] = {}
    for each in equal:
        merged[each.group] = _joined(merged.get(each.group, ()), each.places)
    return [_Kind(places, largest, group) for group, places in merged.items()]


def _joined(places: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    """Layers of two kinds, in the order of the model."""
    return tuple(sorted(places + more))
