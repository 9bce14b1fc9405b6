"""Families whose keys are not Llama's: GPT-2's heirs, BLOOM, MPT and DBRX."""

from model.config_keys import nested, whole
from model.errors import ConfigError
from model.families.keys import Config, Family
from model.families.plain import family
from model.families.row import Row
from model.quantization.modules import names_below

GPT_KEYS = {
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
    "max_position_embeddings": "n_positions",
    "rms_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
}
ALL_BIASES = {"attention_bias": True, "mlp_bias": True}
ONE_HEAD_EACH = {"num_key_value_heads": None}
"""Of keys and values, for every head of queries: the family has no key for them."""


def _fourfold(config: Config, width: str = "n_inner", hidden: str = "n_embd") -> dict[str, object]:
    """An MLP four times as wide as the model, where the file does not say."""
    return {**config, "intermediate_size": config.get(width) or 4 * whole(config, hidden)}


def _bigcode(config: Config) -> dict[str, object]:
    """One KV head for all, unless ``multi_query`` is off."""
    heads = 1 if config.get("multi_query", True) else config.get("n_head")
    return {**_fourfold(config), "num_key_value_heads": heads}


def _bloom(config: Config) -> dict[str, object]:
    """Older files say ``n_embed`` and ``num_attention_heads``; positions are not limited."""
    hidden = config.get("hidden_size", config.get("n_embed"))
    given = {
        **config,
        "hidden_size": hidden,
        "n_head": config.get("n_head", config.get("num_attention_heads")),
        "n_layer": config.get("n_layer", config.get("num_hidden_layers")),
        "alibi": True,
    }
    return _fourfold(given, "ffn_hidden_size", "hidden_size")


def _mpt(config: Config) -> dict[str, object]:
    attention, bias = nested(config, "attn_config"), not config.get("no_bias", True)
    if not attention.get("alibi", True):
        raise ConfigError(
            "attn_config.alibi = False: expected True; learned positions of MPT are not modelled"
        )
    if attention.get("qk_ln"):
        raise ConfigError("attn_config.qk_ln = True: expected False; such norms are not modelled")
    return {
        **config,
        "intermediate_size": whole(config, "d_model") * whole(config, "expansion_ratio", 4),
        "num_key_value_heads": attention.get("kv_n_heads"),
        "attention_bias": bias,
        "mlp_bias": bias,
    }


def _dbrx(config: Config) -> dict[str, object]:
    attention, experts = nested(config, "attn_config"), nested(config, "ffn_config")
    act = nested(experts, "ffn_act_fn")
    return {
        **config,
        "num_key_value_heads": attention.get("kv_n_heads", 1),
        "rope_theta": attention.get("rope_theta"),
        "intermediate_size": experts.get("ffn_hidden_size", 3584),
        "num_experts": experts.get("moe_num_experts", 4),
        "num_experts_per_tok": experts.get("moe_top_k", 1),
        "hidden_act": act.get("name", "silu"),
    }


def _jais(config: Config) -> dict[str, object]:
    """ALiBi and SwiGLU in the published ones; the first had learned positions."""
    if config.get("position_embedding_type") != "alibi":
        raise ConfigError(
            f"position_embedding_type = {config.get('position_embedding_type')!r}: expected "
            "'alibi'; others of Jais are not modelled"
        )
    return _fourfold(config)


_GPT2_NAMES = names_below(
    "transformer.h.{i}",
    qkv_proj="attn.c_attn",
    o_proj="attn.c_proj",
    mlp_up="mlp.c_fc",
    mlp_down="mlp.c_proj",
)

ROWS: dict[str, Row] = {
    "gptj": Row(
        class_name="GPTJForCausalLM",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="attn.q_proj attn.k_proj attn.v_proj",
            o_proj="attn.out_proj",
            mlp_up="mlp.fc_in",
            mlp_down="mlp.fc_out",
        ),
        norm="layernorm",
        norms=1,
        gated=False,
        keys=GPT_KEYS,
        usual={"hidden_act": "gelu_new", "rotary_dim": 64, "max_position_embeddings": 2048},
        fixed={**ONE_HEAD_EACH, "attention_bias": False, "mlp_bias": True, "logit_bias": True},
        not_read=("rope_scaling", "rope_parameters"),
        prepare=_fourfold,
    ),
    "codegen": Row(
        class_name="CodeGenForCausalLM",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="attn.qkv_proj",
            o_proj="attn.out_proj",
            mlp_up="mlp.fc_in",
            mlp_down="mlp.fc_out",
        ),
        norm="layernorm",
        norms=1,
        gated=False,
        keys=GPT_KEYS,
        usual={"hidden_act": "gelu_new", "rotary_dim": 64, "max_position_embeddings": 2048},
        fixed={**ONE_HEAD_EACH, "attention_bias": False, "mlp_bias": True, "logit_bias": True},
        prepare=_fourfold,
    ),
    "gpt_bigcode": Row(
        class_name="GPTBigCodeForCausalLM",
        names=_GPT2_NAMES,
        norm="layernorm",
        gated=False,
        rotary=False,
        position_rows=0,
        keys=GPT_KEYS,
        usual={"hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True},
        fixed=ALL_BIASES,
        prepare=_bigcode,
    ),
    "jais": Row(
        class_name="JAISLMHeadModel",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="attn.c_attn",
            o_proj="attn.c_proj",
            mlp_up="mlp.c_fc2 mlp.c_fc",
            mlp_down="mlp.c_proj",
        ),
        norm="layernorm",
        rotary=False,
        keys=GPT_KEYS,
        usual={"hidden_act": "swiglu", "tie_word_embeddings": True},
        fixed=ALL_BIASES,
        prepare=_jais,
    ),
    "bloom": Row(
        class_name="BloomForCausalLM",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="self_attention.query_key_value",
            o_proj="self_attention.dense",
            mlp_up="mlp.dense_h_to_4h",
            mlp_down="mlp.dense_4h_to_h",
        ),
        norm="layernorm",
        gated=False,
        embedding_norm=True,
        rotary=False,
        keys={
            "num_attention_heads": "n_head",
            "num_hidden_layers": "n_layer",
            "rms_norm_eps": "layer_norm_epsilon",
        },
        usual={
            "hidden_act": "gelu_new", "tie_word_embeddings": True, "max_position_embeddings": 2048,
        },
        fixed={**ALL_BIASES, **ONE_HEAD_EACH},
        prepare=_bloom,
    ),
    "mpt": Row(
        class_name="MPTForCausalLM",
        also=("MptForCausalLM",),
        names=names_below(
            "transformer.blocks.{i}",
            qkv_proj="attn.Wqkv",
            o_proj="attn.out_proj",
            mlp_up="ffn.up_proj",
            mlp_down="ffn.down_proj",
        ),
        norm="layernorm",
        norm_vectors=1,
        gated=False,
        rotary=False,
        keys={
            "hidden_size": "d_model",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
            "rms_norm_eps": "layer_norm_epsilon",
        },
        usual={"hidden_act": "gelu", "tie_word_embeddings": True},
        prepare=_mpt,
    ),
    "phi-msft": Row(
        class_name="PhiForCausalLM",
        names=names_below(
            "transformer.h.{i}",
            qkv_proj="mixer.Wqkv",
            o_proj="mixer.out_proj",
            mlp_up="mlp.fc1",
            mlp_down="mlp.fc2",
        ),
        norm="layernorm",
        norms=1,
        gated=False,
        keys={**GPT_KEYS, "num_key_value_heads": "n_head_kv"},
        usual={"hidden_act": "gelu_new", "rotary_dim": 32},
        fixed={**ALL_BIASES, "logit_bias": True},
        prepare=_fourfold,
    ),
    "dbrx": Row(
        class_name="DbrxForCausalLM",
        experts=True,
        names=names_below(
            "transformer.blocks.{i}",
            qkv_proj="norm_attn_norm.attn.Wqkv",
            o_proj="norm_attn_norm.attn.out_proj",
            experts="ffn.experts.mlp",
        ),
        norm="layernorm",
        norm_vectors=1,
        keys={
            "hidden_size": "d_model",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
        },
        usual={"rms_norm_eps": 1e-5},
        fixed={"attention_bias": False, "mlp_bias": False},
        prepare=_dbrx,
    ),
}  # fmt: skip

FAMILIES: dict[str, Family] = {model_type: family(row) for model_type, row in ROWS.items()}
