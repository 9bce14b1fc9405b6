"""Every family of checkpoints that is read, by ``model_type``."""

from model.families import (
    gpt2,
    gpt_rows,
    llama,
    llama4,
    mistral,
    mixtral,
    mixture_rows,
    opt,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
    rotary_rows,
)
from model.families.keys import Family

FAMILIES: dict[str, Family] = {
    "llama": llama.FAMILY,
    "mistral": mistral.FAMILY,
    "phi3": phi3.FAMILY,
    "llama4_text": llama4.FAMILY,
    "qwen2": qwen2.FAMILY,
    "qwen3": qwen3.FAMILY,
    "gpt2": gpt2.FAMILY,
    "opt": opt.FAMILY,
    "mixtral": mixtral.FAMILY,
    "qwen2_moe": qwen2_moe.FAMILY,
    "qwen3_moe": qwen3_moe.FAMILY,
    **rotary_rows.FAMILIES,
    **gpt_rows.FAMILIES,
    **mixture_rows.FAMILIES,
}
