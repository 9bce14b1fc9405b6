"""Published names find their model, and tell the quantization of its weights."""

import pytest

from model.spec import catalogue, load_spec, resolve_model


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
        ("lmsys/vicuna-13b-v1.5", "llama-2-13b", None),
        ("microsoft/Phi-3-mini-128k-instruct", "phi-3-mini-128k", None),
    ],
)
def test_published_names(name: str, model: str, quantization: str | None) -> None:
    found = resolve_model(name)
    assert (found.model, found.quantization) == (model, quantization)


def test_a_version_that_changes_the_shape_is_kept() -> None:
    first, third = load_spec("Mistral-7B-Instruct-v0.1"), load_spec("Mistral-7B-Instruct-v0.3")
    assert (first.sliding_window, first.vocab_size) == (4096, 32000)
    assert (third.sliding_window, third.vocab_size) == (None, 32768)


@pytest.mark.parametrize("name", catalogue())
def test_names_of_the_catalogue_mean_themselves(name: str) -> None:
    assert resolve_model(name).model == name
    assert resolve_model(f"some-org/{name.upper()}-Instruct-hf").model == name
