"""The torch decoder's KV cache: one preallocated tensor, a fixed slot per sequence."""

import torch
from torch import Tensor

from model.alike import attention_of
from model.spec import DecoderSpec


class KVCache:
    """Keys and values of ``slots`` sequences of at most ``slot_tokens`` tokens each.

    One layer's keys (and values) are ``[kv_heads, slots * slot_tokens, head_dim]``, so that a
    sequence, and a run of neighbouring slots, is a view, and all tokens of a step are written by
    one ``index_copy_``::

        head 0 | slot 0: t0 t1 t2 .. | slot 1: t0 t1 .. | ..      row = slot * slot_tokens + t
        head 1 | slot 0: t0 t1 t2 .. | slot 1: t0 t1 .. | ..

    It starts as zeros: a masked position must hold a finite number, for 0 * NaN is NaN.
    The cache does not know how full a slot is; whoever schedules the sequences does.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        slots: int,
        slot_tokens: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Reserve ``2 * num_layers * kv_heads * slots * slot_tokens * head_dim`` numbers.

        Raises ValueError when ``slots`` or ``slot_tokens`` is not positive.
        """
        if slots < 1 or slot_tokens < 1:
            raise ValueError(f"slots(={slots}) and slot_tokens(={slot_tokens}) must be >= 1")
        self.slots = slots
        self.slot_tokens = slot_tokens
        attention = attention_of(spec)
        rows, width = slots * slot_tokens, attention.head_dim
        shape = (spec.num_layers, 2, attention.num_kv_heads, rows, width)
        self.storage = torch.zeros(shape, device=device, dtype=dtype)
        self.layers: list[tuple[Tensor, Tensor]] = [
            (layer[0], layer[1]) for layer in self.storage.unbind(0)
        ]

    @property
    def size_bytes(self) -> int:
        """Memory that the cache holds, in bytes."""
        return self.storage.numel() * self.storage.element_size()

    def check_slot(self, slot: int, end_tokens: int) -> None:
        """Raise ValueError unless ``slot`` exists and holds ``end_tokens`` tokens."""
        if not 0 <= slot < self.slots:
            raise ValueError(f"slot(={slot}) must be in 0..{self.slots - 1}")
        if end_tokens > self.slot_tokens:
            raise ValueError(
                f"slot {slot} would hold {end_tokens} tokens; slot_tokens(={self.slot_tokens}) "
                "is the most"
            )

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first ``tokens`` tokens of slot ``source`` to slot ``target``, all layers.

        Keeps slots compact when a sequence leaves. Raises ValueError for an unknown slot.
        """
        self.check_slot(source, tokens)
        self.check_slot(target, tokens)
        if source == target:
            return
        start, goal = source * self.slot_tokens, target * self.slot_tokens
        self.storage[..., goal : goal + tokens, :] = self.storage[..., start : start + tokens, :]
