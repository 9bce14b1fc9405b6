"""Every family of checkpoints that is read, by ``model_type``."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

from model.families.keys import Family

MODULES = {
    "llama": "llama",
    "mistral": "mistral",
    "phi3": "phi3",
    "llama4_text": "llama4",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gpt2": "gpt2",
    "opt": "opt",
    "mixtral": "mixtral",
    "qwen2_moe": "qwen2_moe",
    "qwen3_moe": "qwen3_moe",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen2_5_omni_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_omni_moe_text": "qwen3_moe",
    "deepseek_v2": "deepseek",
    "deepseek_v3": "deepseek",
    "kimi_k2": "deepseek",
    "mistral4": "deepseek",
    "glm4_moe_lite": "deepseek",
    "minicpm3": "latent_rows",
    "youtu": "latent_rows",
    "axk1": "latent_rows",
    "deepseek_v32": "deepseek_v32",
    "glm_moe_dsa": "deepseek_v32",
    "deepseek_v4": "deepseek_v4",
    "deepseek_ref": "deepseek_v4",
    "gpt_oss": "gpt_oss",
    "gemma2": "gemma2",
    "gemma3_text": "gemma2",
    "gemma3n_text": "gemma4",
    "gemma4_text": "gemma4",
    "gemma4_unified_text": "gemma4",
    "cohere2": "windowed_rows",
    "cohere2_moe": "cohere_moe",
    "granite_swa": "granite_windows",
    "granitemoe_swa": "granite_windows",
    "olmo3": "windowed_rows",
    "exaone4": "windowed_rows",
    "laguna": "windowed_moe",
    "mellum": "windowed_moe",
    "afmoe": "windowed_moe",
    "exaone4_5_text": "windowed_rows",
    "exaone_moe": "windowed_moe",
    "mimo_v2_flash": "mimo_v2",
    "mimo_v2": "mimo_v2",
    "step3p5": "step3",
    "step3p7": "step3",
    "qwen3_next": "qwen3_next",
    "qwen3_5_text": "qwen3_next",
    "qwen3_5_moe_text": "qwen3_next",
    "nemotron_h": "nemotron_h",
    "bamba": "mamba_hybrids",
    "granitemoehybrid": "mamba_hybrids",
    "falcon_h1": "mamba_hybrids",
    "mamba": "mamba_only",
    "falcon_mamba": "mamba_only",
    "mamba2": "mamba_only",
    "olmo_hybrid": "olmo_hybrid",
    "jamba": "jamba",
    "lfm2": "lfm2",
    "lfm2_moe": "lfm2",
    "minimax": "minimax01",
    "minimax_text_01": "minimax01",
    "minimax_m1": "minimax01",
    "kimi_linear": "kimi_linear",
    "bailing_hybrid": "kimi_linear",
    "bailing_moe_v2_5": "bailing_linear",
    "minimax_m3": "minimax_m3",
    "minimax_m3_vl_text": "minimax_m3",
    "internlm": "llama_rows",
    "internlm2": "llama_rows",
    "internlm3": "llama_rows",
    "baichuan": "llama_rows",
    "xverse": "llama_rows",
    "aquila": "llama_rows",
    "Yi": "llama_rows",
    "minicpm": "llama_rows",
    "qwen": "llama_rows",
    "mimo": "llama_rows",
    "seed_oss": "llama_rows",
    "smollm3": "llama_rows",
    "granite": "llama_rows",
    "exaone": "llama_rows",
    "ministral3": "llama_rows",
    "ernie4_5": "llama_rows",
    "hunyuan_v1_dense": "llama_rows",
    "hunyuan_vl_text": "llama_rows",
    "gemma": "llama_rows",
    "glm": "llama_rows",
    "glm4": "llama_rows",
    "chatglm": "llama_rows",
    "olmo2": "llama_rows",
    "muse_glimmer_text": "llama_rows",
    "cwm": "llama_rows",
    "helium": "llama_rows",
    "iquestcoder": "llama_rows",
    "hyperclovax": "llama_rows",
    "ministral": "llama_rows",
    "glm4v_text": "llama_rows",
    "glm_ocr_text": "llama_rows",
    "paddleocr_vl_text": "llama_rows",
    "orion": "layernorm_rows",
    "olmo": "layernorm_rows",
    "cohere": "layernorm_rows",
    "stablelm": "layernorm_rows",
    "starcoder2": "layernorm_rows",
    "nemotron": "layernorm_rows",
    "arcee": "layernorm_rows",
    "jais2": "layernorm_rows",
    "apertus": "layernorm_rows",
    "phi": "layernorm_rows",
    "persimmon": "layernorm_rows",
    "gpt_neox": "layernorm_rows",
    "falcon": "layernorm_rows",
    "RefinedWeb": "layernorm_rows",
    "RefinedWebModel": "layernorm_rows",
    "stablelm_epoch": "layernorm_rows",
    "gptj": "gpt_rows",
    "phi-msft": "gpt_rows",
    "codegen": "gpt_rows",
    "gpt_bigcode": "gpt_rows",
    "jais": "gpt_rows",
    "bloom": "gpt_rows",
    "mpt": "gpt_rows",
    "dbrx": "gpt_rows",
    "deepseek": "mixture_rows",
    "dots1": "mixture_rows",
    "glm4_moe": "mixture_rows",
    "ernie4_5_moe": "mixture_rows",
    "arctic": "mixture_rows",
    "hy_v3": "mixture_rows",
    "solar_open": "mixture_rows",
    "hunyuan_v1_moe": "mixture_rows",
    "bailing_moe": "mixture_rows",
    "bailing_moe_v2": "mixture_rows",
    "minimax_m2": "mixture_rows",
    "olmoe": "mixture_rows",
    "flex_olmo": "mixture_rows",
    "phimoe": "mixture_rows",
    "granitemoe": "mixture_rows",
    "granitemoeshared": "mixture_rows",
    "ernie4_5_vl_moe_text": "mixture_rows",
    "glm4v_moe_text": "mixture_rows",
    "nemotron-nas": "pruned",
    "deci": "pruned",
}
"""Which file reads it: its ``FAMILY``, or that type's row of its ``FAMILIES``."""


class _Families(Mapping[str, Family]):
    """Families by type, each loaded when it is asked for: a study needs one of them."""

    def __getitem__(self, model_type: str) -> Family:
        return _loaded(model_type)

    def __contains__(self, model_type: object) -> bool:
        return model_type in MODULES

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


@cache
def _loaded(model_type: str) -> Family:
    module = import_module(f"model.families.{MODULES[model_type]}")
    found: Family = module.FAMILY if hasattr(module, "FAMILY") else module.FAMILIES[model_type]
    return found


FAMILIES = _Families()
