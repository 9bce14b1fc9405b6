"""``model_type: step3p5`` and ``step3p7``: more heads in layers with windows, gates per head."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import AliasChoices, Field, NonNegativeInt, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt
from model.families.layer_types import MLP_TYPES
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import SLIDING
from model.families.windowed_moe import GATED, WindowedMoeKeys
from model.mixers.mixer import Mixer, Rotary
from model.quantization.modules import names_below


class StepKeys(WindowedMoeKeys):
    """Layers with windows may have more heads; a gate weighs what each puts out."""

    qk_norm: ClassVar[bool] = True
    dense_layers: ClassVar[int] = 3

    head_dim: PositiveInt | None = 128
    num_key_value_heads: PositiveInt | None = Field(
        validation_alias=AliasChoices("num_attention_groups", "num_key_value_heads")
    )
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("moe_num_experts", "n_routed_experts", "num_experts")
    )
    num_experts_per_tok: PositiveInt = Field(
        default=8, validation_alias=AliasChoices("moe_top_k", "num_experts_per_tok")
    )
    share_expert_dim: NonNegativeInt = Field(
        default=0, validation_alias=AliasChoices("share_expert_dim", "share_expert_dims")
    )
    sliding_window: PositiveInt | None = None
    num_sliding_attention_heads: PositiveInt | None = None
    attention_other_setting: dict[str, Any] | None = None
    use_head_wise_attn_gate: bool = False

    @model_validator(mode="before")
    @classmethod
    def _one_entry_a_layer(cls, given: Any) -> Any:
        """Lists of published files go on over the layers that draft; one has numbers in a text."""
        if not isinstance(given, dict):
            return given
        own, layers = dict(given), given.get("num_hidden_layers")
        for key in ("layer_types", "mlp_layer_types"):
            if isinstance(own.get(key), list) and isinstance(layers, int):
                own[key] = own[key][:layers]
        if isinstance(own.get("rope_theta"), list):
            del own["rope_theta"]
        routed = own.get("moe_layers_enum")
        if isinstance(routed, str) and own.get("mlp_layer_types") is None:
            sparse = {part.strip() for part in routed.split(",")}
            places = range(layers) if isinstance(layers, int) else ()
            own["mlp_layer_types"] = [MLP_TYPES[str(i) in sparse] for i in places]
        return own

    @property
    def shared_width(self) -> int:
        """Of the shared expert, as the file gives it."""
        return self.share_expert_dim

    def _by_layer(self, config: Config, key: str, place: int) -> float | None:
        listed = config.get(key)
        if isinstance(listed, list) and place < len(listed):
            return float(listed[place])
        return None

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention; layers may have their own rotation, and those with windows more heads."""
        kind = self.kinds[place]
        rotary = self.rotary_at(kind, {**config, "rope_theta": None})
        theta = self._by_layer(config, "rope_theta", place)
        share = self._by_layer(config, "partial_rotary_factors", place)
        if rotary is not None:
            turned = int(share * self.width_of_head) if share else rotary.table_numbers
            rotary = Rotary(theta or rotary.theta, rotary.table_rows, turned)
        changes: dict[str, object] = {
            "rotary": rotary,
            "gate": 1 if self.use_head_wise_attn_gate else 0,
        }
        if kind == SLIDING:
            other = self.attention_other_setting
            heads = self.num_sliding_attention_heads
            if isinstance(other, Mapping) and heads is None:
                heads = other.get("num_attention_heads")
            changes |= {
                "sliding_window": self.sliding_window,
                "num_heads": heads or self.num_attention_heads,
            }
        return self.attention(**changes)


STEP = Family(
    "Step3p5ForCausalLM",
    StepKeys,
    names_below(
        LAYER,
        **{**ATTENTION, **GATED},
        mlp_up="mlp.gate_proj mlp.up_proj",
        mlp_down="mlp.down_proj",
        shared_mlp_up="share_expert.gate_proj share_expert.up_proj",
        shared_mlp_down="share_expert.down_proj",
        experts="moe.experts.{j}.gate_proj moe.experts.{j}.up_proj moe.experts.{j}.down_proj",
    ),
    also=("Step3p7FlashForCausalLM", "Step3p7ForCausalLM"),
)
FAMILIES = {"step3p5": STEP, "step3p7": STEP}
