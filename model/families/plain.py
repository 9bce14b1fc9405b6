"""Reads every family that a ``Row`` describes: plain attention, with dense MLPs or experts."""

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_every_layer
from model.families.llama import LlamaKeys
from model.families.row import Row
from model.lengths import (
    DEFAULT_ROTARY_SHARE,
    longest_request,
    rotary_share,
    rotary_table_rows,
)
from model.mixers.attention import Attention
from model.mixers.mixer import Mixer, Rotary
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.norm import Norm
from model.shape import DecoderSpec, Embedding, Head, grouped

FULL, SLIDING = "full_attention", "sliding_attention"


class PlainKeys(LlamaKeys):
    """Llama's keys and those that others have besides; a row renames them and says what is usual.

    Lists have one entry per layer.
    """

    row: ClassVar[Row]

    qkv_bias: bool | None = None
    """None: as ``attention_bias``."""
    output_bias: bool | None = None
    """None: as ``attention_bias``."""
    logit_bias: bool = False
    use_qk_norm: bool = True
    """Where the row has such norms at all."""
    norms: PositiveInt | None = None
    """None: as the row says."""
    alibi: bool = False
    partial_rotary_factor: PositiveFloat | None = None
    rotary_dim: PositiveInt | None = None
    """Numbers of a head that are rotated; before ``partial_rotary_factor``."""
    no_rope_layers: list[int] | None = None
    """0 where a layer rotates nothing."""
    sliding_window: NonNegativeInt | None = None
    layer_types: list[str] | None = None
    num_experts: ExpertCount | None = None
    """None: every MLP is dense."""
    num_experts_per_tok: PositiveInt = 1
    moe_intermediate_size: PositiveInt | None = None
    """None: as ``intermediate_size``."""
    shared_width: NonNegativeInt = 0
    """Of the experts that every token takes, together."""
    shared_gate: bool = False
    router_bias: bool = False
    router_float32: bool = False
    first_k_dense_replace: NonNegativeInt = 0
    """Layers before the first with experts."""
    moe_layers: list[bool] | None = None
    """Which layers have experts; None: all behind the first dense ones."""

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, file: Any) -> Any:
        row = cls.row
        other = {ours for ours, theirs in row.keys.items() if ours not in row.keys.values()}
        given = row.prepare({key: value for key, value in file.items() if key not in other})
        for ours, theirs in row.keys.items():
            if given.get(theirs) is not None:
                given[ours] = given[theirs]
        for key, value in row.usual.items():
            given.setdefault(key, value)
        given = {key: value for key, value in given.items() if value is not None}
        if not row.experts:
            given.pop("num_experts", None)
        return {**given, **row.fixed}

    @model_validator(mode="after")
    def _every_layer_is_told(self) -> "PlainKeys":
        layers = self.num_hidden_layers
        for key in ("no_rope_layers", "layer_types", "moe_layers"):
            check_every_layer(self.told(key), getattr(self, key), layers)
        unknown = sorted({*(self.layer_types or ())} - {FULL, SLIDING})
        if unknown:
            raise ValueError(f"layer_types has {unknown[0]!r}: expected {FULL} or {SLIDING}")
        if self.num_experts is not None:
            check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    @classmethod
    def told(cls, key: str) -> str:
        """Return the name that the row's files have for a key."""
        return cls.row.keys.get(key, key)

    @property
    def has_qkv_bias(self) -> bool:
        """``qkv_bias``, or where it is missing ``attention_bias``."""
        return self.attention_bias if self.qkv_bias is None else self.qkv_bias

    @property
    def has_output_bias(self) -> bool:
        """``output_bias``, or where it is missing ``attention_bias``."""
        return self.attention_bias if self.output_bias is None else self.output_bias

    @property
    def window(self) -> int | None:
        """``sliding_window``, of which 0 means none."""
        return self.sliding_window or None

    def norm_of(self, size: int) -> Norm:
        """Return the family's norm over so many numbers."""
        return Norm(self.row.norm, self.rms_norm_eps, size, self.row.norm_vectors)

    def _qk_norm_numbers(self) -> int | None:
        wide = (self.num_attention_heads + self.kv_heads) * self.width_of_head
        return {"width": wide, "biased head": 4 * self.width_of_head}.get(self.row.qk_norm or "")

    def mixer(self, config: Config) -> Attention:
        """Return the attention of a layer that rotates, if any does."""
        head = self.width_of_head
        share = rotary_share(config, self.partial_rotary_factor or DEFAULT_ROTARY_SHARE)
        rows = rotary_table_rows(config, self.max_position_embeddings)
        rotary = Rotary(self.theta, rows, self.rotary_dim or int(head * share))
        has_norm = self.row.qk_norm is not None and self.use_qk_norm
        return Attention(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            num_kv_heads=self.kv_heads,
            head_dim=head,
            sliding_window=self.window,
            rotary=rotary if self.row.rotary and not self.alibi else None,
            qkv_bias=self.has_qkv_bias,
            output_bias=self.has_output_bias,
            qk_norm=has_norm,
            qk_norm_numbers=self._qk_norm_numbers() if has_norm else None,
            gate=head if self.row.gate else 0,
            gate_bias=False,
        )

    def dense(self, width: int | None = None) -> Dense:
        """Return an MLP that every token goes through."""
        return Dense(
            hidden_size=self.hidden_size,
            width=width or self.intermediate_size,
            gated=self.row.gated,
            activation=self.hidden_act,
            bias=self.mlp_bias,
        )

    def mlp(self) -> Mlp:
        """Return the MLP of the last layers."""
        if self.num_experts is None:
            return self.dense()
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size or self.intermediate_size,
            activation=self.hidden_act,
            shared=self.dense(self.shared_width) if self.shared_width else None,
            shared_gate=self.shared_gate,
            router_bias=self.router_bias,
            router_float32=self.router_float32,
        )

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every layer, by the lists of those that differ."""
        layers, mixer, mlp = self.num_hidden_layers, self.mixer(config), self.mlp()
        sparse = self.moe_layers or [place >= self.first_k_dense_replace for place in range(layers)]
        turned = self.no_rope_layers or [1] * layers
        kinds = self.layer_types or [SLIDING] * layers
        return [
            (
                replace(
                    mixer,
                    rotary=mixer.rotary if turned[place] else None,
                    sliding_window=mixer.sliding_window if kinds[place] == SLIDING else None,
                ),
                mlp if sparse[place] else self.dense(),
            )
            for place in range(layers)
        ]

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        config = {key: value for key, value in config.items() if key not in self.row.not_read}
        row, hidden, positions = self.row, self.hidden_size, self.max_position_embeddings
        norm, learned = self.norm_of(hidden), row.position_rows
        embedding = Embedding(
            vocab_size=self.vocab_size,
            hidden_size=hidden,
            position_rows=0 if learned is None else positions + learned,
            norm_behind=norm if row.embedding_norm else None,
        )
        return DecoderSpec(
            name=name,
            architecture=architecture,
            embedding=embedding,
            layers=grouped(self.each_layer(config), norm, self.norms or row.norms),
            head=Head(norm=norm, tied=self.tie_word_embeddings, logit_bias=self.logit_bias),
            max_position_embeddings=positions,
            max_model_len=longest_request(config, positions),
        )


def family(row: Row) -> Family:
    """Return the family that a row describes."""
    keys = type(f"{row.class_name}Keys", (PlainKeys,), {"row": row, "__module__": __name__})
    return Family(row.class_name, keys, row.names, row.also)
