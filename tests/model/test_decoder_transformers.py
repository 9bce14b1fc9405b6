"""The decoder equals Hugging Face transformers on the same random weights, read from its files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_decoders import random_tokens

from model.torch.generation import generate
from model.torch.weights import load_decoder

transformers = pytest.importorskip("transformers")

COMMON = {"vocab_size": 61, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
ROTARY = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
OPT = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    # Name: class, settings, tolerance relative to the largest logit in float64. transformers
    # computes RMSNorm, rotary angles and OPT's softmax in float32 whatever the weights are.
    "llama": ("Llama", ROTARY, 5e-6),
    "llama-tied-biased": (
        "Llama",
        ROTARY | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        5e-6,
    ),
    "llama-one-head": (
        "Llama",
        ROTARY | {"num_attention_heads": 1, "num_key_value_heads": 1},
        5e-6,
    ),
    "llama-3.1": ("Llama", ROTARY | {"rope_parameters": LLAMA3_SCALING}, 5e-6),
    "llama-linear": (
        "Llama",
        ROTARY | {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 500.0}},
        5e-6,
    ),
    "mistral": ("Mistral", ROTARY | {"sliding_window": 5}, 5e-6),
    "qwen2": ("Qwen2", ROTARY, 5e-6),
    "qwen3": ("Qwen3", ROTARY | {"head_dim": 16}, 5e-6),
    "gpt2": ("GPT2", GPT2, 1e-12),
    "opt": ("OPT", OPT, 5e-6),
}


def hugging_face(case: str, folder: Path) -> Any:
    """A random model in float64, saved to ``folder``; norms and biases are random too."""
    family, settings, _ = CASES[case]
    config = getattr(transformers, f"{family}Config")(**COMMON, **settings)
    config._attn_implementation = "eager"
    torch.manual_seed(2)  # transformers draws the first weights from torch's own generator
    kind = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{family}{kind}")(config).double().eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * drawn)
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers(case: str, tmp_path: Path) -> None:
    model = hugging_face(case, tmp_path)
    decoder = load_decoder(tmp_path, dtype=torch.float64)
    tokens = torch.stack(random_tokens(decoder.spec, 40, 40))
    with torch.no_grad():
        expected = model(tokens).logits
    largest = expected.abs().max().item()
    assert (decoder(tokens) - expected).abs().max() < CASES[case][2] * largest
    single = load_decoder(tmp_path, dtype=torch.float32)
    assert (single(tokens) - expected).abs().max() < 2e-5 * largest
    cache = decoder.new_cache(slots=2, slot_tokens=40)
    decoder.prefill(cache, tokens[:, :33])
    logits = decoder.step(cache, [(1, tokens[1, 33:], 33)], [0], tokens[0, 33:34], [33])
    picked = torch.stack((expected[1, -1], expected[0, 33]))
    assert (logits - picked).abs().max() < CASES[case][2] * largest


@pytest.mark.parametrize("case", ["llama", "llama-3.1", "llama-linear", "qwen3"])
def test_rotary_frequencies_equal_transformers(case: str, tmp_path: Path) -> None:
    expected = hugging_face(case, tmp_path).model.rotary_emb.inv_freq.double()
    frequencies = load_decoder(tmp_path, dtype=torch.float64).rope_frequencies
    torch.testing.assert_close(frequencies, expected, rtol=3e-7, atol=0)


@pytest.mark.parametrize("case", ["llama", "gpt2"])
def test_greedy_tokens_equal_transformers(case: str, tmp_path: Path) -> None:
    model = hugging_face(case, tmp_path)
    decoder = load_decoder(tmp_path, dtype=torch.float64)
    (prompt,) = random_tokens(decoder.spec, 7)
    with torch.no_grad():
        expected = model.generate(prompt[None], max_new_tokens=16, do_sample=False)[0, 7:]
    assert generate(decoder, [prompt.tolist()], 16) == [expected.tolist()]


@pytest.mark.parametrize("case", ["llama", "gpt2"])
def test_parameters_equal_transformers(case: str, tmp_path: Path) -> None:
    model = hugging_face(case, tmp_path)
    decoder = load_decoder(tmp_path)
    assert model.num_parameters() == sum(p.numel() for p in decoder.parameters())
