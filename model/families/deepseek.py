"""``model_type: deepseek_v2``, ``deepseek_v3``, ``kimi_k2``, ``glm4_moe_lite``: latent attention.

Experts with a shared one behind some dense layers. ``axk1`` and ``youtu`` are of the same kind.
"""

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import MLP_TYPES, check_layer_types
from model.families.llama import LAYER, LlamaKeys
from model.lengths import rotary_table_rows
from model.mixers.index import Index
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Mixer, Rotary
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

LATENT = {
    "q_proj": "self_attn.q_proj",
    "kv_a_proj": "self_attn.kv_a_proj_with_mqa",
    "qkv_a_proj": "self_attn.q_a_proj self_attn.kv_a_proj_with_mqa",
    "q_b_proj": "self_attn.q_b_proj",
    "kv_b_proj": "self_attn.kv_b_proj",
    "o_proj": "self_attn.o_proj",
    "index_q_proj": "self_attn.indexer.wq_b",
    "index_k_proj": "self_attn.indexer.wk",
}
MLPS = {
    "mlp_up": "mlp.gate_proj mlp.up_proj",
    "mlp_down": "mlp.down_proj",
    "shared_mlp_up": "mlp.shared_experts.gate_proj mlp.shared_experts.up_proj",
    "shared_mlp_down": "mlp.shared_experts.down_proj",
    "experts": "mlp.experts.{j}.gate_proj mlp.experts.{j}.up_proj mlp.experts.{j}.down_proj",
}
NAMES = names_below(LAYER, **LATENT, **MLPS)


class LatentKeys(LlamaKeys):
    """Latent attention in every layer, experts in all but the first."""

    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt
    v_head_dim: PositiveInt
    kv_lora_rank: PositiveInt
    q_lora_rank: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None
    n_routed_experts: ExpertCount | None = None
    num_experts_per_tok: PositiveInt | None = None
    n_shared_experts: NonNegativeInt | None = None
    first_k_dense_replace: NonNegativeInt = 0
    moe_layer_freq: PositiveInt = 1
    mlp_layer_types: list[str] | None = None
    num_nextn_predict_layers: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> "LatentKeys":
        """Heads have widths of their own, and no groups."""
        return self

    @model_validator(mode="after")
    def _experts_are_complete(self) -> "LatentKeys":
        if self.n_routed_experts is None:
            return self
        for key in ("moe_intermediate_size", "num_experts_per_tok"):
            if getattr(self, key) is None:
                raise ValueError(f"{key} is missing beside n_routed_experts")
        check_experts(self.num_experts_per_tok or 0, self.n_routed_experts)
        types = self.mlp_layer_types
        check_layer_types("mlp_layer_types", types, self.num_hidden_layers, MLP_TYPES)
        return self

    @property
    def index(self) -> Index | None:
        """What chooses the positions that a layer attends."""
        return None

    def index_shared(self, place: int) -> bool:
        """Whether a layer attends what one before has chosen."""
        return False

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Return the mixer of a layer."""
        return self.latent_at(place, config)

    def latent_at(self, place: int, config: Config) -> LatentAttention:
        """Return the attention of a layer."""
        rows = rotary_table_rows(config, self.max_position_embeddings)
        return LatentAttention(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            q_lora_rank=self.q_lora_rank,
            kv_lora_rank=self.kv_lora_rank,
            qk_nope_head_dim=self.qk_nope_head_dim,
            qk_rope_head_dim=self.qk_rope_head_dim,
            v_head_dim=self.v_head_dim,
            rotary=Rotary(self.theta, rows, self.qk_rope_head_dim),
            bias=self.attention_bias,
            index=self.index,
            index_shared=self.index_shared(place),
        )

    def is_sparse(self, place: int) -> bool:
        """Whether a layer has experts."""
        if self.n_routed_experts is None:
            return False
        if self.mlp_layer_types is not None:
            return self.mlp_layer_types[place] == "sparse"
        return place >= self.first_k_dense_replace and place % self.moe_layer_freq == 0

    def mlp_at(self, place: int) -> Mlp:
        """Return the MLP of a layer."""
        if not self.is_sparse(place):
            return self.mlp()
        width = self.moe_intermediate_size or 0
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.n_routed_experts or 0,
            per_token=self.num_experts_per_tok or 0,
            width=width,
            activation=self.hidden_act,
            shared=self.shared_expert(width),
        )

    def shared_expert(self, width: int) -> Dense | None:
        """Return what every token takes beside its experts: some of them side by side."""
        if not self.n_shared_experts:
            return None
        return Dense(
            hidden_size=self.hidden_size,
            width=width * self.n_shared_experts,
            activation=self.hidden_act,
        )

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """See ``LlamaKeys``."""
        places = range(self.num_hidden_layers)
        return [(self.mixer_at(place, config), self.mlp_at(place)) for place in places]


class Glm4LiteKeys(LatentKeys):
    """The first layer is dense unless ``mlp_layer_types`` says otherwise."""

    default_theta: ClassVar[float] = 1_000_000.0

    first_k_dense_replace: NonNegativeInt = 1
    rms_norm_eps: PositiveFloat = 1e-5


FAMILIES = {
    "deepseek_v2": Family("DeepseekV2ForCausalLM", LatentKeys, NAMES),
    "deepseek_v3": Family("DeepseekV3ForCausalLM", LatentKeys, NAMES),
    "kimi_k2": Family("DeepseekV3ForCausalLM", LatentKeys, NAMES),
    "mistral4": Family("Mistral4ForCausalLM", LatentKeys, NAMES),
    "glm4_moe_lite": Family("Glm4MoeLiteForCausalLM", Glm4LiteKeys, NAMES),
}
