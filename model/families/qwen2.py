"""``model_type: qwen2``: biased query, key and value projections."""

from typing import Literal

from pydantic import Field, NonNegativeInt, model_validator

from model.families.keys import Family, PositiveInt
from model.families.layer_types import check_every_layer
from model.families.llama import NAMES, LlamaKeys


class Qwen2Keys(LlamaKeys):
    """Llama with biases, and a window in all layers or in none."""

    mlp_bias: Literal[False] = False
    num_key_value_heads: PositiveInt | None = Field()
    use_sliding_window: bool = False
    sliding_window: NonNegativeInt | None = 4096
    max_window_layers: NonNegativeInt = 28
    layer_types: list[str] | None = None

    @model_validator(mode="after")
    def _one_kind_of_attention(self) -> "Qwen2Keys":
        kinds = set(self._layer_types())
        check_every_layer("layer_types", self.layer_types, self.num_hidden_layers)
        if len(kinds) > 1 or not kinds <= {"full_attention", "sliding_attention"}:
            source = "layer_types" if self.layer_types is not None else "max_window_layers"
            raise ValueError(
                f"{source} = {getattr(self, source)!r}: expected all {self.num_hidden_layers} "
                "layers to be full_attention or all to be sliding_attention"
            )
        return self

    def _layer_types(self) -> list[str]:
        if self.layer_types is not None:
            return self.layer_types
        layers, full = self.num_hidden_layers, self.num_hidden_layers
        if self.use_sliding_window and self.sliding_window:
            full = min(layers, self.max_window_layers)
        return ["full_attention"] * full + ["sliding_attention"] * (layers - full)

    @property
    def window(self) -> int | None:
        """``sliding_window``, if ``use_sliding_window`` is on and no list says otherwise."""
        if not self.use_sliding_window or self._layer_types()[0] == "full_attention":
            return None
        return self.sliding_window or None

    @property
    def has_qkv_bias(self) -> bool:
        """Always, whatever the file says."""
        return True

    @property
    def has_output_bias(self) -> bool:
        """Never."""
        return False


FAMILY = Family("Qwen2ForCausalLM", Qwen2Keys, NAMES)
