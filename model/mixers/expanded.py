"""Latent attention that an engine runs as attention of heads: keys and values of all are kept.

vLLM does so with MiniCPM3 (vllm/model_executor/models/minicpm3.py, read in 0.32): keys and values
are made from the latent at once, values filled up to the width of keys, and cached like those of
any other attention: 27 times as many numbers as the latent has.
"""

from dataclasses import replace
from functools import cached_property

from model.attended import Attended
from model.caches import Cache
from model.dataclass import dataclass
from model.matrices import Matrix
from model.mixers.attention import Attention
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Kernel, Rotary
from model.operators import F, Operator
from model.share import Share


@dataclass(frozen=True)
class ExpandedLatent:
    """The projections of ``latent``, and attention of as many KV heads as there are heads."""

    latent: LatentAttention

    @cached_property
    def _heads(self) -> Attention:
        latent = self.latent
        return Attention(
            hidden_size=latent.hidden_size,
            num_heads=latent.num_heads,
            num_kv_heads=latent.num_heads,
            head_dim=latent.query_dim,
        )

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of the latent; none is kept a second time in 16 bits."""
        return tuple(replace(one, unpacked=False) for one in self.latent.matrices)

    @property
    def vector_numbers(self) -> int:
        """See ``Mixer``."""
        return self.latent.vector_numbers

    @property
    def caches(self) -> tuple[Cache, ...]:
        """Keys of every head, and as wide values: ``2 heads (nope + rope)`` numbers a position."""
        return self._heads.caches

    @property
    def rotary(self) -> Rotary | None:
        """See ``Mixer``."""
        return self.latent.rotary

    @property
    def told(self) -> str:
        """See ``Mixer``."""
        return self._heads.told

    def kernel(self, tp: int) -> Kernel:
        """See ``Mixer``."""
        return self._heads.kernel(tp)

    def operators(self, rows: F, share: Share) -> list[Operator]:
        """See ``Mixer``: the projections around the attention."""
        return self.latent.operators(rows, share)

    def attention(
        self, attended: Attended, share: Share, *, fused: bool, decode: bool
    ) -> list[Operator]:
        """See ``Attention.attention``, with heads as wide as keys."""
        return self._heads.attention(attended, share, fused=fused, decode=decode)
