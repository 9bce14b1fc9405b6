"""Groups of DeepSeek-V4: entries that stand for several tokens, and windows beside them.

As vLLM cuts them (v1/core/kv_cache_utils.py). A block is 256 tokens of all compressed entries and
keys of the index: a page for each layer and kind. What is kept within a window has groups of its
own: positions, 64 tokens a block; and what compressors have seen and not compressed yet, in
float32, as many tokens as a page holds. Kinds of more layers than the compressed entries have are
cut, so that all are filled up by the least.

How large a block is, has changed. To 0.22 it had a slot of every size of page for as many layers as
any group has (``slots``); from 0.23 as many of each size as a group needs at most (``sizes``,
``_bucket_layers_by_page_size``); from 0.27 it is the widest group (``widest``,
``_get_packed_kv_cache_layout``).
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from hardware.memory.kv_layout import KvGroup, KvLayout
from model.caches import INDEX, Cache
from model.precision import Precision
from model.shape import DecoderSpec

BLOCK_TOKENS = 256
WINDOW_TOKENS = 64
"""Positions of a page within a window: as many entries as a page of a fourth of 256 tokens."""
PAGE_MULTIPLE = 576
"""Bytes that a page is filled up to a multiple of (FlashMLA)."""
STATE_BYTES = 4
"""Of a number that a compressor keeps."""

Pages = Counter[int]
"""Layers of a group, by the bytes of a page."""


Sizes = Literal["slots", "sizes", "widest"]


def compressed_layout(spec: DecoderSpec, *, precision: Precision, tp: int, rule: Sizes) -> KvLayout:
    """Return the groups of a model with compressed entries.

    Args:
        spec: the model.
        precision: of cache and activations.
        tp: ranks; each has a copy of all.
        rule: how large a block is.
    """
    kept: Pages = Counter()
    windows: dict[tuple[int, int], Pages] = {}
    caches = spec.caches.items()
    for cache, layers in caches:
        page = _filled(_entries(cache) * cache.entry_bytes(precision.kv_bytes, tp))
        if cache.window is None:
            kept[page] += layers
        else:
            windows.setdefault((WINDOW_TOKENS, cache.window), Counter())[page] += layers
    for cache, layers in caches:
        if cache.window is None:
            tokens = _state_tokens(cache, max(kept), spec.caches)
            page = _filled(tokens * _state_bytes(cache))
            pages = windows.setdefault((tokens, cache.every * cache.overlap), Counter())
            pages[min((size for size in kept if size >= page), default=page)] += layers
    layers = _least_filled(max(kept.values()), [max(each.values()) for each in windows.values()])
    parts = [kept]
    groups = [KvGroup(layers=sum(kept.values()), block_tokens=BLOCK_TOKENS)]
    for (tokens, window), pages in windows.items():
        for part in _cut(pages, layers):
            parts.append(part)
            groups.append(KvGroup(layers=sum(part.values()), block_tokens=tokens, window=window))
    return KvLayout(tuple(groups), _block_bytes(parts, rule))


def _block_bytes(parts: list[Pages], rule: Sizes) -> int:
    """Bytes of a block that any of the groups can use."""
    if rule == "widest":
        return max(sum(page * count for page, count in part.items()) for part in parts)
    if rule == "slots":
        return max(max(part.values()) for part in parts) * sum(parts[0])
    most = {page: max(part[page] for part in parts) for page in parts[0]}
    return sum(page * count for page, count in most.items())


def _entries(cache: Cache) -> int:
    """Entries of a page."""
    return (BLOCK_TOKENS if cache.window is None else WINDOW_TOKENS) // cache.every


def _filled(bytes_: float) -> int:
    return -(-int(bytes_) // PAGE_MULTIPLE) * PAGE_MULTIPLE


def _state_bytes(cache: Cache) -> int:
    """Bytes of a token in a compressor's state: numbers, and a score of each."""
    return 2 * cache.overlap * cache.per_entry.whole * STATE_BYTES


def _state_tokens(cache: Cache, page_bytes: int, caches: Iterable[Cache]) -> int:
    """Tokens of a compressor's state in a block, a power of two; an index has its layer's."""
    alike = (each for each in caches if (each.every, each.window) == (cache.every, None))
    widest = max(alike, key=lambda each: each.kind != INDEX)
    return int(1 << max(0, (page_bytes // _state_bytes(widest)).bit_length() - 1))


def _least_filled(least: int, counts: list[int]) -> int:
    """Return the layers of a group, at least so many, that fill all up by the fewest in all."""
    counts = [least, *counts]
    sizes = range(least, max(counts) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))


def _cut(pages: Pages, layers: int) -> Iterable[Pages]:
    """Cut a kind into groups of at most so many layers a page, which go round."""
    groups = -(-max(pages.values()) // layers)
    for place in range(groups):
        yield Counter({page: len(range(place, n, groups)) for page, n in pages.items()})
