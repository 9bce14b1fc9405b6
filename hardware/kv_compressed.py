"""Groups of DeepSeek-V4: entries that stand for several tokens, and windows beside them.

As vLLM packs them (v1/core/kv_cache_utils.py, ``_get_kv_cache_config_packed``). A block is 256
tokens of all compressed entries and keys of the index: a page for each layer and kind. Pages of
equal size are slots, and a block has as many of a size as that takes. What is kept within a window
uses the same slots: positions, 64 tokens a block, in as many groups as slots ask for; and what a
compressor has seen and not compressed yet, in float32, as many tokens as a page holds.
"""

from hardware.kv_layout import KvGroup, KvLayout
from model.caches import INDEX, Cache
from model.precision import Precision
from model.shape import DecoderSpec

BLOCK_TOKENS = 256
WINDOW_TOKENS = 64
"""Positions of a page within a window: as many entries as a page of a fourth of 256 tokens."""
ENTRY_MULTIPLE = 576
"""Bytes that a page of entries is filled up to a multiple of (FlashMLA)."""
ALIKE = 1.5
"""Groups of up to so many times as many layers are not cut: they get slots of their own."""
STATE_BYTES = 4
"""Of a number that a compressor keeps."""


def compressed_layout(spec: DecoderSpec, *, precision: Precision, tp: int) -> KvLayout:
    """Return the groups of a model with compressed entries.

    Args:
        spec: the model.
        precision: of cache and activations.
        tp: ranks; each has a copy of all.
    """
    entries = {cache: n for cache, n in spec.caches.items() if cache.window is None}
    windows = {cache: n for cache, n in spec.caches.items() if cache.window is not None}
    pages = {cache: _page(cache, precision, tp) for cache in (*entries, *windows)}
    slots: dict[int, int] = {}
    for cache, layers in entries.items():
        slots[pages[cache]] = slots.get(pages[cache], 0) + layers
    for cache, layers in windows.items():
        slots.setdefault(pages[cache], layers)
    # Those of an index's compressor have the blocks of its layer's.
    states = {cache: layers for cache, layers in entries.items() if cache.kind != INDEX}
    largest = max(pages.values())
    for layers in states.values():
        if slots[largest] < layers < ALIKE * slots[largest]:
            slots[largest] = layers
    compressed = sum(states.values())
    groups = [KvGroup(layers=compressed, block_tokens=BLOCK_TOKENS)] if compressed else []
    for cache, layers in windows.items():
        groups += _cut(layers, slots[pages[cache]], WINDOW_TOKENS, cache.window or 0)
    for cache, layers in states.items():
        kept = _state_tokens(cache, largest)
        groups += _cut(layers, slots[largest], kept, cache.every * cache.overlap)
    return KvLayout(tuple(groups), sum(page * count for page, count in slots.items()))


def _page(cache: Cache, precision: Precision, tp: int) -> int:
    """Bytes of a block of one layer."""
    tokens = WINDOW_TOKENS if cache.window is not None else BLOCK_TOKENS
    bytes_ = int(tokens // cache.every * cache.entry_bytes(precision.kv_bytes, tp))
    if cache.kind == INDEX:
        return bytes_
    return -(-bytes_ // ENTRY_MULTIPLE) * ENTRY_MULTIPLE


def _state_tokens(cache: Cache, page_bytes: int) -> int:
    """Tokens of a compressor's state in a page, a power of two: numbers and their scores."""
    token_bytes = 2 * cache.overlap * cache.per_entry.whole * STATE_BYTES
    return int(1 << max(0, (page_bytes // token_bytes).bit_length() - 1))


def _cut(layers: int, slots: int, block_tokens: int, window: int) -> list[KvGroup]:
    """Cut layers into groups of at most so many, as even as they come."""
    count = -(-layers // slots)
    return [
        KvGroup(layers=len(range(place, layers, count)), block_tokens=block_tokens, window=window)
        for place in range(count)
    ]
