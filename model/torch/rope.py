"""Rotary position embedding: frequencies, their scaling, and the rotation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from model.errors import one_of

ROPE_TYPES = ("default", "linear", "llama3")
"""Kinds of frequency scaling that the decoder computes."""


def inverse_frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, object] | None = None
) -> Tensor:
    """Angle per position of each of the ``head_dim / 2`` pairs: theta^(-2i/head_dim), float64.

    Source: RoFormer (arXiv 2104.09864), section 3.2.2. ``scaling`` is a config.json's
    ``rope_scaling`` (or ``rope_parameters``) mapping. "linear" divides every frequency by
    ``factor`` (position interpolation, arXiv 2306.15595). "llama3" does so for wavelengths above
    original_max_position_embeddings / low_freq_factor, leaves those below
    original_max_position_embeddings / high_freq_factor, and blends in between (Llama 3.1, as in
    Meta's llama-models ``apply_scaling``). Raises ValueError for any other kind, for an odd
    ``head_dim``, and for a missing or non-numeric setting.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim(={head_dim}) must be even for rotary positions")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    frequencies = theta**-exponents
    kind = _rope_type(scaling)
    if scaling is None or kind == "default":
        return frequencies
    factor = _number(scaling, "factor")
    if kind == "linear":
        return frequencies / factor
    low = _number(scaling, "low_freq_factor")
    high = _number(scaling, "high_freq_factor")
    original_tokens = _number(scaling, "original_max_position_embeddings")
    turns = original_tokens * frequencies / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (keep + (1 - keep) / factor)


def rotation(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine ``[tokens, 1, head_dim / 2]`` of integer ``positions`` ``[tokens]``.

    Angles are computed in the precision of ``frequencies``, then rounded to ``dtype``.
    """
    angles = (positions.to(frequencies.dtype)[:, None] * frequencies)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate ``[tokens, heads, head_dim]``; pair i is (i, i + head_dim/2), as Hugging Face has it.

    RoFormer's equation 34 pairs neighbours (2i, 2i + 1) instead: the same up to a permutation of
    the projection's rows, which Hugging Face's weights already hold.
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _rope_type(scaling: Mapping[str, object] | None) -> str:
    """The kind of ``scaling``, checked against ``ROPE_TYPES``; older files say ``type``."""
    if scaling is None:
        return "default"
    kind = str(scaling.get("rope_type", scaling.get("type", "default")))
    if kind not in ROPE_TYPES:
        raise ValueError(
            f"rope_type(={kind!r}) is not computed by the decoder, {one_of(kind, ROPE_TYPES)}"
        )
    return kind


def _number(scaling: Mapping[str, object], key: str) -> float:
    """Setting ``key`` of ``scaling`` as a positive float."""
    value = scaling.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError(f"rope scaling's {key}(={value!r}) must be a number > 0")
    return float(value)
