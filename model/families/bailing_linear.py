"""``model_type: bailing_moe_v2_5``: Ling and Ring 2.5 and 2.6, lightning attention and latent.

As inclusionAI's modeling_bailing_moe_v2_5.py has it. Their files may say ``bailing_hybrid``, which
is Ling 3 by its class.
"""

from typing import ClassVar

from pydantic import Field, NonNegativeInt

from model.families.deepseek import LatentKeys
from model.families.keys import Config, ExpertCount, Family, PositiveInt
from model.families.llama import LAYER
from model.lengths import rotary_table_rows
from model.mixers.lightning import Lightning
from model.mixers.mixer import Mixer, Rotary
from model.quantization.modules import names_below

_MLP = "mlp.experts.{j}"
NAMES = names_below(
    LAYER,
    linear_qkv="attention.query_key_value",
    linear_gate="attention.g_proj",
    linear_out="attention.dense",
    q_proj="attention.q_proj",
    kv_a_proj="attention.kv_a_proj_with_mqa",
    qkv_a_proj="attention.q_a_proj attention.kv_a_proj_with_mqa",
    q_b_proj="attention.q_b_proj",
    kv_b_proj="attention.kv_b_proj",
    o_proj="attention.dense",
    mlp_up="mlp.gate_proj mlp.up_proj",
    mlp_down="mlp.down_proj",
    shared_mlp_up="mlp.shared_experts.gate_proj mlp.shared_experts.up_proj",
    shared_mlp_down="mlp.shared_experts.down_proj",
    experts=f"{_MLP}.gate_proj {_MLP}.up_proj {_MLP}.down_proj",
)


class BailingLinearKeys(LatentKeys):
    """The last layer of every group attends; so do all behind the last whole group."""

    default_theta: ClassVar[float] = 6_000_000.0

    n_routed_experts: ExpertCount | None = Field(default=None, validation_alias="num_experts")
    n_shared_experts: NonNegativeInt | None = Field(
        default=None, validation_alias="num_shared_experts"
    )
    layer_group_size: PositiveInt
    use_qk_norm: bool = True
    partial_rotary_factor: float = Field(default=0.5, gt=0, le=1)

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Latent attention at the end of a group and behind the last, else lightning attention."""
        every, layers = self.layer_group_size, self.num_hidden_layers
        if (place + 1) % every == 0 or place >= layers // every * every:
            return self.latent_at(place, config)
        dim = self.head_dim or self.hidden_size // self.num_attention_heads
        rows = rotary_table_rows(config, self.max_position_embeddings)
        return Lightning(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            head_dim=dim,
            qk_norm=self.use_qk_norm,
            rotary=Rotary(self.theta, rows, int(dim * self.partial_rotary_factor)),
        )


FAMILY = Family("BailingMoeV2_5ForCausalLM", BailingLinearKeys, NAMES, under=("bailing_hybrid",))
