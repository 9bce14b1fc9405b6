"""``model_type: nemotron-nas`` and ``deci``: Llama, pruned layer by layer.

Puzzle (Bercovich et al., arXiv 2411.19146) gives every layer KV heads and an MLP width of its own,
or leaves its attention or its MLP out.
"""

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from model.families.keys import Config, Family, PositiveInt
from model.families.layer_types import check_every_layer
from model.families.llama import NAMES, LlamaKeys
from model.mixers.mixer import Mixer
from model.mixers.none import NoMixer
from model.mlps.dense import Dense
from model.mlps.mlp import Mlp
from model.mlps.none import NoMlp

WIDTH_STEP = 256
"""MLP widths are rounded up to a multiple of this (``_ffn_mult_to_intermediate_size``)."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    no_op: bool = False
    replace_with_linear: bool = False
    n_heads_in_group: PositiveInt | None = None
    ffn_mult: PositiveFloat | None = None
    intermediate_size: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_modelled(self) -> "_Part":
        if self.replace_with_linear:
            raise ValueError("replace_with_linear is not modelled, expected false")
        return self


class _Block(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    attention: _Part
    ffn: _Part


class NasKeys(LlamaKeys):
    """Layers as ``block_configs`` lists them."""

    intermediate_size: PositiveInt | None = None  # type: ignore[assignment]
    block_configs: list[_Block] = Field()

    @model_validator(mode="after")
    def _every_layer_is_told(self) -> "NasKeys":
        check_every_layer("block_configs", self.block_configs, self.num_hidden_layers)
        for part in (block.ffn for block in self.block_configs):
            if not part.no_op and part.intermediate_size is None and part.ffn_mult is None:
                raise ValueError(
                    "block_configs: expected ffn_mult or intermediate_size of every ffn"
                )
        for part in (block.attention for block in self.block_configs):
            grouped = part.n_heads_in_group or 1
            if not part.no_op and self.num_attention_heads % grouped:
                raise ValueError(
                    f"n_heads_in_group = {grouped}: expected a divisor of num_attention_heads = "
                    f"{self.num_attention_heads}"
                )
        return self

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every block, either of which may be missing."""
        whole = self.mixer(config)
        return [
            (
                NoMixer()
                if block.attention.no_op
                else replace(
                    whole,
                    num_kv_heads=self.num_attention_heads
                    // (block.attention.n_heads_in_group or 1),
                ),
                NoMlp() if block.ffn.no_op else self._dense(block.ffn),
            )
            for block in self.block_configs
        ]

    def _dense(self, part: _Part) -> Dense:
        return Dense(
            hidden_size=self.hidden_size,
            width=part.intermediate_size or self._width(part),
            activation=self.hidden_act,
            bias=self.mlp_bias,
        )

    def _width(self, part: _Part) -> int:
        width = int(2 * (part.ffn_mult or 0.0) * self.hidden_size / 3)
        return -(-width // WIDTH_STEP) * WIDTH_STEP


class DeciKeys(LlamaKeys):
    """KV heads of every layer in a list."""

    num_key_value_heads_per_layer: list[PositiveInt] = Field()

    @model_validator(mode="after")
    def _every_layer_is_told(self) -> "DeciKeys":
        told = self.num_key_value_heads_per_layer
        check_every_layer("num_key_value_heads_per_layer", told, self.num_hidden_layers)
        wrong = [heads for heads in told if self.num_attention_heads % heads]
        if wrong:
            raise ValueError(
                f"num_key_value_heads_per_layer has {wrong[0]}: expected divisors of "
                f"num_attention_heads = {self.num_attention_heads}"
            )
        return self

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every layer, which differ in KV heads alone."""
        whole, mlp = self.mixer(config), self.mlp()
        heads = self.num_key_value_heads_per_layer
        return [(replace(whole, num_kv_heads=count), mlp) for count in heads]


FAMILIES: dict[str, Family] = {
    "nemotron-nas": Family("DeciLMForCausalLM", NasKeys, NAMES),
    "deci": Family("DeciLMForCausalLM", DeciKeys, NAMES),
}
