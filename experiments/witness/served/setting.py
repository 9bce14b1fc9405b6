"""What is served: a small model with random weights, its engine, and the requests."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.dataclass import dataclass
from workloads.requests import Prefixes, Requests

Ints = npt.NDArray[np.int64]

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 2048,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""Steps of a few milliseconds on one core."""
SPECIAL = ("<unk>", "<s>", "</s>")
UNIPROC = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The model runs in the engine's process, as vLLM has it on one GPU. On CPUs vLLM takes another,
and the engine polls for its answers meanwhile, on one of the few cores."""


class Engine(NamedTuple):
    """Settings of a server."""

    max_num_seqs: int = 32
    max_num_batched_tokens: int = 256
    max_model_len: int = 512
    block_size: int = 32
    num_gpu_blocks: int = 128
    caching: bool = False


SERVED = Engine()
"""At 85% load its blocks are short now and then."""
WIDE = Engine(max_num_seqs=512, max_num_batched_tokens=1024, num_gpu_blocks=4096)
"""Takes as many streams as anybody sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Lengths of requests: prompts begin with one of several texts, and go on on their own."""

    prefixes: int = 8
    prefix_tokens: int = 96
    own_mean: float = 64.0
    own_most: int = 224
    output_mean: float = 32.0
    output_most: int = 96
    cv: float = 0.6
    seed: int = 0


class Drawn(NamedTuple):
    """Requests in order: which text they begin with, and how long they are."""

    group: Ints
    prompt: Ints
    output: Ints

    def rows(self, prefix_tokens: int, users: int | None, arrival_s: list[float]) -> Requests:
        """As a workload of ours; with users they come as those become free."""
        count = len(self.prompt)
        nobody = np.full(count, np.nan)
        return Requests(
            arrival_s=nobody if users else np.array(arrival_s, dtype=float),
            prompt_tokens=self.prompt,
            output_tokens=self.output,
            priority=np.zeros(count, dtype=np.int64),
            users=users,
            think_s=np.zeros(count) if users else None,
            prefixes=Prefixes(
                np.arange(count + 1), self.group, np.full(count, prefix_tokens, dtype=np.int64)
            ),
        )


def drawn(traffic: Traffic, count: int) -> Drawn:
    """Return the requests: as many, always the same."""
    rng = np.random.default_rng(traffic.seed)
    group = rng.integers(0, traffic.prefixes, count)
    own = _lognormal(rng, traffic.own_mean, traffic.cv, 4, traffic.own_most, count)
    output = _lognormal(rng, traffic.output_mean, traffic.cv, 4, traffic.output_most, count)
    return Drawn(group.astype(np.int64), own + traffic.prefix_tokens, output)


def _lognormal(
    rng: np.random.Generator, mean: float, cv: float, least: int, most: int, count: int
) -> Ints:
    sigma = float(np.sqrt(np.log1p(cv**2)))
    values = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return np.clip(np.rint(values), least, most).astype(np.int64)


def texts(requests: Drawn, prefix_tokens: int, seed: int) -> list[str]:
    """Return a prompt for each request, a word per token."""
    rng = np.random.default_rng([seed, 1])
    words = CONFIG["vocab_size"]
    groups = rng.integers(len(SPECIAL), words, (int(requests.group.max()) + 1, prefix_tokens))
    found = []
    for group, prompt in zip(requests.group.tolist(), requests.prompt.tolist(), strict=True):
        own = rng.integers(len(SPECIAL), words, prompt - prefix_tokens)
        found.append(" ".join(f"t{token}" for token in (*groups[group], *own)))
    return found


def write_prompts(path: Path, requests: Drawn, prompts: list[str]) -> None:
    """Write what ``vllm bench serve --dataset-name custom`` reads."""
    rows = zip(prompts, requests.output.tolist(), strict=True)
    lines = [json.dumps({"prompt": prompt, "output_tokens": output}) for prompt, output in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_model(folder: Path) -> None:
    """Write config.json and a tokenizer with a word per token; weights are random anyway."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n", encoding="utf-8")
    words = [*SPECIAL, *(f"t{token}" for token in range(len(SPECIAL), CONFIG["vocab_size"]))]
    vocabulary = {word: token for token, word in enumerate(words)}
    added = [
        {
            "id": token, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for token, word in enumerate(SPECIAL)
    ]  # fmt: skip
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": SPECIAL[0]},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "bos_token": "<s>",
        "eos_token": "</s>", "pad_token": "</s>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")


def as_data(engine: Engine, traffic: Traffic) -> dict[str, Any]:
    """For a file."""
    return {"engine": engine._asdict(), "traffic": asdict(traffic), "model": CONFIG}
