"""Published names find their model, and tell the quantization of its weights."""

import pytest

from model.mixers.attention import Attention
from model.ops import rank_weight_bytes
from model.precision import precision
from model.quantization.weights import PLAIN
from model.spec import UnknownModelError, catalogue, load_spec, resolve_model


@pytest.mark.parametrize(
    ("name", "model", "quantization"),
    [
        ("codellama/CodeLlama-34b-Instruct-hf", "codellama-34b", None),
        ("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "llama-4-scout-17b-16e", "fp8"),
        ("meta-llama/Llama-3.1-70B(-Instruct)", "llama-3.1-70b", None),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b", None),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b", "fp8"),
        ("Qwen/Qwen-2.5-14B", "qwen2.5-14b", None),
        ("mistralai/Mistral-Nemo-Instruct-2407", "mistral-nemo-12b", None),
        ("mistralai/Mistral-7B-v0.1", "mistral-7b", None),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-7b-v0.3", None),
        ("TheBloke/Llama-2-13B-chat-AWQ", "llama-2-13b", "int4"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.3-70b", "fp4"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", "llama-3.1-70b", "int8"),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "llama-3.2-1b", "int4"),
        ("LLAMA2_7b", "llama-2-7b", None),
        ("mixtral-8x7b-instruct-v0-1", "mixtral-8x7b", None),
        ("llama_3_1_70b", "llama-3.1-70b", None),
        ("qwen2-5-7b-instruct-awq", "qwen2.5-7b", "int4"),
        ("deepseek-r1-distill-qwen-1-5b", "qwen2.5-1.5b", None),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-v3", None),
        ("deepseek-r1-fp4", "deepseek-v3", "fp4"),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "deepseek-v3", "fp4"),
        ("amd/DeepSeek-R1-0528-MXFP4-Preview", "deepseek-v3", "fp4"),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "nemotron-3-nano-30b-a3b", None),
        ("moonshotai/Kimi-K2.7-Code", "kimi-k2.5", None),
        ("OpenGVLab/InternVL3_5-8B", "internvl3.5-8b", None),
        ("mistralai/Ministral-3-8B-Reasoning-2512", "ministral-3-8b", None),
        ("mistralai/Ministral-3-8B-Instruct-2512", "ministral-3-8b", "fp8"),
        ("mistralai/Ministral-3-8B-Instruct-2512-BF16", "ministral-3-8b", None),
        ("CohereLabs/c4ai-command-a-03-2025", "command-a-111b", None),
        ("lmsys/vicuna-13b-v1.5", "llama-2-13b", None),
        ("microsoft/Phi-3-mini-128k-instruct", "phi-3-mini-128k", None),
        ("mistralai/Mistral-Large-3-675B-Instruct-2512", "mistral-large-3-675b", None),
        ("mistralai/Mistral-Medium-3.5-128B", "mistral-medium-3.5-128b", None),
        ("google/gemma-4-E4B-it", "gemma-4-e4b", None),
        ("tencent/HunyuanOCR", "hunyuan-ocr", None),
        ("deepseek-ai/DeepSeek-OCR-2", "deepseek-ocr-2", None),
        ("openbmb/MiniCPM-V-4.6", "minicpm-v-4.6", None),
        ("Qwen/Qwen3.8-27B", "qwen3.6-27b", None),
        ("Qwen/Qwen3-Coder-Next-FP8", "qwen3-next-80b-a3b", "fp8"),
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1_5", "llama-3.3-nemotron-super-49b-v1", None),
        ("google/medgemma-4b-it", "gemma-3-4b", None),
        ("CohereLabs/c4ai-command-r-v01", "command-r-35b", None),
        ("nvidia/NVIDIA-Nemotron-3-Nano-4B-BF16", "nemotron-3-nano-4b", None),
    ],
)
def test_published_names(name: str, model: str, quantization: str | None) -> None:
    found = resolve_model(name)
    assert (found.model, found.quantization) == (model, quantization)


def test_what_the_first_checkpoint_holds_is_taken_unless_the_name_says_otherwise() -> None:
    own = load_spec("openai/gpt-oss-120b").checkpoint.weights
    assert own.method == "mxfp4"
    assert load_spec("unsloth/gpt-oss-120b-BF16").checkpoint.weights == PLAIN
    for name in (
        "moonshotai/Kimi-K2-Instruct", "XiaomiMiMo/MiMo-V2-Flash",
        "mistralai/Mistral-Small-4-119B-2603",
    ):  # fmt: skip
        assert load_spec(name).checkpoint.weights.method == "fp8", name
    flash = load_spec("XiaomiMiMo/MiMo-V2-Flash").checkpoint.weights
    assert str(flash.of("experts", (7,))[0][0]) == "fp8, 128 x 128 blocks"
    assert flash.of("o_proj", (7,))[0][0] is None
    thinking = load_spec("moonshotai/Kimi-K2-Thinking")
    assert str(thinking.checkpoint.weights.of("experts", (1,))[0][0]).startswith("int4")
    assert thinking.max_model_len == 262_144


def test_what_publishers_leave_alone_in_fp4() -> None:
    def scheme(name: str, module: str) -> str:
        return str(load_spec(name).checkpoint.weights.of(module, (5,))[0][0])

    assert scheme("nvidia/Kimi-K2.6-NVFP4", "experts").startswith("fp4")
    assert scheme("nvidia/Kimi-K2.6-NVFP4", "mlp_up") == "None"
    assert scheme("nvidia/Kimi-K2.5-NVFP4", "mlp_up").startswith("fp4")
    assert scheme("nvidia/Kimi-K2.5-NVFP4", "o_proj") == "None"
    assert scheme("nvidia/DeepSeek-R1-0528-NVFP4-v2", "o_proj").startswith("fp4")
    assert scheme("nvidia/DeepSeek-R1-0528-NVFP4-v2", "kv_b_proj") == "None"
    assert scheme("nvidia/Qwen3-32B-NVFP4", "qkv_proj").startswith("fp4")
    assert scheme("zai-org/GLM-5.2-FP8", "experts") == "fp8, 128 x 128 blocks"


def test_a_version_that_changes_the_shape_is_kept() -> None:
    first, third = load_spec("Mistral-7B-Instruct-v0.1"), load_spec("Mistral-7B-Instruct-v0.3")
    assert (first.sliding_window, first.vocab_size) == (4096, 32000)
    assert (third.sliding_window, third.vocab_size) == (None, 32768)


@pytest.mark.parametrize("name", catalogue())
def test_names_of_the_catalogue_mean_themselves(name: str) -> None:
    assert resolve_model(name).model == name
    assert resolve_model(f"some-org/{name.upper()}-Instruct-hf").model == name


@pytest.mark.parametrize(
    ("name", "method", "scheme", "kv_fp8"),
    [
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "modelopt", "fp8", True),
        ("neuralmagic/Meta-Llama-3-8B-Instruct-FP8-KV", "fp8", "fp8", True),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "compressed-tensors", None, False),
        ("Qwen/Qwen3-32B-FP8", "fp8", "fp8, 128 x 128 blocks", False),
        ("someone/Qwen2.5-7B-Instruct-FP8", "fp8", "fp8", False),
        (
            "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4",
            "awq",
            "int4, groups of 128 with zeros, weights only",
            False,
        ),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq", None, False),
        (
            "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8",
            "gptq",
            "int8, groups of 128, weights only",
            False,
        ),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "compressed-tensors", None, False),
        (
            "RedHatAI/Meta-Llama-3.1-8B-quantized.w8a8",
            "compressed-tensors",
            "int8, channels",
            False,
        ),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "modelopt_fp4", "fp4, groups of 16", True),
        (
            "unsloth/Llama-3.2-1B-Instruct-bnb-4bit",
            "bitsandbytes",
            "nf4, groups of 64, weights only",
            False,
        ),
        ("meta-llama/Llama-3.1-8B-Instruct", None, "None", False),
    ],
)
def test_words_of_a_name_say_how_weights_are_stored(
    name: str, method: str | None, scheme: str | None, kv_fp8: bool
) -> None:
    checkpoint = load_spec(name).checkpoint
    assert (checkpoint.weights.method, checkpoint.kv_fp8) == (method, kv_fp8)
    assert scheme is None or str(checkpoint.weights.main) == scheme
    assert method is None or str(checkpoint.weights).endswith(f"from its name {name}")


def test_metas_own_fp8_leaves_attention_and_two_layers_out() -> None:
    """Weights of one of eight ranks: 56.73 GiB with the 8 KV heads of the catalogue."""
    spec = load_spec("meta-llama/Llama-3.1-405B-Instruct-FP8")
    weights = spec.checkpoint.weights
    assert weights.of("qkv_proj", range(126)) == ((None, 126),)
    assert [layers for _, layers in weights.of("mlp_down", range(126))] == [124, 2]
    held = rank_weight_bytes(spec, precision=precision(quantization=weights), tp=8)
    assert held / 2**30 == pytest.approx(56.73, abs=0.01)


def test_red_hats_llama_4_leaves_attention_out() -> None:
    """112,885,671,936 bytes: ``ignore`` of its config.json names the projections of attention."""
    spec = load_spec("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic")
    weights = spec.checkpoint.weights
    assert weights.of("qkv_proj", range(48)) == weights.of("o_proj", range(48)) == ((None, 48),)
    assert "fp8, channels in part of the layers, from its name" in str(weights)
    held = rank_weight_bytes(spec, precision=precision(quantization=weights), tp=1)
    assert held == pytest.approx(112_885_671_936, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("RedHatAI/Qwen3.6-35B-A3B-NVFP4", True),
        ("someone/Qwen3-Next-80B-A3B-Instruct-FP8-dynamic", True),
        ("Qwen/Qwen3.6-35B-A3B-FP8", False),
    ],
)
def test_llm_compressor_leaves_the_delta_rule_alone(name: str, kept: bool) -> None:
    spec = load_spec(name)
    weights, layers = spec.checkpoint.weights, range(spec.num_layers)
    of_rule = weights.of("delta_in", layers), weights.of("delta_out", layers)
    assert (of_rule == (((None, spec.num_layers),),) * 2) == kept
    if "NVFP4" in name:  # 21.86 GiB in the log of a server, the rotary table (0.125) included
        held = rank_weight_bytes(spec, precision=precision(quantization=weights), tp=1)
        held += 2 * spec.encoder_parameters
        assert held / 2**30 + 0.125 == pytest.approx(21.86, abs=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "someone/Llama-3.1-8B-Instruct-GPTQ-3bit",
        "someone/Llama-3.1-8B-Instruct-AWQ-8bit",
        "someone/Llama-3.1-8B-Instruct-w3a16",
        "someone/Llama-3.1-8B-Instruct-6bit",
        "someone/Llama-3.1-8B-Instruct-FP8-INT4",
        "unsloth/Llama-3.1-8B-Instruct-unsloth-bnb-4bit",
        "cyankiwi/Qwen3-4B-Instruct-2507-AWQ-4bit",
    ],
)
def test_what_only_the_checkpoint_tells(name: str) -> None:
    """Neither 16 bits nor the method's usual bits are a guess that people buy GPUs on."""
    with pytest.raises(
        UnknownModelError, match=r"expected a path to the checkpoint's config\.json"
    ):
        load_spec(name)


@pytest.mark.parametrize("word", ["4bit", "4bits", "BNB-NF4"])
def test_four_bits_have_several_spellings(word: str) -> None:
    weights = load_spec(f"someone/Llama-3.1-8B-Instruct-{word}").checkpoint.weights
    assert (weights.method, str(weights.main)[:3]) == ("bitsandbytes", "nf4")


@pytest.mark.parametrize("word", ["GGUF", "exl2", "AQLM-2Bit", "HQQ"])
def test_words_of_formats_that_are_not_modelled(word: str) -> None:
    with pytest.raises(UnknownModelError, match="weights are not modelled"):
        load_spec(f"someone/Llama-3.1-8B-Instruct-{word}")


@pytest.mark.parametrize(
    ("name", "model", "length"),
    [
        # max_position_embeddings of config.json on huggingface.co.
        ("Qwen/Qwen2.5-7B", "qwen2.5-7b", 131_072),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b", 32_768),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", 32_768),
        ("RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8", "qwen2.5-7b", 32_768),
        ("RedHatAI/Qwen2.5-7B-Instruct-FP8-dynamic", "qwen2.5-7b", 32_768),
        ("Qwen/Qwen2.5-14B-Instruct-1M", "qwen2.5-14b", 1_010_000),
        ("Qwen/Qwen2.5-Coder-32B-Instruct", "qwen2.5-32b", 32_768),
        ("Qwen/Qwen2.5-Math-7B", "qwen2.5-7b", 4096),
        ("Qwen/Qwen3-8B", "qwen3-8b", 40_960),
        ("Qwen/Qwen3-8B-Base", "qwen3-8b", 32_768),
        ("Qwen/Qwen3-4B-Thinking-2507", "qwen3-4b", 262_144),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "qwen3-30b-a3b", 262_144),
        ("Qwen/Qwen3-235B-A22B-Thinking-2507", "qwen3-235b-a22b", 262_144),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3-30b-a3b", 262_144),
        ("Qwen/QwQ-32B", "qwen2.5-32b", 40_960),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen2.5-32b", 131_072),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama-3.3-70b", 131_072),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b", 131_072),
        ("01-ai/Yi-34B-200K", "yi-34b", 200_000),
        ("01-ai/Yi-1.5-34B-Chat-16K", "yi-34b", 16_384),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small-3.1-24b", 131_072),
        ("mistralai/Devstral-Small-2507", "mistral-small-24b", 131_072),
        ("deepseek-ai/DeepSeek-V2.5-1210", "deepseek-v2", 163_840),
        ("CohereLabs/c4ai-command-r-plus-08-2024", "command-r-plus-104b", 131_072),
        ("zai-org/glm-4-9b-chat-hf", "glm-4-9b", 131_072),
        ("huggyllama/llama-13b", "llama-2-13b", 2048),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-1.1b", 2048),
        ("mistralai/Mistral-Small-24B-Instruct-2501", "mistral-small-24b", 32_768),
        ("lmsys/vicuna-7b-v1.5-16k", "llama-2-7b", 16_384),
    ],
)
def test_lengths_of_published_names(name: str, model: str, length: int) -> None:
    assert resolve_model(name).model == model
    assert load_spec(name).max_model_len == length


def test_a_distill_with_embeddings_of_its_own() -> None:
    """1,777,088,000 parameters on its model card; those of Qwen2.5-1.5B are tied."""
    assert load_spec("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B").parameters() == 1_777_088_000


@pytest.mark.parametrize(
    "name",
    [
        "mistral-large-2512",
        "nvidia/Mistral-NeMo-Minitron-8B-Instruct",
        "nvidia/Llama-3.1-Minitron-4B-Width-Base",
        "mistralai/Mistral-Small-Instruct-2409",
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "meta-llama/Llama-4-Behemoth-288B-16E",
        "microsoft/Phi-4-mini-flash-reasoning",
        "microsoft/Phi-tiny-MoE-instruct",
        "Qwen/Qwen2-57B-A14B-Instruct",
        "Qwen/Qwen3-VL-5B-Instruct",
        "Qwen/Qwen3-Embedding-8B",
        "Qwen/Qwen3-Omni-30B-A3B-Instruct",
        "Qwen/Qwen3-Coder-Later",
        "Qwen/Qwen3-15B",
        "deepseek-ai/deepseek-coder-8b-instruct",
        "lmsys/vicuna-13b-v1.3",
        "RedHatAI/Sparse-Llama-3.1-8B-2of4",
        "google/recurrentgemma-9b-it",
    ],
)
def test_names_of_other_shapes_are_refused_without_a_hint(name: str) -> None:
    with pytest.raises(UnknownModelError, match="neither in the catalogue") as caught:
        load_spec(name)
    assert "nearest" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "full", "window", "others"),
    [
        # Model cards and technical reports: arXiv 2605.31268, 2601.02780, poolside's cards.
        ("JetBrains/Mellum2-12B-A2.5B-Thinking", 7, 1024, 21),
        ("XiaomiMiMo/MiMo-V2-Flash", 9, 128, 39),
        ("poolside/Laguna-S-2.1", 12, 512, 36),
        ("poolside/Laguna-XS.2", 10, 512, 30),
        ("stepfun-ai/Step-3.5-Flash", 12, 512, 33),
    ],
)
def test_as_many_layers_with_windows_as_published(
    name: str, full: int, window: int, others: int
) -> None:
    counts: dict[int | None, int] = {}
    for kind in load_spec(name).layers:
        reach = getattr(kind.mixer, "sliding_window", None)
        counts[reach] = counts.get(reach, 0) + len(kind.places)
    assert counts == {None: full, window: others}


def test_layers_with_windows_have_more_heads_in_step() -> None:
    # attention_other_setting of the published config.json of Step-3.5-Flash.
    of_kind = {
        kind.mixer.sliding_window: (kind.mixer.num_heads, kind.mixer.gate)
        for kind in load_spec("stepfun-ai/Step-3.5-Flash").layers
        if isinstance(kind.mixer, Attention)
    }
    assert of_kind == {None: (64, 1), 512: (96, 1)}
