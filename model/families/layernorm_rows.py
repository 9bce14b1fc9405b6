"""Dense families with rotary positions and LayerNorm, or with MLPs without a gate."""

from model.config_keys import whole
from model.families.keys import Config, Family
from model.families.llama import ATTENTION, LAYER
from model.families.llama_rows import UNBIASED
from model.families.plain import family
from model.families.row import Row
from model.quantization.modules import names_below

LAYERNORM_EPS = {"rms_norm_eps": "layer_norm_eps"}

_UP = names_below(LAYER, **ATTENTION, mlp_up="mlp.up_proj", mlp_down="mlp.down_proj")


def _stablelm(config: Config) -> dict[str, object]:
    """Attention and MLP side by side share one norm."""
    return {**config, "norms": 1 if config.get("use_parallel_residual") else 2}


def _falcon(config: Config) -> dict[str, object]:
    """The first (RW, with ALiBi), 7B (one KV head) and the later ones (groups) differ in norms."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    if config.get("new_decoder_architecture"):
        kv_heads = config.get("num_kv_heads", config.get("n_head_kv"))
        norms = whole(config, "num_ln_in_parallel_attn", 2)
    else:
        kv_heads = 1 if config.get("multi_query", True) else heads
        norms = 1 if config.get("parallel_attn", True) else 2
    return {
        **config,
        "num_attention_heads": heads,
        "num_hidden_layers": config.get("num_hidden_layers", config.get("n_layer")),
        "num_key_value_heads": kv_heads or heads,
        "norms": norms,
        "intermediate_size": config.get("ffn_hidden_size") or 4 * whole(config, "hidden_size"),
    }


ROWS: dict[str, Row] = {
    "orion": Row(class_name="OrionForCausalLM", norm="layernorm", fixed={"mlp_bias": False}),
    "olmo": Row(
        class_name="OlmoForCausalLM",
        also=("OLMoForCausalLM",),
        norm="layernorm",
        norm_vectors=0,
        fixed={"mlp_bias": False},
    ),
    "cohere": Row(
        class_name="CohereForCausalLM",
        norm="layernorm",
        norm_vectors=1,
        norms=1,
        qk_norm="width",
        keys=LAYERNORM_EPS,
        usual={"use_qk_norm": False, "tie_word_embeddings": True},
        fixed={"mlp_bias": False},
    ),
    "stablelm": Row(
        class_name="StableLmForCausalLM",
        also=("StableLMEpochForCausalLM", "StableLMForCausalLM"),
        norm="layernorm",
        qk_norm="width",
        keys={**LAYERNORM_EPS, "qkv_bias": "use_qkv_bias", "use_qk_norm": "qk_layernorm"},
        usual={"use_qk_norm": False, "partial_rotary_factor": 0.25, "qkv_bias": False},
        fixed=UNBIASED,
        prepare=_stablelm,
    ),
    "starcoder2": Row(
        class_name="Starcoder2ForCausalLM",
        names=names_below(LAYER, **ATTENTION, mlp_up="mlp.c_fc", mlp_down="mlp.c_proj"),
        norm="layernorm",
        gated=False,
        keys={"rms_norm_eps": "norm_epsilon", "attention_bias": "use_bias", "mlp_bias": "use_bias"},
        usual={
            "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
            "hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 2,
        },
    ),
    "nemotron": Row(
        class_name="NemotronForCausalLM",
        names=_UP,
        norm="layernorm",
        gated=False,
        keys={"rms_norm_eps": "norm_eps"},
        usual={"hidden_act": "relu2", "partial_rotary_factor": 0.5},
    ),
    "arcee": Row(class_name="ArceeForCausalLM", names=_UP, gated=False,
                 usual={"hidden_act": "relu2"}),
    "jais2": Row(
        class_name="Jais2ForCausalLM",
        names=_UP,
        norm="layernorm",
        gated=False,
        keys=LAYERNORM_EPS,
        usual={"attention_bias": True, "mlp_bias": True, "hidden_act": "relu2"},
    ),
    "apertus": Row(
        class_name="ApertusForCausalLM",
        names=_UP,
        gated=False,
        qk_norm="head",
        usual={"hidden_act": "xielu", "rope_theta": 12_000_000.0},
        fixed={"mlp_bias": False},
    ),
    "phi": Row(
        class_name="PhiForCausalLM",
        names=names_below(
            LAYER,
            qkv_proj="self_attn.q_proj self_attn.k_proj self_attn.v_proj",
            o_proj="self_attn.dense",
            mlp_up="mlp.fc1",
            mlp_down="mlp.fc2",
        ),
        norm="layernorm",
        norms=1,
        gated=False,
        qk_norm="biased head",
        keys={**LAYERNORM_EPS, "use_qk_norm": "qk_layernorm"},
        usual={"use_qk_norm": False, "hidden_act": "gelu_new", "partial_rotary_factor": 0.5},
        fixed={"attention_bias": True, "mlp_bias": True, "logit_bias": True},
    ),
    "persimmon": Row(
        class_name="PersimmonForCausalLM",
        names=names_below(
            LAYER,
            qkv_proj="self_attn.query_key_value",
            o_proj="self_attn.dense",
            mlp_up="mlp.dense_h_to_4h",
            mlp_down="mlp.dense_4h_to_h",
        ),
        norm="layernorm",
        gated=False,
        qk_norm="biased head",
        keys={**LAYERNORM_EPS, "use_qk_norm": "qk_layernorm"},
        usual={"hidden_act": "relu2", "partial_rotary_factor": 0.5, "rope_theta": 25_000.0},
        fixed={"attention_bias": True, "mlp_bias": True, "num_key_value_heads": None},
    ),
    "gpt_neox": Row(
        class_name="GPTNeoXForCausalLM",
        names=names_below(
            "gpt_neox.layers.{i}",
            qkv_proj="attention.query_key_value",
            o_proj="attention.dense",
            mlp_up="mlp.dense_h_to_4h",
            mlp_down="mlp.dense_4h_to_h",
        ),
        norm="layernorm",
        gated=False,
        keys={
            **LAYERNORM_EPS,
            "rope_theta": "rotary_emb_base",
            "partial_rotary_factor": "rotary_pct",
        },
        usual={"attention_bias": True, "hidden_act": "gelu", "partial_rotary_factor": 0.25},
        fixed={"mlp_bias": True, "num_key_value_heads": None},
    ),
    "falcon": Row(
        class_name="FalconForCausalLM",
        also=("RWForCausalLM",),
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="self_attention.query_key_value",
            o_proj="self_attention.dense",
            mlp_up="mlp.dense_h_to_4h",
            mlp_down="mlp.dense_4h_to_h",
        ),
        norm="layernorm",
        gated=False,
        keys={
            "rms_norm_eps": "layer_norm_epsilon",
            "attention_bias": "bias",
            "mlp_bias": "bias",
            "hidden_act": "activation",
        },
        usual={
            "hidden_act": "gelu", "tie_word_embeddings": True, "max_position_embeddings": 2048,
        },
        prepare=_falcon,
    ),
}  # fmt: skip
ROWS["RefinedWeb"] = ROWS["RefinedWebModel"] = ROWS["falcon"]
ROWS["stablelm_epoch"] = ROWS["stablelm"]

FAMILIES: dict[str, Family] = {model_type: family(row) for model_type, row in ROWS.items()}
