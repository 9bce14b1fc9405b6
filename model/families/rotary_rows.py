"""Dense families with rotary positions, from Llama's near relatives to GPT-J's."""

from dataclasses import replace

from model.config_keys import whole
from model.families.keys import Config, Family
from model.families.llama import ATTENTION, LAYER
from model.families.plain import family
from model.families.row import Row
from model.quantization.modules import names_below

UNBIASED = {"attention_bias": False, "mlp_bias": False}
LAYERNORM_EPS = {"rms_norm_eps": "layer_norm_eps"}

_UP = names_below(LAYER, **ATTENTION, mlp_up="mlp.up_proj", mlp_down="mlp.down_proj")
_GLM = names_below(LAYER, **ATTENTION, mlp_up="mlp.gate_up_proj", mlp_down="mlp.down_proj")


def _smollm3(config: Config) -> dict[str, object]:
    """Every ``no_rope_layer_interval``-th layer rotates nothing, where no list says which."""
    every, layers = whole(config, "no_rope_layer_interval", 4), whole(config, "num_hidden_layers")
    turned = [int((i + 1) % every != 0) for i in range(layers)]
    return {**config, "no_rope_layers": config.get("no_rope_layers") or turned}


def _stablelm(config: Config) -> dict[str, object]:
    """Attention and MLP side by side share one norm."""
    return {**config, "norms": 1 if config.get("use_parallel_residual") else 2}


def _baichuan(config: Config) -> dict[str, object]:
    """The larger model (hidden size 5120) has ALiBi, as its code has it; no key says so."""
    return {**config, "alibi": config.get("hidden_size") != 4096}


def _chatglm(config: Config) -> dict[str, object]:
    """ChatGLM2, 3 and GLM-4: groups of heads only where ``multi_query_attention`` is set."""
    grouped = config.get("multi_query_attention")
    return {
        **config,
        "num_key_value_heads": config.get("multi_query_group_num") if grouped else None,
        "attention_bias": config.get("add_bias_linear", False),
    }


def _qwen(config: Config) -> dict[str, object]:
    """``intermediate_size`` counts gate and up together."""
    return {**config, "intermediate_size": whole(config, "intermediate_size") // 2}


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


def _internlm(config: Config) -> dict[str, object]:
    return {**config, "attention_bias": config.get("bias", True)}


ROWS: dict[str, Row] = {
    "internlm": Row(class_name="InternLMForCausalLM", prepare=_internlm, fixed={"mlp_bias": False}),
    "internlm2": Row(
        class_name="InternLM2ForCausalLM",
        names=names_below(
            LAYER,
            qkv_proj="attention.wqkv",
            o_proj="attention.wo",
            mlp_up="feed_forward.w1 feed_forward.w3",
            mlp_down="feed_forward.w2",
        ),
        keys={"attention_bias": "bias"},
        usual={"attention_bias": True},
        fixed={"mlp_bias": False},
    ),
    "internlm3": Row(
        class_name="InternLM3ForCausalLM",
        also=("LlamaForCausalLM",),
        keys={"output_bias": "bias", "mlp_bias": "bias"},
        usual={"head_dim": 128},
    ),
    "baichuan": Row(
        class_name="BaichuanForCausalLM",
        also=("BaiChuanForCausalLM",),
        names=names_below(
            LAYER,
            qkv_proj="self_attn.W_pack",
            o_proj="self_attn.o_proj",
            mlp_up="mlp.gate_proj mlp.up_proj",
            mlp_down="mlp.down_proj",
        ),
        fixed={**UNBIASED, "num_key_value_heads": None},
        prepare=_baichuan,
    ),
    "xverse": Row(class_name="XverseForCausalLM", fixed=UNBIASED),
    "aquila": Row(class_name="AquilaForCausalLM", also=("AquilaModel",), fixed=UNBIASED),
    "Yi": Row(class_name="YiForCausalLM", fixed=UNBIASED),
    "orion": Row(class_name="OrionForCausalLM", norm="layernorm", fixed={"mlp_bias": False}),
    "minicpm": Row(
        class_name="MiniCPMForCausalLM", usual={"tie_word_embeddings": True}, fixed=UNBIASED
    ),
    "qwen": Row(
        class_name="QWenLMHeadModel",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="attn.c_attn",
            o_proj="attn.c_proj",
            mlp_up="mlp.w2 mlp.w1",
            mlp_down="mlp.c_proj",
        ),
        keys={
            "rms_norm_eps": "layer_norm_epsilon",
            "head_dim": "kv_channels",
            "rope_theta": "rotary_emb_base",
            "partial_rotary_factor": "rotary_pct",
        },
        fixed={"qkv_bias": True, **UNBIASED, "num_key_value_heads": None},
        prepare=_qwen,
    ),
    "mimo": Row(
        class_name="MiMoForCausalLM",
        usual={"attention_bias": True},
        fixed={"output_bias": False, "mlp_bias": False, "sliding_window": None},
    ),
    "seed_oss": Row(
        class_name="SeedOssForCausalLM",
        keys={"output_bias": "attention_out_bias"},
        usual={"attention_bias": True, "output_bias": False, "head_dim": 128},
    ),
    "smollm3": Row(
        class_name="SmolLM3ForCausalLM",
        usual={"tie_word_embeddings": True, "rope_theta": 2_000_000.0},
        prepare=_smollm3,
    ),
    "granite": Row(class_name="GraniteForCausalLM"),
    "exaone": Row(
        class_name="ExaoneForCausalLM",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="attn.attention.q_proj attn.attention.k_proj attn.attention.v_proj",
            o_proj="attn.attention.out_proj",
            mlp_up="mlp.c_fc_0 mlp.c_fc_1",
            mlp_down="mlp.c_proj",
        ),
        keys={
            "num_hidden_layers": "num_layers",
            "rms_norm_eps": "layer_norm_epsilon",
            "hidden_act": "activation_function",
        },
        fixed=UNBIASED,
    ),
    "ministral3": Row(
        class_name="Ministral3ForCausalLM",
        also=("Mistral3ForConditionalGeneration",),
        usual={"head_dim": 128},
        fixed=UNBIASED,
    ),
    "ernie4_5": Row(
        class_name="Ernie4_5ForCausalLM",
        also=("Ernie4_5_ForCausalLM",),
        keys={"attention_bias": "use_bias", "mlp_bias": "use_bias"},
        usual={"tie_word_embeddings": True, "head_dim": 128},
    ),
    "hunyuan_v1_dense": Row(
        class_name="HunYuanDenseV1ForCausalLM", qk_norm="head", fixed={"mlp_bias": False}
    ),
    "gemma": Row(
        class_name="GemmaForCausalLM",
        usual={"tie_word_embeddings": True, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh"},
        fixed={"mlp_bias": False},
    ),
    "glm": Row(
        class_name="GlmForCausalLM",
        names=_GLM,
        usual={"attention_bias": True, "partial_rotary_factor": 0.5, "head_dim": 128},
        fixed={"output_bias": False, "mlp_bias": False},
    ),
    "glm4": Row(
        class_name="Glm4ForCausalLM",
        names=_GLM,
        norms=4,
        usual={"attention_bias": True, "partial_rotary_factor": 0.5, "head_dim": 128},
        fixed={"output_bias": False, "mlp_bias": False},
    ),
    "chatglm": Row(
        class_name="ChatGLMModel",
        also=("ChatGLMForConditionalGeneration",),
        names=names_below(
            "transformer.encoder.layers.{i}",
            qkv_proj="self_attention.query_key_value",
            o_proj="self_attention.dense",
            mlp_up="mlp.dense_h_to_4h",
            mlp_down="mlp.dense_4h_to_h",
        ),
        keys={
            "vocab_size": "padded_vocab_size",
            "num_hidden_layers": "num_layers",
            "intermediate_size": "ffn_hidden_size",
            "head_dim": "kv_channels",
            "rms_norm_eps": "layernorm_epsilon",
            "max_position_embeddings": "seq_length",
            "qkv_bias": "add_qkv_bias",
            "mlp_bias": "add_bias_linear",
        },
        usual={"partial_rotary_factor": 0.5},
        prepare=_chatglm,
    ),
    "olmo": Row(
        class_name="OlmoForCausalLM",
        also=("OLMoForCausalLM",),
        norm="layernorm",
        norm_vectors=0,
        fixed={"mlp_bias": False},
    ),
    "olmo2": Row(class_name="Olmo2ForCausalLM", qk_norm="width", fixed={"mlp_bias": False}),
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
ROWS["glm4v_text"] = replace(
    ROWS["glm4"],
    class_name="Glm4vForConditionalGeneration",
    fixed={"attention_bias": True, "output_bias": False, "mlp_bias": False},
)
ROWS["RefinedWeb"] = ROWS["RefinedWebModel"] = ROWS["falcon"]
ROWS["stablelm_epoch"] = ROWS["stablelm"]

FAMILIES: dict[str, Family] = {model_type: family(row) for model_type, row in ROWS.items()}
