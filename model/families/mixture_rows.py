"""Mixtures of experts behind plain attention: routed and shared ones, dense layers between them."""

from collections.abc import Sequence
from dataclasses import replace

from model.config_keys import count, whole
from model.errors import ConfigError
from model.families.keys import Config, Family
from model.families.llama import ATTENTION, LAYER
from model.families.plain import FULL, SLIDING, family
from model.families.row import Row
from model.quantization.modules import Names, names_below

UNBIASED = {"attention_bias": False, "mlp_bias": False}


def expert_names(
    experts: str = "mlp.experts.{j}",
    shared: str = "mlp.shared_experts",
    matrices: str = "gate_proj up_proj down_proj",
    dense: str = "mlp",
) -> Names:
    """Return names of Llama's attention and of experts: gate, up and down."""
    gate, up, down = matrices.split()
    return names_below(
        LAYER,
        **ATTENTION,
        mlp_up=f"{dense}.{gate} {dense}.{up}",
        mlp_down=f"{dense}.{down}",
        shared_mlp_up=f"{shared}.{gate} {shared}.{up}",
        shared_mlp_down=f"{shared}.{down}",
        experts=f"{experts}.{gate} {experts}.{up} {experts}.{down}",
    )


def shared(config: Config, count: str, width: str) -> dict[str, object]:
    """Return a file with ``shared_width``: so many experts of the routed ones' width as one."""
    each = whole(config, width) or whole(config, "intermediate_size")
    return {**config, "shared_width": whole(config, count) * each}


def _deepseek(config: Config) -> dict[str, object]:
    """Experts in every ``moe_layer_freq``-th layer behind the first dense ones."""
    first, every = whole(config, "first_k_dense_replace"), count(config, "moe_layer_freq", 1)
    places = range(whole(config, "num_hidden_layers"))
    given = shared(config, "n_shared_experts", "moe_intermediate_size")
    return {**given, "moe_layers": [i >= first and i % every == 0 for i in places]}


def _dots(config: Config) -> dict[str, object]:
    """DeepSeek's experts; with ``use_sliding_window`` a window behind ``max_window_layers``."""
    given, full = _deepseek(config), whole(config, "max_window_layers", 62)
    if config.get("layer_types") is not None:
        return given
    if not config.get("use_sliding_window"):
        return {**given, "sliding_window": None}
    kinds = [FULL if i < full else SLIDING for i in range(whole(config, "num_hidden_layers"))]
    return {"sliding_window": 4096, **given, "layer_types": kinds}


def _ernie(config: Config) -> dict[str, object]:
    """Experts in every ``moe_layer_interval``-th layer from the first to the last that has some."""
    first, every = whole(config, "moe_layer_start_index", 1), count(config, "moe_layer_interval", 1)
    last, layers = whole(config, "moe_layer_end_index", -1), whole(config, "num_hidden_layers")
    last = layers - 1 if last == -1 else last
    given = shared(
        {"moe_num_shared_experts": 2, **config}, "moe_num_shared_experts", "moe_intermediate_size"
    )
    sparse = [(i + 1) % every == 0 and first <= i <= last for i in range(layers)]
    return {**given, "moe_layers": sparse}


def _hunyuan(config: Config) -> dict[str, object]:
    """Lists with one entry per layer, which must all be equal; shared experts are one."""
    given = dict(config)
    for key in ("moe_topk", "num_shared_expert", "moe_intermediate_size", "num_experts"):
        value = config.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and len({*value}) == 1:
            given[key] = value[0]
    given["num_shared_expert"] = given.get("num_shared_expert", 1)
    if not config.get("use_mixed_mlp_moe", True):
        given["num_shared_expert"] = 0
    return shared(given, "num_shared_expert", "intermediate_size")


def _bailing(config: Config) -> dict[str, object]:
    given = shared(config, "num_shared_experts", "moe_intermediate_size")
    biased = config.get("use_qkv_bias", config.get("use_bias", False))
    return {**given, "qkv_bias": biased, "output_bias": config.get("use_bias", False)}


def _glm4_moe(config: Config) -> dict[str, object]:
    return shared(config, "n_shared_experts", "moe_intermediate_size")


def _solar(config: Config) -> dict[str, object]:
    """No layer is dense, and no key says how wide one were."""
    return {**_glm4_moe(config), "intermediate_size": config.get("moe_intermediate_size")}


def _arctic(config: Config) -> dict[str, object]:
    """A dense MLP as wide as the model beside the experts of a layer, behind a norm of its own."""
    every, layers = count(config, "moe_layer_frequency", 2), whole(config, "num_hidden_layers")
    if not config.get("parallel_attn_mlp_res", True) or not config.get("use_residual", True):
        raise ConfigError(
            "parallel_attn_mlp_res = False: expected True; Arctic without the MLP "
            "beside its experts is not modelled"
        )
    if every != 1:
        raise ConfigError(f"moe_layer_frequency = {every}: expected 1, experts in every layer")
    sparse = [(i + 1) % every == 0 for i in range(layers)]
    return {**config, "shared_width": config.get("hidden_size"), "moe_layers": sparse}


def _hy_v3(config: Config) -> dict[str, object]:
    """``mlp_layer_types`` says which layers are dense; the first is, where it does not."""
    given = {"num_shared_experts": 1, **config}
    given = shared(given, "num_shared_experts", "moe_intermediate_size")
    kinds = config.get("mlp_layer_types")
    if isinstance(kinds, Sequence):
        given["moe_layers"] = [kind == "sparse" for kind in kinds]
    return given


def _ernie_vl(config: Config) -> dict[str, object]:
    """Lists tell experts of texts and of images apart; those of texts are the model's."""
    given = dict(config)
    for key in (
        "moe_num_experts",
        "moe_intermediate_size",
        "moe_layer_start_index",
        "moe_layer_end_index",
    ):
        value = config.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            given[key] = value[0]
    kinds = config.get("mlp_layer_types")
    told = _ernie(given)
    if isinstance(kinds, Sequence):
        told["moe_layers"] = [kind == "sparse" for kind in kinds]
    return told


ROUTED = {"num_experts": "n_routed_experts"}

ROWS: dict[str, Row] = {
    "deepseek": Row(
        class_name="DeepseekForCausalLM",
        names=expert_names(),
        keys=ROUTED,
        fixed={"mlp_bias": False},
        prepare=_deepseek,
    ),
    "dots1": Row(
        class_name="Dots1ForCausalLM",
        names=expert_names(),
        qk_norm="head",
        keys=ROUTED,
        fixed={"mlp_bias": False},
        prepare=_dots,
    ),
    "glm4_moe": Row(
        class_name="Glm4MoeForCausalLM",
        names=expert_names(),
        qk_norm="head",
        keys=ROUTED,
        usual={"use_qk_norm": False, "partial_rotary_factor": 0.5, "first_k_dense_replace": 1},
        fixed={"mlp_bias": False, "output_bias": False, "router_float32": True},
        prepare=_glm4_moe,
    ),
    "ernie4_5_moe": Row(
        class_name="Ernie4_5_MoeForCausalLM",
        also=("Ernie4_5_MoEForCausalLM",),
        names=expert_names(),
        keys={
            "attention_bias": "use_bias",
            "mlp_bias": "use_bias",
            "logit_bias": "use_bias",
            "num_experts": "moe_num_experts",
            "num_experts_per_tok": "moe_k",
        },
        usual={"tie_word_embeddings": True, "rope_theta": 500_000.0},
        fixed={"router_bias": True, "router_float32": True},
        prepare=_ernie,
    ),
    "arctic": Row(
        class_name="ArcticForCausalLM",
        names=expert_names(
            "block_sparse_moe.experts.{j}", "residual_mlp", "w1 w3 w2", "block_sparse_moe.mlp"
        ),
        norms=3,
        keys={"num_experts": "num_local_experts"},
        usual={"num_experts": 8, "num_experts_per_tok": 1},
        fixed=UNBIASED,
        prepare=_arctic,
    ),
    "hy_v3": Row(
        class_name="HYV3ForCausalLM",
        names=expert_names(),
        qk_norm="head",
        usual={"first_k_dense_replace": 1, "head_dim": 128},
        prepare=_hy_v3,
    ),
    "solar_open": Row(
        class_name="SolarOpenForCausalLM",
        names=expert_names(),
        keys=ROUTED,
        usual={"head_dim": 128},
        fixed={"mlp_bias": False, "output_bias": False},
        prepare=_solar,
    ),
    "hunyuan_v1_moe": Row(
        class_name="HunYuanMoEV1ForCausalLM",
        also=("HunYuanMoeV1ForCausalLM",),
        names=expert_names(shared="mlp.shared_mlp"),
        qk_norm="head",
        keys={"num_experts_per_tok": "moe_topk"},
        fixed={"mlp_bias": False, "moe_intermediate_size": None},
        prepare=_hunyuan,
    ),
    "bailing_moe": Row(
        class_name="BailingMoeForCausalLM",
        names=expert_names(),
        usual={"use_qk_norm": False},
        qk_norm="head",
        fixed={"mlp_bias": False},
        prepare=_bailing,
    ),
    "bailing_moe_v2": Row(
        class_name="BailingMoeV2ForCausalLM",
        names=expert_names(),
        usual={"use_qk_norm": True, "partial_rotary_factor": 0.5},
        qk_norm="head",
        fixed={"mlp_bias": False},
        prepare=_bailing,
    ),
    "minimax_m2": Row(
        class_name="MiniMaxM2ForCausalLM",
        names=expert_names("block_sparse_moe.experts.{j}", matrices="w1 w3 w2"),
        qk_norm="width",
        keys={"num_experts": "num_local_experts"},
        fixed={**UNBIASED, "router_float32": True},
    ),
    "olmoe": Row(
        class_name="OlmoeForCausalLM",
        names=expert_names(),
        qk_norm="width",
        usual={"num_experts": 64, "num_experts_per_tok": 8},
        fixed={"mlp_bias": False, "moe_intermediate_size": None},
    ),
    "flex_olmo": Row(
        class_name="FlexOlmoForCausalLM",
        names=expert_names(),
        qk_norm="width",
        usual={"num_experts": 7, "num_experts_per_tok": 5},
        fixed={"mlp_bias": False, "moe_intermediate_size": None},
    ),
    "phimoe": Row(
        class_name="PhiMoEForCausalLM",
        also=("PhimoeForCausalLM",),
        names=expert_names("block_sparse_moe.experts.{j}", matrices="w1 w3 w2"),
        norm="layernorm",
        keys={"num_experts": "num_local_experts", "logit_bias": "lm_head_bias"},
        usual={"num_experts": 16, "num_experts_per_tok": 2},
        fixed={"mlp_bias": False},
    ),
    "granitemoe": Row(
        class_name="GraniteMoeForCausalLM",
        names=names_below(LAYER, **ATTENTION, experts="block_sparse_moe.input_linear "
                          "block_sparse_moe.output_linear"),
        keys={"num_experts": "num_local_experts"},
        usual={"num_experts": 8, "num_experts_per_tok": 2},
        fixed={"mlp_bias": False},
    ),
    "granitemoeshared": Row(
        class_name="GraniteMoeSharedForCausalLM",
        names=names_below(LAYER, **ATTENTION, mlp_up="shared_mlp.input_linear",
                          mlp_down="shared_mlp.output_linear",
                          experts="block_sparse_moe.input_linear block_sparse_moe.output_linear"),
        keys={"num_experts": "num_local_experts", "shared_width": "shared_intermediate_size"},
        usual={"num_experts": 8, "num_experts_per_tok": 2},
        fixed={"mlp_bias": False},
    ),
}  # fmt: skip

ROWS["ernie4_5_vl_moe_text"] = replace(
    ROWS["ernie4_5_moe"],
    class_name="Ernie4_5_VLMoeForConditionalGeneration",
    prepare=_ernie_vl,
)
ROWS["glm4v_moe_text"] = replace(
    ROWS["glm4_moe"],
    class_name="Glm4vMoeForConditionalGeneration",
    usual={**ROWS["glm4_moe"].usual, "attention_bias": True},
)

FAMILIES: dict[str, Family] = {
    model_type: family(replace(row, experts=True)) for model_type, row in ROWS.items()
}
