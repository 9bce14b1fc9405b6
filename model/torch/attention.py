"""Attention of one layer over one flattened step, by three kernels.

- "sdpa": torch's scaled_dot_product_attention, one call per chunk and per group of decodes. Keys
  and values are views of the cache, shared by the query heads of a group without being repeated.
- "varlen": the variable-length FlashAttention kernel in torch, one call for all chunks and one for
  all decodes, whatever their slots and lengths. CUDA, half precision.
- "standard": explicit matrix products over the full rectangle of queries and keys, one sequence at
  a time. Its FLOPs can be counted, on the meta device as well.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from model.alike import attention_of
from model.spec import DecoderSpec
from model.torch.step_plan import Chunk, DecodeGroup, StepPlan, Varlen

Kernel = Literal["sdpa", "varlen", "standard"]

VARLEN_MAX_HEAD_DIM = 256
"""FlashAttention's widest head; it also wants multiples of 8 (arXiv 2307.08691, its code)."""


def choose_kernel(spec: DecoderSpec, device: torch.device, dtype: torch.dtype) -> Kernel:
    """The kernel that an engine would use on ``device``; "standard" where nothing is computed."""
    if device.type == "meta":
        return "standard"
    half = dtype in (torch.float16, torch.bfloat16)
    head_dim = attention_of(spec).head_dim
    fits = head_dim % 8 == 0 and head_dim <= VARLEN_MAX_HEAD_DIM
    return "varlen" if device.type == "cuda" and half and fits else "sdpa"


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: StepPlan,
    *,
    kernel: Kernel,
    window: int | None,
    cache: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Store the step's keys and values, then attend: softmax(Q K^T / sqrt(head_dim)) V.

    Source: arXiv 1706.03762, equation 1; grouped heads as in arXiv 2305.13245. A token attends
    itself and what came before it, at most ``window`` positions.

    Args:
        query: [rows, heads, head_dim]; query head h shares the keys of KV head
            h // (heads / kv_heads).
        key, value: [rows, kv_heads, head_dim].
        plan: the step; without ``cache`` it may hold chunks without past only.
        kernel: see the module.
        window: sliding window in positions, or None.
        cache: the layer's keys and values, [kv_heads, cache rows, head_dim] each.

    Returns:
        [rows, heads * head_dim]
    """
    if cache is not None:
        cache[0].index_copy_(1, plan.cache_rows, key.transpose(0, 1))
        cache[1].index_copy_(1, plan.cache_rows, value.transpose(0, 1))
    pieces = []
    for call in plan.varlen:
        rows = slice(call.row, call.row + call.rows)
        pieces.append(_varlen(query[rows], key, value, call, window, cache))
    for chunk in plan.chunks:
        rows = slice(chunk.row, chunk.row + chunk.tokens)
        if cache is None or chunk.past_tokens == 0:
            keys, values = key[rows].transpose(0, 1), value[rows].transpose(0, 1)
        else:
            start = chunk.cache_row + chunk.first_key
            stop = chunk.cache_row + chunk.past_tokens + chunk.tokens
            keys, values = cache[0][:, start:stop], cache[1][:, start:stop]
        pieces.append(_chunk(query[rows], keys, values, chunk, kernel))
    for group in plan.groups:
        if cache is None:
            raise ValueError("decoding needs a KV cache")
        rows = slice(group.row, group.row + group.sequences)
        pieces.append(_decodes(query[rows], *cache, group, kernel))
    output = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return output.flatten(1)


def _chunk(query: Tensor, keys: Tensor, values: Tensor, chunk: Chunk, kernel: Kernel) -> Tensor:
    """Attention of one chunk: [tokens, heads, head_dim] over [kv_heads, keys, head_dim]."""
    kv_heads = keys.shape[0]
    grouped = query.view(chunk.tokens, kv_heads, -1, query.shape[2]).permute(1, 2, 0, 3)
    if kernel == "standard":
        mixed = _standard(grouped, keys, values, chunk.mask)
    else:
        shape = (kv_heads, grouped.shape[1], *keys.shape[1:])
        mixed = F.scaled_dot_product_attention(
            grouped,
            keys[:, None].expand(shape),
            values[:, None].expand(shape),
            attn_mask=chunk.mask,
            is_causal=chunk.mask is None and chunk.tokens > 1,
        )
    return mixed.permute(2, 0, 1, 3).flatten(1, 2)


def _decodes(
    query: Tensor, keys: Tensor, values: Tensor, group: DecodeGroup, kernel: Kernel
) -> Tensor:
    """Attention of a group of decodes: [sequences, heads, head_dim] over the cache.

    The query heads that share a KV head stand in for queries of one head, so that nothing is
    repeated and each key is read once.
    """
    kv_heads, head_dim = keys.shape[0], keys.shape[2]
    grouped = query.view(group.sequences, kv_heads, -1, head_dim)
    if kernel == "standard":
        rows = slice(group.cache_row + group.first_key, group.cache_row + group.end_key)
        mixed = _standard(grouped[0, :, :, None], keys[:, rows], values[:, rows], None)
        return mixed.reshape(1, -1, head_dim)
    mixed = F.scaled_dot_product_attention(
        grouped, _of_group(keys, group), _of_group(values, group), attn_mask=group.mask
    )
    return mixed.flatten(1, 2)


def _of_group(cached: Tensor, group: DecodeGroup) -> Tensor:
    """View [sequences, kv_heads, keys, head_dim] of the group's neighbouring slots."""
    strides = cached.stride()
    return cached.as_strided(
        (group.sequences, cached.shape[0], group.end_key - group.first_key, cached.shape[2]),
        (group.slot_tokens * strides[1], *strides),
        cached.storage_offset() + (group.cache_row + group.first_key) * strides[1],
    )


def _standard(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Scores, softmax (float32 at least) and mixing of [kv_heads, group, tokens, head_dim]."""
    kv_heads, group, tokens, head_dim = query.shape
    flat = query.reshape(kv_heads, group * tokens, head_dim)
    scores = torch.bmm(flat, keys.transpose(1, 2)) * head_dim**-0.5
    scores = scores.view(kv_heads, group, tokens, -1)
    if mask is not None:
        scores = scores + mask
    accurate = torch.promote_types(query.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=accurate).to(query.dtype)
    mixed = torch.bmm(weights.flatten(1, 2), values)
    return mixed.view(kv_heads, group, tokens, head_dim)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    call: Varlen,
    window: int | None,
    cache: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """FlashAttention over sequences of different lengths, aligned to their last keys."""
    keys, values, key_starts = key, value, call.query_starts
    if cache is not None:
        keys, values, key_starts = (
            cache[0].transpose(0, 1),
            cache[1].transpose(0, 1),
            call.key_starts,
        )
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        keys,
        values,
        call.query_starts,
        key_starts,
        call.max_queries,
        call.max_keys,
        0.0,
        True,
        False,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
        seqused_k=call.key_lengths,
    )[0]
    return output
