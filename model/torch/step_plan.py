"""Where every token of one step goes: positions, cache rows, and who attends what.

All of it is worked out from plain integers on the host and sent to the device in one copy, so that
no layer of the decoder has to wait for the device.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.alike import attention_of
from model.dataclass import dataclass
from model.spec import DecoderSpec

GROUP_PADDING_BYTES = 256 * 1024
"""Decoding sequences of different lengths share one attention call while the KV bytes read in vain
stay below this for each call saved: about what an attention call costs on a CPU (13 us, with
20 GB/s of memory bandwidth)."""

ALONE = -1
"""Padding allowance that keeps every sequence in a group of its own."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive prompt tokens of one sequence."""

    row: int
    """First row of the flattened step."""
    tokens: int
    past_tokens: int
    first_key: int
    """Position of the first key that any of its tokens attends (0 without a sliding window)."""
    cache_row: int
    """Row of the slot's position 0."""
    mask: Tensor | None
    """Added to scores, [tokens, past + tokens - first_key]; None if causality needs no mask."""


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Decoding sequences in neighbouring slots that attend in one call."""

    row: int
    """First row of the flattened step; one row per sequence, in the order of slots."""
    sequences: int
    first_key: int
    end_key: int
    """Keys at positions first_key..end_key-1 are read of every sequence."""
    cache_row: int
    """Row of position 0 of the first slot."""
    slot_tokens: int
    """Rows from one slot to the next."""
    mask: Tensor | None
    """Added to scores, [sequences, 1, 1, end_key - first_key]; None if lengths are equal."""


@dataclass(frozen=True, slots=True)
class Varlen:
    """Bounds that a variable-length attention kernel reads, int32 on the device."""

    row: int
    rows: int
    query_starts: Tensor
    """[sequences + 1], relative to ``row``."""
    key_starts: Tensor
    """[sequences + 1] rows of the key source; the last entry is not used."""
    key_lengths: Tensor
    """[sequences]"""
    max_queries: int
    max_keys: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step, flattened: the rows of all chunks, then one row per decoding sequence."""

    positions: Tensor
    """[rows]"""
    cache_rows: Tensor
    """[rows], ``slot * slot_tokens + position``."""
    sampled_rows: Tensor
    """[chunks + decodes] rows whose logits are wanted, in the caller's order."""
    decode_order: Tensor | None
    """How decoding sequences are permuted to be in the order of slots; None if they are."""
    chunks: tuple[Chunk, ...]
    groups: tuple[DecodeGroup, ...]
    varlen: tuple[Varlen, ...]
    """Chunks and decodes as the variable-length kernel takes them; empty for other kernels."""


ChunkSpan = tuple[int, int, int]
"""(slot, tokens, past tokens)"""


def plan_step(
    spec: DecoderSpec,
    chunks: Sequence[ChunkSpan],
    decode_slots: Sequence[int],
    decode_pasts: Sequence[int],
    *,
    slot_tokens: int,
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
) -> StepPlan:
    """Lay out one step.

    Args:
        spec: the decoder's shape.
        chunks: slot, tokens and past tokens of each prefill chunk.
        decode_slots, decode_pasts: slot and cached tokens of each decoding sequence.
        slot_tokens: rows of the cache per slot.
        kernel: "sdpa" (lengths may be padded), "standard" (one sequence at a time) or "varlen".
        device, dtype: of the decoder.
    """
    order = None if kernel == "varlen" else _slot_order(decode_slots)
    if order is not None:
        decode_slots = [decode_slots[i] for i in order]
        decode_pasts = [decode_pasts[i] for i in order]
    chunk_rows = sum(tokens for _, tokens, _ in chunks)
    columns = _columns(chunks, decode_slots, decode_pasts, order, slot_tokens)
    positions, cache_rows, sampled_rows, decode_order = _to_device(columns, device)
    if kernel == "varlen":
        groups: tuple[DecodeGroup, ...] = ()
        varlen = _varlen(chunks, decode_slots, decode_pasts, slot_tokens, device)
    else:
        padding = ALONE if kernel == "standard" else _padding_tokens(spec, dtype)
        groups = _decode_groups(
            decode_slots,
            decode_pasts,
            window=spec.sliding_window,
            padding_tokens=padding,
            row=chunk_rows,
            slot_tokens=slot_tokens,
            device=device,
            dtype=dtype,
        )
        varlen = ()
    return StepPlan(
        positions=positions,
        cache_rows=cache_rows,
        sampled_rows=sampled_rows,
        decode_order=None if order is None else decode_order,
        chunks=_chunks(spec, chunks, slot_tokens, kernel, device, dtype),
        groups=groups,
        varlen=varlen,
    )


def _slot_order(slots: Sequence[int]) -> list[int] | None:
    """Indices that sort ``slots``; None when they are sorted already."""
    if all(left < right for left, right in pairwise(slots)):
        return None
    return sorted(range(len(slots)), key=slots.__getitem__)


def _columns(
    chunks: Sequence[ChunkSpan],
    decode_slots: Sequence[int],
    decode_pasts: Sequence[int],
    order: Sequence[int] | None,
    slot_tokens: int,
) -> list[npt.NDArray[np.int64]]:
    """Positions and cache rows of all rows, sampled rows, and ``order`` (empty for None)."""
    lengths = np.array([tokens for _, tokens, _ in chunks], np.int64)
    chunk_starts = np.array([slot * slot_tokens for slot, _, _ in chunks], np.int64)
    decode_starts = np.array(decode_slots, np.int64) * slot_tokens
    pasts = np.array(decode_pasts, np.int64)
    permutation = np.array(order or [], np.int64)
    positions = np.concatenate([*(np.arange(p, p + t) for _, t, p in chunks), pasts])
    slot_rows = np.concatenate([np.repeat(chunk_starts, lengths), decode_starts])
    # Decoding sequence i sits where the permutation put it.
    ranks = np.arange(len(pasts)) if order is None else np.argsort(permutation)
    sampled_rows = np.concatenate([np.cumsum(lengths) - 1, lengths.sum() + ranks])
    return [positions, slot_rows + positions, sampled_rows, permutation]


def _to_device(arrays: Sequence[npt.NDArray[np.int64]], device: torch.device) -> tuple[Tensor, ...]:
    """Send integer columns to ``device`` in one copy that the host does not wait for."""
    packed = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        packed = packed.pin_memory().to(device, non_blocking=True)
    else:
        packed = packed.to(device)
    return tuple(torch.split(packed, [len(array) for array in arrays]))


def _padding_tokens(spec: DecoderSpec, dtype: torch.dtype) -> int:
    """KV positions of one layer that may be read in vain for each attention call saved."""
    return GROUP_PADDING_BYTES // (2 * attention_of(spec).kv_size * dtype.itemsize)


def _chunks(
    spec: DecoderSpec,
    chunks: Sequence[ChunkSpan],
    slot_tokens: int,
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Chunk, ...]:
    """Prefill chunks with their masks."""
    if kernel == "varlen":
        return ()
    planned = []
    row = 0
    window = spec.sliding_window
    for slot, tokens, past in chunks:
        first = 0 if window is None else max(0, past - window + 1)
        triangle = past == 0 and (window is None or tokens <= window)
        mask = None
        if tokens > 1 and (kernel == "standard" or not triangle):
            mask = _causal_mask(tokens, past, first, window, device, dtype)
        planned.append(Chunk(row, tokens, past, first, slot * slot_tokens, mask))
        row += tokens
    return tuple(planned)


def _causal_mask(
    tokens: int,
    past: int,
    first: int,
    window: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Zero where query ``past + i`` may attend key ``first + j``, minus infinity elsewhere."""
    queries = torch.arange(past, past + tokens, device=device)[:, None]
    keys = torch.arange(first, past + tokens, device=device)
    hidden = keys > queries
    if window is not None:
        hidden |= keys <= queries - window
    mask = torch.zeros(hidden.shape, device=device, dtype=dtype)
    return mask.masked_fill_(hidden, float("-inf"))


def _decode_groups(
    slots: Sequence[int],
    pasts: Sequence[int],
    *,
    window: int | None,
    padding_tokens: int,
    row: int,
    slot_tokens: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[DecodeGroup, ...]:
    """Decoding sequences, in the order of slots, in groups that attend in one call each."""
    ends = [past + 1 for past in pasts]
    firsts = [0 if window is None else max(0, end - window) for end in ends]
    groups = []
    for start, stop in _cut(slots, firsts, ends, padding_tokens):
        low, high = min(firsts[start:stop]), max(ends[start:stop])
        mask = None
        if low != max(firsts[start:stop]) or high != min(ends[start:stop]):
            mask = _length_mask(firsts[start:stop], ends[start:stop], device, dtype)
        cache_row = slots[start] * slot_tokens
        groups.append(
            DecodeGroup(row + start, stop - start, low, high, cache_row, slot_tokens, mask)
        )
    return tuple(groups)


def _cut(
    slots: Sequence[int], firsts: Sequence[int], ends: Sequence[int], padding_tokens: int
) -> list[tuple[int, int]]:
    """Index ranges of the groups, greedily from the first slot.

    A group grows while its slots are neighbours and it reads at most ``padding_tokens`` KV
    positions in vain for every call that it saves.
    """
    ranges: list[tuple[int, int]] = []
    low = high = useful = 0
    for index, (slot, first, end) in enumerate(zip(slots, firsts, ends, strict=True)):
        if ranges and slot == slots[index - 1] + 1:
            start = ranges[-1][0]
            size = index + 1 - start
            new_low, new_high, new_useful = min(low, first), max(high, end), useful + end - first
            if size * (new_high - new_low) - new_useful <= padding_tokens * (size - 1):
                low, high, useful = new_low, new_high, new_useful
                ranges[-1] = (start, index + 1)
                continue
        low, high, useful = first, end, end - first
        ranges.append((index, index + 1))
    return ranges


def _length_mask(
    firsts: Sequence[int], ends: Sequence[int], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Zero where sequence i attends (firsts[i] <= key < ends[i]), minus infinity elsewhere."""
    bounds = [np.asarray(firsts, np.int64), np.asarray(ends, np.int64)]
    lower, upper = (column[:, None] for column in _to_device(bounds, device))
    keys = torch.arange(min(firsts), max(ends), device=device)
    hidden = (keys < lower) | (keys >= upper)
    mask = torch.zeros(hidden.shape, device=device, dtype=dtype)
    return mask.masked_fill_(hidden, float("-inf"))[:, None, None]


def _varlen(
    chunks: Sequence[ChunkSpan],
    decode_slots: Sequence[int],
    decode_pasts: Sequence[int],
    slot_tokens: int,
    device: torch.device,
) -> tuple[Varlen, ...]:
    """Chunks in one kernel call, decodes in another.

    Apart, because kernels split the keys of long contexts over the GPU only where every sequence
    has a single query.
    """
    decodes = [(slot, 1, past) for slot, past in zip(decode_slots, decode_pasts, strict=True)]
    calls = []
    row = 0
    for spans in (chunks, decodes):
        if not spans:
            continue
        slots, tokens, pasts = (np.asarray(column, np.int64) for column in zip(*spans, strict=True))
        key_starts = np.append(slots * slot_tokens, 0)
        query_starts, key_starts_, lengths = _to_device(
            [np.concatenate([[0], np.cumsum(tokens)]), key_starts, pasts + tokens], device
        )
        rows = int(tokens.sum())
        calls.append(
            Varlen(
                row=row,
                rows=rows,
                query_starts=query_starts.int(),
                key_starts=key_starts_.int(),
                key_lengths=lengths.int(),
                max_queries=int(tokens.max()),
                max_keys=int((pasts + tokens).max()),
            )
        )
        row += rows
    return tuple(calls)
