"""``model_type: deepseek_v4``: compressed entries behind a window, streams instead of a residual.

Every layer mixes ``hc_mult`` residual streams by weights that it makes from all of them
(hyper-connections). ``deepseek_ref`` is the name of the published reference's files.
"""

from dataclasses import replace
from typing import ClassVar

from pydantic import AliasChoices, Field, NonNegativeInt, PositiveFloat, model_validator

from model.counts import count_of
from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.llama import LAYER
from model.families.windowed import WindowedKeys, for_kind
from model.lengths import rotary_table_rows
from model.matrices import Matrix, repeated
from model.mixers.compressed import ChosenEntries, CompressedAttention
from model.mixers.mixer import Mixer, Rotary
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.extended import Extended
from model.mlps.mlp import Mlp
from model.once import Once
from model.quantization.modules import names_below
from model.shape import DecoderSpec

SLIDING, CHOSEN, ALL = (
    "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention",
)  # fmt: skip
RATIOS = {0: SLIDING, 4: CHOSEN, 128: ALL}
TOKENS = {kind: ratio for ratio, kind in RATIOS.items()}
_EXPERT = "ffn.experts.{j}"
NAMES = names_below(
    LAYER.removeprefix("model."),
    qkv_a_proj="attn.wq_a attn.wkv",
    q_b_proj="attn.wq_b",
    o_a_proj="attn.wo_a",
    o_b_proj="attn.wo_b",
    compressor="attn.compressor.wkv attn.compressor.wgate",
    index_compressor="attn.indexer.compressor.wkv attn.indexer.compressor.wgate",
    index_q_proj="attn.indexer.wq_b",
    index_weights="attn.indexer.weights_proj",
    mlp_up="ffn.shared_experts.w1 ffn.shared_experts.w3",
    mlp_down="ffn.shared_experts.w2",
    experts=f"{_EXPERT}.w1 {_EXPERT}.w3 {_EXPERT}.w2",
)


class DeepseekV4Keys(WindowedKeys):
    """Which entries a layer attends, from ``compress_ratios`` or ``layer_types``."""

    intermediate_size: PositiveInt = Field(
        validation_alias=AliasChoices("moe_intermediate_size", "intermediate_size")
    )
    head_dim: PositiveInt | None = 512
    num_key_value_heads: PositiveInt | None = 1
    max_position_embeddings: PositiveInt = 1_048_576
    sliding_window: PositiveInt | None = 128
    qk_rope_head_dim: PositiveInt = 64
    q_lora_rank: PositiveInt
    o_lora_rank: PositiveInt
    o_groups: PositiveInt
    index_n_heads: PositiveInt
    index_head_dim: PositiveInt
    index_topk: PositiveInt
    compress_ratios: list[NonNegativeInt] | None = None
    compress_rope_theta: PositiveFloat = 160_000.0
    hc_mult: PositiveInt = 4
    n_routed_experts: ExpertCount
    num_experts_per_tok: PositiveInt
    n_shared_experts: NonNegativeInt = 1

    mixed_parts: ClassVar[int] = 2
    """Of a layer, each with weights of its own for the streams."""

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "DeepseekV4Keys":
        check_experts(self.num_experts_per_tok, self.n_routed_experts)
        ratios, layers = self.compress_ratios, self.num_hidden_layers
        if self.layer_types is None and ratios is not None:
            if len(ratios) < layers:
                raise ValueError(
                    f"compress_ratios has {count_of(len(ratios), 'entry', 'entries')}: expected "
                    f"num_hidden_layers = {layers}, and those of the layers that draft"
                )
            check_layer_types("compress_ratios", ratios[:layers], layers, tuple(RATIOS))
        check_layer_types("layer_types", self.layer_types, layers, tuple(TOKENS))
        heads = self.num_attention_heads * (self.head_dim or 0)
        if heads % self.o_groups:
            raise ValueError(f"o_groups = {self.o_groups}: expected a divisor of {heads}")
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list every second one chooses, from the fourth on."""
        if self.layer_types is not None:
            return self.layer_types
        if self.compress_ratios is not None:
            return [RATIOS[ratio] for ratio in self.compress_ratios[: self.num_hidden_layers]]
        layers = self.num_hidden_layers
        return [CHOSEN if place % 2 and place > 1 else ALL for place in range(layers)]

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """A window, and behind it an entry for every 4 positions (chosen) or every 128 (all)."""
        kind = self.kinds[place]
        own = for_kind(config, "main" if kind == SLIDING else "compress")
        rows = rotary_table_rows(own, self.max_position_embeddings)
        theta = self.theta if kind == SLIDING else self.compress_rope_theta
        chosen = ChosenEntries(
            num_heads=self.index_n_heads, head_dim=self.index_head_dim, topk=self.index_topk
        )
        return CompressedAttention(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            head_dim=self.width_of_head,
            rope_head_dim=self.qk_rope_head_dim,
            q_lora_rank=self.q_lora_rank,
            output_groups=self.o_groups,
            output_rank=self.o_lora_rank,
            window=self.sliding_window or 0,
            every=TOKENS[kind],
            overlap=2 if kind == CHOSEN else 1,
            index=chosen if kind == CHOSEN else None,
            rotary=Rotary(theta, rows, self.qk_rope_head_dim),
        )

    def mlp(self) -> Mlp:
        """Experts, and the matrix that makes the weights of the streams, once for each part."""
        hidden, width = self.hidden_size, self.intermediate_size
        shared = Dense(
            hidden_size=hidden, width=width * self.n_shared_experts, activation=self.hidden_act
        )
        experts = Experts(
            hidden_size=hidden,
            num_experts=self.n_routed_experts,
            per_token=self.num_experts_per_tok,
            width=width,
            activation=self.hidden_act,
            shared=shared if self.n_shared_experts else None,
        )
        streams, parts = self.hc_mult, self.mixed_parts
        weights = (2 + streams) * streams
        mixed = Matrix(
            "hyper_connection",
            (repeated(weights),),
            repeated(streams * hidden),
            quantized=False,
        )
        return Extended(
            mlp=experts,
            more=(mixed,) * parts,
            more_vectors=parts * (weights + 3),
            # Each part reads all streams for its weights and its input, and writes all of them.
            moved_numbers=parts * (3 * streams + 1) * hidden,
        )

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        streams = self.hc_mult
        inputs = repeated(streams * self.hidden_size)
        joined = Matrix("hyper_head", (repeated(streams),), inputs, quantized=False)
        once = Once(matrices=(joined,), vectors=streams + 1)
        return replace(super().decoder(name, architecture, config), once=once)


FAMILIES = {
    "deepseek_v4": Family("DeepseekV4ForCausalLM", DeepseekV4Keys, NAMES),
    "deepseek_ref": Family("DeepseekV4ForCausalLM", DeepseekV4Keys, NAMES),
}
