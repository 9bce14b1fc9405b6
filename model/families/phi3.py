"""``model_type: phi3``: Llama's shapes, with fused matrices in the file, and maybe a window."""

from typing import Literal

from model.families.keys import Family, PositiveInt
from model.families.llama import LAYER, LlamaKeys
from model.quantization.modules import names_below

NAMES = names_below(
    LAYER,
    qkv_proj="self_attn.qkv_proj",
    o_proj="self_attn.o_proj",
    mlp_up="mlp.gate_up_proj",
    mlp_down="mlp.down_proj",
)


class Phi3Keys(LlamaKeys):
    """Llama with a window that files may give."""

    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    sliding_window: PositiveInt | None = None

    @property
    def window(self) -> int | None:
        return self.sliding_window


FAMILY = Family("Phi3ForCausalLM", Phi3Keys, NAMES)
