"""Generation with and without a cache gives the same tokens."""

import pytest
import torch
from small_decoders import GPT2, LLAMA, MISTRAL, OPT, QWEN3, random_tokens, small_decoder

from model.spec import DecoderSpec
from model.torch.decoder import Decoder
from model.torch.generation import generate

NEW_TOKENS = 12


def prompts_of(spec: DecoderSpec) -> list[list[int]]:
    return [tokens.tolist() for tokens in random_tokens(spec, 4, 1, 9)]


def greedy_by_hand(decoder: Decoder, prompt: list[int]) -> list[int]:
    tokens = list(prompt)
    for _ in range(NEW_TOKENS):
        tokens.append(int(decoder(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("spec", [LLAMA, GPT2, OPT, QWEN3, MISTRAL], ids=lambda spec: spec.name)
def test_greedy_tokens_with_and_without_cache(spec: DecoderSpec) -> None:
    decoder = small_decoder(spec)
    prompts = prompts_of(spec)
    cached = generate(decoder, prompts, NEW_TOKENS)
    assert cached == generate(decoder, prompts, NEW_TOKENS, use_cache=False)
    assert cached == [greedy_by_hand(decoder, prompt) for prompt in prompts]
    assert len({tuple(row) for row in cached}) == len(prompts)


def test_samples_follow_the_seed_and_not_the_cache() -> None:
    decoder = small_decoder(LLAMA)
    prompts = prompts_of(LLAMA)

    def sample(seed: int, use_cache: bool = True) -> list[list[int]]:
        return generate(
            decoder, prompts, NEW_TOKENS, temperature=2.0, seed=seed, use_cache=use_cache
        )

    assert sample(1) == sample(1) == sample(1, use_cache=False)
    assert sample(1) != sample(2)
    assert sample(1) != generate(decoder, prompts, NEW_TOKENS)


def test_samples_are_distributed_as_the_softmax() -> None:
    """Pearson's chi-squared over 61 tokens; false alarms: 1 in 10,000 seeds, and the seed is fixed.

    The 0.9999 quantile with 60 degrees of freedom is 108.5 (Wilson-Hilferty approximation).
    """
    decoder = small_decoder(LLAMA)
    prompt, draws, temperature = [5, 17, 3], 4000, 8.0
    drawn = generate(decoder, [prompt] * draws, 1, temperature=temperature, seed=0)
    counts = torch.bincount(torch.tensor(drawn)[:, 0], minlength=LLAMA.vocab_size)
    logits = decoder(torch.tensor([prompt]))[0, -1]
    expected = draws * torch.softmax(logits / temperature, dim=-1)
    assert expected.min() > 5
    assert ((counts - expected) ** 2 / expected).sum() < 108.5


def test_a_single_token_needs_no_decode_step() -> None:
    decoder = small_decoder(GPT2)
    prompts = prompts_of(GPT2)
    assert generate(decoder, prompts, 1) == [row[:1] for row in generate(decoder, prompts, 2)]


def test_bad_arguments_are_refused() -> None:
    decoder = small_decoder(GPT2)
    with pytest.raises(ValueError, match="at least one prompt"):
        generate(decoder, [], 1)
    with pytest.raises(ValueError, match="each of at least one token"):
        generate(decoder, [[1], []], 1)
    with pytest.raises(ValueError, match=r"max_new_tokens\(=0\) must be >= 1"):
        generate(decoder, [[1]], 0)
    with pytest.raises(ValueError, match=r"temperature\(=-1\) must be >= 0"):
        generate(decoder, [[1]], 1, temperature=-1)
    with pytest.raises(ValueError, match="65 tokens is longer than max_position_embeddings"):
        generate(decoder, [[1] * 60], 7)
