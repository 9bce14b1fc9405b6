"""``model_type: mimo_v2_flash`` and ``mimo_v2``: windows with sinks and heads of their own."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field, PositiveFloat, model_validator

from model.families.keys import Config, ExpertCount, Family, PositiveInt
from model.families.layer_types import MLP_TYPES
from model.families.windowed import FULL, SLIDING
from model.families.windowed_moe import WindowedMoeKeys, names_of
from model.mixers.mixer import Mixer, Rotary


class MimoKeys(WindowedMoeKeys):
    """Values narrower than keys; layers with windows have heads of their own, and sinks."""

    default_theta: ClassVar[float] = 5_000_000.0

    head_dim: PositiveInt | None = 192
    v_head_dim: PositiveInt = 128
    rms_norm_eps: PositiveFloat = Field(
        default=1e-5, validation_alias=AliasChoices("layernorm_epsilon", "rms_norm_eps")
    )
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("n_routed_experts", "num_local_experts")
    )
    sliding_window: PositiveInt | None = 128
    swa_num_attention_heads: PositiveInt | None = None
    swa_num_key_value_heads: PositiveInt | None = None
    swa_head_dim: PositiveInt | None = None
    swa_v_head_dim: PositiveInt | None = None
    swa_rope_theta: PositiveFloat | None = None
    add_swa_attention_sink_bias: bool = True
    add_full_attention_sink_bias: bool = False

    @model_validator(mode="before")
    @classmethod
    def _lists_of_words(cls, given: Any) -> Any:
        """Published files have lists of 0 and 1."""
        if not isinstance(given, dict):
            return given
        for key in ("vision_config", "audio_config"):
            if given.get(key):
                raise ValueError(f"{key}: the encoders of MiMo are not modelled, expected null")
        own = {key: value for key, value in given.items() if value is not None}
        lists = {
            "layer_types": ("hybrid_layer_pattern", (FULL, SLIDING)),
            "mlp_layer_types": ("moe_layer_freq", MLP_TYPES),
        }
        for key, (old, words) in lists.items():
            if key not in own and isinstance(own.get(old), list):
                own[key] = [words[bool(one)] for one in own[old]]
        return own

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list the first and every sixth attend everything."""
        if self.layer_types is not None:
            return self.layer_types
        layers = range(self.num_hidden_layers)
        return [FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING for i in layers]

    def rotary_at(self, kind: str, config: Config) -> Rotary | None:
        """Return the rotation of a kind of layers: ``swa_rope_theta`` is the base of windows."""
        own = self.swa_rope_theta if kind == SLIDING else None
        rotary = super().rotary_at(kind, config)
        return Rotary(own, rotary.table_rows, rotary.table_numbers) if own and rotary else rotary

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention, which with a window has its own heads, widths and, by default, sinks."""
        kind = self.kinds[place]
        changes: dict[str, object] = {
            "rotary": self.rotary_at(kind, config),
            "v_head_dim": self.v_head_dim,
            "output_bias": False,
            "sinks": self.add_full_attention_sink_bias,
        }
        if kind == SLIDING:
            changes |= {
                "sliding_window": self.sliding_window,
                "num_heads": self.swa_num_attention_heads or self.num_attention_heads,
                "num_kv_heads": self.swa_num_key_value_heads or 2 * self.kv_heads,
                "head_dim": self.swa_head_dim or self.width_of_head,
                "v_head_dim": self.swa_v_head_dim or self.v_head_dim,
                "sinks": self.add_swa_attention_sink_bias,
            }
        return self.attention(**changes)


NAMES = names_of("mlp.shared_experts")
FAMILIES = {
    "mimo_v2_flash": Family("MiMoV2FlashForCausalLM", MimoKeys, NAMES),
    "mimo_v2": Family("MiMoV2ForCausalLM", MimoKeys, NAMES, also=("MiMoV2FlashForCausalLM",)),
}
