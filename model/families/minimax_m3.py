"""``model_type: minimax_m3``: blocks of positions that an index chooses, in most layers."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field, NonNegativeInt, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import MLP_TYPES, check_layer_types
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import FULL, WindowedKeys
from model.mixers.block_sparse import BlockSparse
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

SPARSE = "minimax_m3_sparse"
NESTED = {
    "index_n_heads": "sparse_num_index_heads",
    "index_head_dim": "sparse_index_dim",
    "index_block_size": "sparse_block_size",
    "index_topk_blocks": "sparse_topk_blocks",
}
"""Keys of ``sparse_attention_config``, by the names that they have at the top of newer files."""
_EXPERT, _SHARED = "block_sparse_moe.experts.{j}", "block_sparse_moe.shared_experts"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    index_proj="self_attn.index_q_proj self_attn.index_k_proj",
    mlp_up="mlp.gate_proj mlp.up_proj",
    mlp_down="mlp.down_proj",
    shared_mlp_up=f"{_SHARED}.gate_proj {_SHARED}.up_proj",
    shared_mlp_down=f"{_SHARED}.down_proj",
    experts=f"{_EXPERT}.w1 {_EXPERT}.w3 {_EXPERT}.w2",
)


class MiniMaxM3Keys(WindowedKeys):
    """Lists of 0 and 1 say which layers choose blocks, and which have experts."""

    qk_norm: ClassVar[bool] = True
    default_theta: ClassVar[float] = 5_000_000.0

    sliding_window: PositiveInt | None = None
    dense_intermediate_size: PositiveInt
    shared_intermediate_size: PositiveInt
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_local_experts", "num_experts")
    )
    num_experts_per_tok: PositiveInt
    n_shared_experts: NonNegativeInt = 1
    mlp_layer_types: list[str] | None = None
    index_n_heads: PositiveInt = 4
    index_head_dim: PositiveInt = 128
    index_block_size: PositiveInt = 128
    index_topk_blocks: PositiveInt = 16

    @model_validator(mode="before")
    @classmethod
    def _lists_of_words(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = dict(given)
        nested = own.get("sparse_attention_config")
        if isinstance(nested, dict):
            own |= {name: nested[key] for name, key in NESTED.items() if key in nested}
            chosen = nested.get("sparse_attention_freq")
            if own.get("layer_types") is None and isinstance(chosen, list):
                own["layer_types"] = [SPARSE if one else FULL for one in chosen]
        routed = own.get("moe_layer_freq")
        if own.get("mlp_layer_types") is None and isinstance(routed, list):
            own["mlp_layer_types"] = ["sparse" if one else "dense" for one in routed]
        return own

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "MiniMaxM3Keys":
        layers = self.num_hidden_layers
        check_layer_types("layer_types", self.layer_types, layers, (SPARSE, FULL))
        check_layer_types("mlp_layer_types", self.mlp_layer_types, layers, MLP_TYPES)
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list all attend everything."""
        return self.layer_types or [FULL] * self.num_hidden_layers

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention, of all positions or of the blocks that an index chooses."""
        attention = self.attention(rotary=self.rotary_at(FULL, config))
        if self.kinds[place] == FULL:
            return attention
        return BlockSparse(
            heads=attention,
            index_heads=self.index_n_heads,
            index_dim=self.index_head_dim,
            block_tokens=self.index_block_size,
            blocks=self.index_topk_blocks,
        )

    def mlp_at(self, place: int) -> Mlp:
        """Experts, unless the layer is told to be dense, which has another width."""
        if self.mlp_layer_types is not None and self.mlp_layer_types[place] == "dense":
            return self._dense(self.dense_intermediate_size)
        shared = self.shared_intermediate_size if self.n_shared_experts else None
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
            shared=self._dense(shared) if shared else None,
        )

    def _dense(self, width: int) -> Dense:
        return Dense(hidden_size=self.hidden_size, width=width, activation=self.hidden_act)


FAMILIES = {
    "minimax_m3": Family(
        "MiniMaxM3ForCausalLM", MiniMaxM3Keys, NAMES, also=("MiniMaxM3SparseForCausalLM",)
    ),
    "minimax_m3_vl_text": Family("MiniMaxM3VLForCausalLM", MiniMaxM3Keys, NAMES),
}
