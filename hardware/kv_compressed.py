"""How the engine cuts the KV cache of DeepSeek-V4, whose entries stand for several tokens.

Every layer has a window of entries; most have a compressor, which makes one entry of 4 or of 128
tokens and keeps what it has of them in float32, and those of 4 an index with keys and a compressor
of its own. vLLM (0.26 on) has one group for all compressed entries and keys, and groups of as many
layers for windows and for what compressors keep:

- vllm/models/deepseek_v4/attention.py, compressor.py: pages of each, and their alignment;
- vllm/v1/core/kv_cache_utils.py: ``_get_packed_kv_cache_groups`` (0.29 on) packs a block as tight
  as the widest group; before, ``_get_kv_cache_groups_uniform_groups`` gave every group a slot for
  each size of page.
"""

from collections.abc import Sequence
from typing import NamedTuple

from model.caches import COMPRESSED, INDEX
from model.precision import Precision
from model.shape import DecoderSpec

ALIGNMENT_BYTES = 576
"""Pages end on a multiple of this (FlashMLA's packing)."""
BLOCK_TOKENS = 256
"""Of compressed entries and keys."""
WINDOW_TOKENS = 64
"""Of a block of a window."""
FLOAT_BYTES = 4
STATE_TOKENS = {4: (4, 8), 128: (8, 128)}
"""By tokens of an entry: those of a block that its compressor keeps, and how many it looks back:
entries of 4 overlap, so that a token is part of two."""


class Part(NamedTuple):
    """Layers that keep the same, with one table of blocks or several."""

    block_tokens: int
    window: int | None
    pages: tuple[tuple[int, int], ...]
    """(Bytes, layers) of every size of page."""

    @property
    def layers(self) -> int:
        """Of the size that most have."""
        return max(layers for _, layers in self.pages)

    @property
    def balanced(self) -> bool:
        """Whether all sizes have equally many."""
        return len({layers for _, layers in self.pages}) == 1


class Cut(NamedTuple):
    """A part, in how many groups of how many layers each."""

    part: Part
    layers: tuple[int, ...]


def is_compressed(spec: DecoderSpec) -> bool:
    """Return whether entries stand for several tokens."""
    return any(cache.every > 1 for cache in spec.caches)


def compressed_parts(spec: DecoderSpec, precision: Precision, block_size: int) -> list[Part]:
    """Return the parts of a model: compressed entries and keys, windows, what compressors keep.

    Raises:
        ValueError: entries of other numbers of tokens than the kernels know.
    """
    size = max(block_size, BLOCK_TOKENS)
    entries: dict[int, int] = {}
    windows: dict[int, int] = {}
    states: dict[int, dict[int, int]] = {}
    for cache, layers in spec.caches.items():
        numbers, kept = cache.entry_numbers(), cache.entry_bytes(precision.kv_bytes)
        if cache.every == 1:
            assert cache.window is not None
            windows[cache.window] = windows.get(cache.window, 0) + layers
            continue
        if cache.every not in STATE_TOKENS or cache.kind not in (COMPRESSED, INDEX):
            raise ValueError(
                f"{spec.name}: entries of {cache.every} tokens, expected one of "
                f"{', '.join(map(str, STATE_TOKENS))}"
            )
        _add(entries, _aligned(size // cache.every * kept), layers)
        tokens, looked = STATE_TOKENS[cache.every]
        row = 2 * (looked // cache.every) * numbers * FLOAT_BYTES  # of values and of weights
        _add(states.setdefault(cache.every, {}), _aligned(tokens * row), layers)
    window_bytes = max(
        cache.entry_bytes(precision.kv_bytes) for cache in spec.caches if cache.every == 1
    )
    parts = [Part(size, None, tuple(entries.items()))]
    for window, layers in windows.items():
        page = _aligned(WINDOW_TOKENS * window_bytes)
        parts.append(Part(WINDOW_TOKENS, window, ((page, layers),)))
    for every, pages in states.items():
        parts.append(Part(*STATE_TOKENS[every], tuple(pages.items())))
    return parts


def cut(parts: Sequence[Part], packed: bool) -> tuple[list[Cut], int]:
    """Return every part in groups, and the bytes of a block.

    Args:
        parts: the compressed entries first.
        packed: a block is as large as the widest group; else every size of page has a slot for as
            many layers as any group has.
    """
    if packed:
        alike = [part for part in parts if part.balanced]
        least = max((part.layers for part in alike if len(part.pages) > 1), default=1)
    else:
        alike, least = list(parts), parts[0].layers
    layers = approximate_divisor([part.layers for part in alike], least)
    cuts = []
    for part in parts:
        groups = -(-part.layers // layers) if part in alike else 1
        dealt = tuple(len(range(place, part.layers, groups)) for place in range(groups))
        cuts.append(Cut(part, dealt))
    if packed:
        return cuts, max(
            sum(bytes_ * -(-layers // len(each.layers)) for bytes_, layers in each.part.pages)
            for each in cuts
        )
    slots = max(count for each in cuts for count in each.layers)
    return cuts, slots * sum(bytes_ for bytes_, _ in parts[0].pages)


def approximate_divisor(counts: Sequence[int], least: int) -> int:
    """Return the number of layers of a group that pads counts least; the larger of equals."""
    sizes = range(least, max(*counts, least) + 1)
    return min(sizes, key=lambda size: (sum(-count % size for count in counts), -size))


def _add(found: dict[int, int], bytes_: int, layers: int) -> None:
    found[bytes_] = found.get(bytes_, 0) + layers


def _aligned(bytes_: float) -> int:
    return -int(-bytes_ // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
