"""How large blocks are that hold a state, and how many requests fit, beside logs of servers."""

import pytest

from hardware.gpu import load_gpu
from hardware.memory.kept_states import KeptStates, kept_states
from hardware.memory.kv_groups import kv_layout
from hardware.memory.ledger import GIB
from model.precision import precision
from model.spec import load_spec


@pytest.mark.parametrize(
    ("name", "gpu", "version", "tp", "tokens"),
    [
        # As servers of LMCache's users log it, by model (gpustack.ai, docs on LMCache, 2026).
        ("qwen3.5-0.8b", "h100-sxm", "0.26", 1, 544),
        ("kimi-linear-48b-a3b", "h100-sxm", "0.26", 2, 944),
        ("kimi-k3", "b200", "0.33", 8, 768),
        # What other releases and GPUs make of the same, by their code.
        ("kimi-linear-48b-a3b", "h100-sxm", "0.27", 2, 1024),
        ("kimi-linear-48b-a3b", "rtx-3090", "0.11", 2, 960),  # vllm-project/vllm issue 28228
        ("kimi-linear-48b-a3b", "b200", "0.26", 2, 960),
        ("qwen3.5-4b", "l4", "0.29", 1, 528),
        ("qwen3.5-4b", "b200", "0.19", 1, 544),
        ("qwen3.5-4b", "b200", "0.20", 1, 528),
    ],
)
def test_blocks_that_hold_a_state(name: str, gpu: str, version: str, tp: int, tokens: int) -> None:
    spec = load_spec(name)
    states = kept_states(spec, load_gpu(gpu), version, cached=False)
    assert (
        kv_layout(spec, precision=precision(), tp=tp, version=version, states=states).block_tokens
        == tokens
    )


@pytest.mark.parametrize(
    ("name", "tp", "kv", "states", "longest", "in_flight", "blocks", "at_a_time"),
    [
        # vLLM 0.19.0 (its issue 40691): 290,864 tokens, which are 371 blocks of 784 in each group.
        ("qwen3.5-27b", 1, "auto", 1, 32_768, 16_384, 4 * 371 + 3, 33.04),
        # 0.24.0 with prefix caching, an RTX 5090 (noonghunna/club-3090 issue 612): 5.98 GiB.
        ("qwen3.5-35b-a3b", 1, "fp8", 2, 131_072, 8192, None, 4.33),
        # 2 x RTX 3090 (mitchross/talos-argocd-proxmox pull request 1995): 4.99 GiB each.
        ("qwen3.6-27b", 2, "fp8", 2, 131_072, 8192, None, 2.31),
        # An L4 with 0.29.0, 9.10 GiB, and 0.20.0 with prefix caching, 2.95 GiB (public logs, 2026).
        ("qwen3.5-4b", 1, "auto", 2, 32_768, 2048, 564, 8.17),
        ("qwen3.5-35b-a3b", 1, "fp8", 2, 65_536, 8192, 147, 3.87),
        # LFM2-1.2B, whose states are smaller than a block of 16: 4.42 GiB (public log, 2026).
        ("lfm2.5-1.2b", 1, "auto", 1, 4096, 2048, 24_116, 93.47),
    ],
)
def test_as_many_longest_requests_as_servers_log(
    name: str, tp: int, kv: str, states: int, longest: int, in_flight: int,
    blocks: int | None, at_a_time: float,
) -> None:  # fmt: skip
    cut = kv_layout(
        load_spec(name), precision=precision("bfloat16", None, kv), tp=tp, version="0.24",
        states=KeptStates(blocks=states, block_multiple=1),
    )  # fmt: skip
    found = int({1: 5.98, 2: 4.99}[tp] * GIB) // cut.block_bytes if blocks is None else blocks
    assert round(found / cut.most_blocks(longest, in_flight), 2) == at_a_time


def test_latent_layers_beside_states_as_a_server_logs_them() -> None:
    # Two RTX 3090 and 0.11 (vllm-project/vllm issue 28228): 2.30 GiB each, 75,840 tokens, 2.48x.
    spec = load_spec("kimi-linear-48b-a3b")
    states = kept_states(spec, load_gpu("rtx-3090"), "0.11", cached=False)
    cut = kv_layout(spec, precision=precision(), tp=2, version="0.11", states=states)
    blocks = 75_840 // cut.block_tokens * len(cut.groups) + 2
    assert blocks in range(int(2.295 * GIB) // cut.block_bytes, int(2.305 * GIB) // cut.block_bytes)
    assert round(blocks / cut.most_blocks(120_000, 120_000), 2) == 2.48
