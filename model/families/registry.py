"""Every family of checkpoints that is read, by ``model_type``."""

from model.families import (
    deepseek,
    deepseek_v32,
    gemma2,
    gpt2,
    gpt_oss,
    llama,
    llama4,
    mistral,
    mixtral,
    opt,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
    windowed_rows,
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
    **deepseek.FAMILIES,
    **deepseek_v32.FAMILIES,
    "gpt_oss": gpt_oss.FAMILY,
    **gemma2.FAMILIES,
    **windowed_rows.FAMILIES,
}
