"""Layers of attention that choose what they read, which tables time from hidden state to hidden
state: whose they are, and how they look on a rank with so many heads."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from experiments.calibrating.latent_fit import one_layer
from model.dataclass import dataclass
from model.mixers.block_sparse import BlockSparse
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Mixer
from model.spec import load_spec


@dataclass(frozen=True)
class LayerFamily:
    """Layers of one kind, of the models that the tables have."""

    kind: str
    """Of their kernel."""
    models: Mapping[str, str]
    """The tables' names, and the catalogue's."""
    chosen: int
    """Positions that are attended at most; shorter contexts take as long."""
    of_heads: Callable[[Mixer, int], Mixer]
    """A layer with so many heads."""
    unfused: bool
    """Whether the tables' layers run small kernels one by one, as those of latent attention do."""

    @cached_property
    def _found(self) -> dict[str, Mixer]:
        """The layer of each model, by the tables' names."""
        return {
            published: next(
                kind.mixer
                for kind in load_spec(name).layers
                if kind.mixer.kernel(1).kind == self.kind
            )
            for published, name in self.models.items()
        }

    def layer(self, model: str, heads: int) -> Mixer:
        """Return a model's layer with so many heads on a rank."""
        return self.of_heads(self._found[model], heads)

    def position_bytes(self, kv_numbers: str) -> float:
        """Return what decoding reads of one more earlier position: the key of an index."""
        keys = self.layer(next(iter(self.models)), 1).caches[-1]
        return keys.entry_bytes(one_layer(kv_numbers).precision.kv_bytes, 1)


def _latent(mixer: Mixer, heads: int) -> Mixer:
    assert isinstance(mixer, LatentAttention)
    return replace(mixer, num_heads=heads)


def _blocks(mixer: Mixer, heads: int) -> Mixer:
    assert isinstance(mixer, BlockSparse)
    each = mixer.heads.num_heads // mixer.heads.num_kv_heads
    attention = replace(mixer.heads, num_heads=heads, num_kv_heads=max(1, heads // each))
    return replace(mixer, heads=attention)


SPARSE_LATENT = LayerFamily(
    kind="sparse latent",
    models={"deepseek-ai/DeepSeek-V3.2": "deepseek-v3.2", "zai-org/GLM-5": "glm-5"},
    chosen=2048,
    of_heads=_latent,
    unfused=True,
)
CHOSEN_BLOCKS = LayerFamily(
    kind="block sparse",
    models={"MiniMaxAI/MiniMax-M3": "minimax-m3"},
    chosen=2048,
    of_heads=_blocks,
    unfused=False,
)
