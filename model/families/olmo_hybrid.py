"""``model_type: olmo_hybrid``: the gated delta rule in three layers of four."""

from typing import Any, ClassVar

from pydantic import PositiveFloat, model_validator

from model.families.keys import Config, Family, PositiveInt
from model.families.layer_types import check_layer_types
from model.families.llama import NAMES as LLAMA_NAMES
from model.families.windowed import FULL, WindowedKeys
from model.mixers.delta import DeltaRule
from model.mixers.mixer import Mixer
from model.quantization.modules import names_below

LINEAR = "linear_attention"
_LINEAR_NAMES = names_below(
    "model.layers.{i}.linear_attn", delta_in="q_proj k_proj v_proj g_proj", delta_out="o_proj"
)


class OlmoHybridKeys(WindowedKeys):
    """Keys of three quarters of an even part of the hidden size, values twice as wide."""

    qk_norm: ClassVar[bool] = True
    wide_qk_norm: ClassVar[bool] = True
    usual_pattern: ClassVar[int] = 4

    rms_norm_eps: PositiveFloat = 1e-6
    sliding_window: PositiveInt | None = None
    linear_num_key_heads: PositiveInt | None = None
    linear_num_value_heads: PositiveInt | None = None
    linear_key_head_dim: PositiveInt | None = None
    linear_value_head_dim: PositiveInt | None = None
    linear_conv_kernel_dim: PositiveInt = 4

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "OlmoHybridKeys":
        check_layer_types("layer_types", self.layer_types, self.num_hidden_layers, (LINEAR, FULL))
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list every fourth attends, or the last of fewer."""
        if self.layer_types is not None:
            return self.layer_types
        kinds = [FULL if i % 4 == 3 else LINEAR for i in range(self.num_hidden_layers)]
        return kinds if FULL in kinds else [*kinds[:-1], FULL]

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention, which rotates only where the file has a base, or the delta rule."""
        if self.kinds[place] == FULL:
            rotates: Any = config.get("rope_parameters") or config.get("rope_theta")
            return self.attention(rotary=self.rotary_at(FULL, config) if rotates else None)
        heads = self.linear_num_key_heads or self.num_attention_heads
        keys = self.linear_key_head_dim or int(0.75 * self.hidden_size / heads)
        return DeltaRule(
            hidden_size=self.hidden_size,
            num_key_heads=heads,
            num_value_heads=self.linear_num_value_heads or self.num_attention_heads,
            key_dim=keys,
            value_dim=self.linear_value_head_dim or 2 * keys,
            conv_kernel=self.linear_conv_kernel_dim,
        )


FAMILY = Family("OlmoHybridForCausalLM", OlmoHybridKeys, {**LLAMA_NAMES, **_LINEAR_NAMES})
