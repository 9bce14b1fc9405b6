"""What families have in common whose layers attend a window, but for every so many of them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import NonNegativeInt, field_validator, model_validator

from model.families.keys import Config, PositiveInt
from model.families.layer_types import check_layer_types
from model.families.llama import LlamaKeys
from model.lengths import longest_request, rotary_share, rotary_table_rows
from model.mixers.attention import Attention
from model.mixers.mixer import Mixer, Rotary
from model.mlps.mlp import Mlp
from model.norm import Norm
from model.shape import DecoderSpec, Embedding, Head, grouped

SLIDING, FULL = "sliding_attention", "full_attention"


class WindowedKeys(LlamaKeys):
    """Layers of two kinds, from ``layer_types`` or from a pattern."""

    usual_pattern: ClassVar[int] = 0
    """Of a file that says nothing: every so many layers one attends everything; 0 for all."""
    local_theta: ClassVar[float | None] = None
    """Base of the rotary frequencies of layers with a window, where they have one of their own."""
    rotated: ClassVar[tuple[str, ...]] = (SLIDING, FULL)
    """Kinds of layers with rotary positions."""
    norms: ClassVar[int] = 2
    wide_qk_norm: ClassVar[bool] = False
    """Norms of queries and keys have a weight for every number of all heads."""
    norm_kind: ClassVar[str] = "rmsnorm"
    norm_vectors: ClassVar[int | None] = None

    sliding_window: PositiveInt | None = 4096
    sliding_window_pattern: NonNegativeInt | None = None
    layer_types: list[str] | None = None

    @field_validator("sliding_window_pattern", mode="before")
    @classmethod
    def _counted(cls, pattern: object) -> object:
        """A word such as ``LLLG`` counts the layers up to the one that attends everything."""
        if isinstance(pattern, str) and pattern.count("G") == 1 and pattern.endswith("G"):
            return len(pattern)
        return pattern

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "WindowedKeys":
        layers = self.num_hidden_layers
        check_layer_types("layer_types", self.layer_types, layers, (SLIDING, FULL))
        if SLIDING in self.kinds and self.sliding_window is None:
            raise ValueError("sliding_window is missing beside layers of sliding_attention")
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer: sliding_attention or full_attention."""
        if self.layer_types is not None:
            return self.layer_types
        pattern = self.sliding_window_pattern
        every = self.usual_pattern if pattern is None else pattern
        if not every or self.sliding_window is None:
            return [FULL] * self.num_hidden_layers
        return [FULL if (i + 1) % every == 0 else SLIDING for i in range(self.num_hidden_layers)]

    def rotates(self, kind: str) -> bool:
        """Whether a kind of layers has rotary positions."""
        return kind in self.rotated

    def rotary_at(self, kind: str, config: Config) -> Rotary | None:
        """Return the rotation of a kind of layers."""
        if not self.rotates(kind):
            return None
        own = for_kind(config, kind)
        nested = own.get("rope_parameters")
        theta = nested.get("rope_theta") if isinstance(nested, Mapping) else None
        if theta is None:
            local = self.local_theta if kind == SLIDING else None
            theta = config.get("rope_local_base_freq") if kind == SLIDING else None
            theta = theta or local or self.theta
        rows = rotary_table_rows(own, self.max_position_embeddings)
        share = rotary_share(own)
        return Rotary(float(str(theta)), rows, int(self.width_of_head * share))

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Return the attention of a layer."""
        kind = self.kinds[place]
        return self.attention(
            rotary=self.rotary_at(kind, config),
            sliding_window=self.sliding_window if kind == SLIDING else None,
        )

    def attention(self, **changes: object) -> Attention:
        """Return the attention of a layer, with what is its own."""
        heads, kv_heads = self.num_attention_heads, self.kv_heads
        width = (heads + kv_heads) * self.width_of_head
        parts: dict[str, Any] = {
            "hidden_size": self.hidden_size,
            "num_heads": heads,
            "num_kv_heads": kv_heads,
            "head_dim": self.width_of_head,
            "qkv_bias": self.has_qkv_bias,
            "output_bias": self.has_output_bias,
            "qk_norm": self.qk_norm,
            "qk_norm_numbers": width if self.qk_norm and self.wide_qk_norm else None,
        }
        return Attention(**parts | changes)

    def mlp_at(self, place: int) -> Mlp:
        """Return the MLP of a layer."""
        return self.mlp()

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """See ``LlamaKeys``."""
        places = range(self.num_hidden_layers)
        return [(self.mixer_at(place, config), self.mlp_at(place)) for place in places]

    def norm(self) -> Norm:
        """Return the norm around the parts of every layer, and behind the last."""
        return Norm(self.norm_kind, self.rms_norm_eps, self.hidden_size, self.norm_vectors)

    def longest(self, config: Config) -> int:
        """Return the longest prompt plus output."""
        return longest_request(config, self.max_position_embeddings)

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        norm = self.norm()
        return DecoderSpec(
            name=name,
            architecture=architecture,
            embedding=Embedding(vocab_size=self.vocab_size, hidden_size=self.hidden_size),
            layers=grouped(self.each_layer(config), norm, self.norms),
            head=Head(norm=norm, tied=self.tie_word_embeddings),
            max_position_embeddings=self.max_position_embeddings,
            max_model_len=self.longest(config),
        )


def for_kind(config: Config, kind: str) -> Config:
    """Return a config with the rotary parameters of one kind of layers, where they differ."""
    nested = config.get("rope_parameters")
    if isinstance(nested, Mapping) and isinstance(nested.get(kind), Mapping):
        return {**config, "rope_parameters": nested[kind]}
    return config
