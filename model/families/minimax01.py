"""``model_type: minimax`` and ``minimax_text_01``: lightning attention between full layers."""

from typing import Any

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import FULL, WindowedKeys
from model.mixers.lightning import Lightning
from model.mixers.mixer import Mixer
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

LINEAR = "linear_attention"
_EXPERT = "block_sparse_moe.experts.{j}"
NAMES = names_below(
    LAYER,
    **ATTENTION,
    linear_qkv="self_attn.qkv_proj",
    linear_gate="self_attn.output_gate",
    linear_out="self_attn.out_proj",
    experts=f"{_EXPERT}.w1 {_EXPERT}.w3 {_EXPERT}.w2",
)


class MiniMaxKeys(WindowedKeys):
    """Experts in every layer."""

    sliding_window: PositiveInt | None = None
    block_size: PositiveInt = 256
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_local_experts", "num_experts")
    )
    num_experts_per_tok: PositiveInt = 2

    @model_validator(mode="before")
    @classmethod
    def _list_of_words(cls, given: Any) -> Any:
        """The first files have a list of 0 (linear) and 1 (all positions)."""
        if not isinstance(given, dict) or given.get("layer_types") is not None:
            return given
        types = given.get("attn_type_list")
        if isinstance(types, list):
            words = {0: LINEAR, 1: FULL}
            return {**given, "layer_types": [words.get(kind, str(kind)) for kind in types]}
        return given

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "MiniMaxKeys":
        check_layer_types("layer_types", self.layer_types, self.num_hidden_layers, (LINEAR, FULL))
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list every second one attends, from the first."""
        if self.layer_types is not None:
            return self.layer_types
        return [FULL if (i + 1) % 2 else LINEAR for i in range(self.num_hidden_layers)]

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention, or lightning attention."""
        if self.kinds[place] == FULL:
            return self.attention(rotary=self.rotary_at(FULL, config))
        return Lightning(
            hidden_size=self.hidden_size,
            num_heads=self.num_attention_heads,
            head_dim=self.width_of_head,
            chunk=self.block_size,
        )

    def mlp(self) -> Mlp:
        """Experts, as wide as ``intermediate_size``."""
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
        )


FAMILIES = {
    "minimax": Family("MiniMaxForCausalLM", MiniMaxKeys, NAMES),
    "minimax_text_01": Family("MiniMaxText01ForCausalLM", MiniMaxKeys, NAMES),
    "minimax_m1": Family("MiniMaxM1ForCausalLM", MiniMaxKeys, NAMES),
}
