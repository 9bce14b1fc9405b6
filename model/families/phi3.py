"""``model_type: phi3``: Llama's shapes, with fused matrices in the file, and maybe a window."""

from model.families.keys import Family
from model.families.llama import LAYER
from model.families.mistral import OneWindowKeys
from model.quantization.modules import names_below

NAMES = names_below(
    LAYER,
    qkv_proj="self_attn.qkv_proj",
    o_proj="self_attn.o_proj",
    mlp_up="mlp.gate_up_proj",
    mlp_down="mlp.down_proj",
)


FAMILY = Family("Phi3ForCausalLM", OneWindowKeys, NAMES)
