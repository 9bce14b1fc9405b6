"""Text generation with a real decoder, with and without a KV cache."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.torch.decoder import Decoder


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    use_cache: bool = True,
    temperature: float = 0.0,
    seed: int = 0,
    on_token: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Continue each prompt by ``max_new_tokens`` tokens, all prompts as one batch.

    Args:
        decoder: the model.
        prompts: token ids; lengths may differ.
        max_new_tokens: how many tokens to add to each.
        use_cache: keep keys and values; without, every token recomputes its whole sequence.
        temperature: 0 takes the likeliest token, otherwise logits are divided by it and sampled.
        seed: of the sampling.
        on_token: called when every prompt has its next token, so that a caller can take the time.

    Returns:
        The new tokens of each prompt.

    Raises:
        ValueError: no prompts, an empty prompt, ``max_new_tokens`` < 1 or ``temperature`` < 0, or
            a sequence that is longer than the model's positions.
    """
    if not prompts or not all(prompts):
        raise ValueError("prompts must hold at least one prompt, each of at least one token")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens(={max_new_tokens}) must be >= 1")
    if temperature < 0:
        raise ValueError(f"temperature(={temperature}) must be >= 0")
    generator = torch.Generator(decoder.device).manual_seed(seed)
    run = _cached if use_cache else _recomputed
    return run(decoder, prompts, max_new_tokens, temperature, generator, on_token)


def _cached(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    on_token: Callable[[], None],
) -> list[list[int]]:
    lengths = [len(prompt) for prompt in prompts]
    slots = range(len(prompts))
    cache = decoder.new_cache(len(prompts), max(lengths) + max_new_tokens - 1)
    logits = decoder.step(cache, [(slot, torch.tensor(prompts[slot]), 0) for slot in slots])
    columns = [_choose(logits, temperature, generator)]
    on_token()
    for added in range(max_new_tokens - 1):
        pasts = [length + added for length in lengths]
        logits = decoder.step(cache, (), slots, columns[-1], pasts)
        columns.append(_choose(logits, temperature, generator))
        on_token()
    return _rows(columns)


def _recomputed(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator,
    on_token: Callable[[], None],
) -> list[list[int]]:
    sequences = [torch.tensor(prompt, device=decoder.device) for prompt in prompts]
    columns = []
    for _ in range(max_new_tokens):
        logits = torch.cat([decoder(each[None], last_only=True)[:, 0] for each in sequences])
        columns.append(_choose(logits, temperature, generator))
        on_token()
        sequences = [
            torch.cat((sequence, token[None]))
            for sequence, token in zip(sequences, columns[-1], strict=True)
        ]
    return _rows(columns)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token id per row of logits [rows, vocab]."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def _rows(columns: Sequence[Tensor]) -> list[list[int]]:
    rows: list[list[int]] = torch.stack(list(columns), dim=1).tolist()
    return rows
