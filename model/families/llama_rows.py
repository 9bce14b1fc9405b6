"""Dense families that are nearly Llama: rotary positions, RMSNorm, gated MLPs."""

from dataclasses import replace

from model.config_keys import count, whole
from model.errors import ConfigError
from model.families.keys import Config, Family
from model.families.llama import ATTENTION, LAYER
from model.families.plain import FULL, SLIDING, family
from model.families.row import Row
from model.quantization.modules import names_below

UNBIASED = {"attention_bias": False, "mlp_bias": False}

_GLM = names_below(LAYER, **ATTENTION, mlp_up="mlp.gate_up_proj", mlp_down="mlp.down_proj")


def _smollm3(config: Config) -> dict[str, object]:
    """Every ``no_rope_layer_interval``-th layer rotates nothing, where no list says which.

    Those have the window, where ``use_sliding_window`` and no list says which.
    """
    every, layers = count(config, "no_rope_layer_interval", 4), whole(config, "num_hidden_layers")
    turned = config.get("no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
    given = {**config, "no_rope_layers": turned}
    if config.get("layer_types") is not None:
        return given
    if not config.get("use_sliding_window"):
        return {**given, "sliding_window": None}
    kinds = [FULL if one else SLIDING for one in turned] if isinstance(turned, list) else None
    return {**given, "layer_types": kinds}


def _hunyuan_vl(config: Config) -> dict[str, object]:
    """Some of Tencent's files write two keys under other names."""
    named = {"head_dim": "attention_head_dim", "vocab_size": "org_vocab_size"}
    return {
        **config, **{key: config.get(key, config.get(other)) for key, other in named.items()}
    }  # fmt: skip


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


def _internlm(config: Config) -> dict[str, object]:
    return {**config, "attention_bias": config.get("bias", True)}


def _muse(config: Config) -> dict[str, object]:
    """Layers whose base of rotary frequencies is 0 rotate nothing.

    Every fourth from the last on attends everything, where no list says which do.
    """
    bases, last = config.get("layer_rope_theta"), whole(config, "num_hidden_layers") - 1
    turned = [int(bool(base)) for base in bases] if isinstance(bases, list) else None
    kinds = config.get("layer_types") or [
        SLIDING if (last - i) % 4 else FULL for i in range(last + 1)
    ]
    return {**config, "no_rope_layers": turned, "rope_theta": None, "layer_types": kinds}


def _hyperclovax(config: Config) -> dict[str, object]:
    """Norms behind mixer and MLP as well, unless ``use_post_norm`` is off."""
    return {**config, "norms": 4 if config.get("use_post_norm", True) else 2}


def _helium(config: Config) -> dict[str, object]:
    """The matrix behind the attention is square, whatever ``head_dim`` says."""
    heads, hidden = whole(config, "num_attention_heads", 20), whole(config, "hidden_size", 2560)
    head = whole(config, "head_dim", 128)
    if heads * head != hidden:
        raise ConfigError(
            f"head_dim = {head}: expected {hidden // max(heads, 1)}, so that {heads} attention "
            f"heads are as wide as hidden_size = {hidden}"
        )
    return dict(config)


def _cwm(config: Config) -> dict[str, object]:
    """Every fourth layer from the first on attends everything, where no list says which do."""
    places = range(whole(config, "num_hidden_layers"))
    kinds = config.get("layer_types") or [SLIDING if i % 4 else FULL for i in places]
    return {**config, "layer_types": kinds}


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
        keys={"output_bias": "mlp_bias"},
        usual={"head_dim": 128, "output_bias": False},
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
    "minicpm": Row(
        class_name="MiniCPMForCausalLM",
        usual={"tie_word_embeddings": True},
        fixed=UNBIASED,
        experts=True,
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
    "olmo2": Row(class_name="Olmo2ForCausalLM", qk_norm="width", fixed={"mlp_bias": False}),
    "muse_glimmer_text": Row(
        class_name="MuseGlimmerForConditionalGeneration",
        norms=4,
        gate=True,
        keys={"hidden_act": "hidden_activation"},
        usual={"head_dim": 128, "sliding_window": 2048},
        fixed={"mlp_bias": False},
        prepare=_muse,
    ),
    "cwm": Row(
        class_name="CwmForCausalLM",
        usual={"head_dim": 128, "sliding_window": 8192},
        fixed={"attention_bias": False},
        prepare=_cwm,
    ),
    "helium": Row(
        class_name="HeliumForCausalLM",
        usual={"head_dim": 128, "rope_theta": 100_000.0},
        fixed={"output_bias": False},
        prepare=_helium,
    ),
    "iquestcoder": Row(
        class_name="IQuestCoderForCausalLM", also=("LlamaForCausalLM",), usual={"head_dim": 128}
    ),
    "hyperclovax": Row(class_name="HyperCLOVAXForCausalLM", prepare=_hyperclovax),
    "ministral": Row(
        class_name="MinistralForCausalLM", usual={"sliding_window": 4096}, fixed=UNBIASED
    ),
}  # fmt: skip
ROWS["glm4v_text"] = replace(
    ROWS["glm4"],
    class_name="Glm4vForConditionalGeneration",
    fixed={"attention_bias": True, "output_bias": False, "mlp_bias": False},
)
ROWS["glm_ocr_text"] = replace(
    ROWS["glm4"],
    class_name="GlmOcrForConditionalGeneration",
    usual={},
    fixed={"attention_bias": False, "output_bias": False, "mlp_bias": False},
)
ROWS["hunyuan_vl_text"] = replace(
    ROWS["hunyuan_v1_dense"],
    class_name="HunYuanVLForConditionalGeneration",
    usual={"tie_word_embeddings": True},
    prepare=_hunyuan_vl,
)
ROWS["paddleocr_vl_text"] = replace(
    ROWS["ernie4_5"], class_name="PaddleOCRVLForConditionalGeneration"
)

FAMILIES: dict[str, Family] = {model_type: family(row) for model_type, row in ROWS.items()}
