"""Terms of the memory ledger, each by hand."""

from dataclasses import replace

import pytest

from hardware.engines.table import Sampler, vllm
from hardware.engines.versions import version_key
from hardware.gpu import load_gpu
from hardware.memory.drafts import Drafts
from hardware.memory.kv_blocks import MemoryDemand, memory_ledger
from hardware.memory.profile_run import (
    ProfileRun,
    activation_peak,
    cold_compile_bytes,
    expert_workspace_bytes,
    forward_bytes,
    index_workspace_bytes,
    latent_context_numbers,
    sampler_bytes,
    sampler_of,
)
from hardware.memory.runtime import capture_sizes, graph_bytes, non_torch_bytes
from model.precision import precision
from model.spec import load_spec

GIB = 2**30


def run(model: str, tokens: int = 2048, seqs: int = 256, tp: int = 1, **numbers: str) -> ProfileRun:
    return ProfileRun(
        spec=load_spec(model), precision=precision(**numbers), tp=tp, max_tokens=tokens,
        max_seqs=seqs,
    )  # fmt: skip


def test_the_sampler_holds_logits_of_every_seat_and_the_hidden_states() -> None:
    """256 rows of 128,256 logits at 38 bytes, 2048 hidden states of 4096 numbers."""
    sort = Sampler(bytes=38, few_rows=128, few_rows_bytes=50)
    assert sampler_bytes(run("llama-3-8b"), sort) == 256 * 128256 * 38 + 2048 * 4096 * 2
    few = run("llama-3-8b", seqs=127)
    assert sampler_bytes(few, sort) == 127 * 128256 * 50 + 2048 * 4096 * 2
    short = run("llama-3-8b", tokens=64)  # a step of 64 tokens ends at most 64 prompts
    assert sampler_bytes(short, sort) == 64 * 128256 * 50 + 64 * 4096 * 2


@pytest.mark.parametrize(
    ("model", "version", "quantization", "bytes_a_logit"),
    [
        ("llama-3-8b", "0.6.0", None, 38),
        ("llama-3-8b", "0.16", None, 38),
        ("llama-3-8b", "0.17", None, 14),
        ("llama-3-8b", "0.22", None, 14),
        ("llama-3-8b", "0.23", None, 2),  # the second runner takes Llama
        ("llama-3-8b", "0.23", "fp8", 14),
        ("qwen3-8b", "0.22", None, 2),
        ("qwen3-8b", "0.22", "fp8", 14),
        ("qwen2.5-7b", "0.24", None, 14),
        ("qwen2.5-7b", "0.25", None, 2),  # and every dense model
        ("qwen3.5-4b", "0.28", None, 14),  # but those with states
        ("qwen3.5-4b", "0.29", None, 2),
        ("deepseek-v4-flash", "0.27", None, 14),
        ("deepseek-v4-flash", "0.28", None, 2),
        ("mixtral-8x7b", "0.28", None, 14),
        ("mixtral-8x7b", "0.29", None, 2),
        ("llama-3-8b", "0.33", None, 14),
    ],
)
def test_samplers_by_version_and_model(
    model: str, version: str, quantization: str | None, bytes_a_logit: int
) -> None:
    one = run(model, **({"quantization": quantization} if quantization else {}))
    assert sampler_of(one, vllm().memory, version_key(version)).bytes == bytes_a_logit


def test_the_layers_hold_inner_products_and_four_times_the_hidden_states() -> None:
    """8192 tokens of Qwen3-14B; OPT has no gate; a rank has its share of the inner width."""
    assert forward_bytes(run("qwen3-14b", 8192), None) == 8192 * (3 * 17408 + 4 * 5120) * 2
    assert forward_bytes(run("opt-13b", 64), None) == 64 * (2 * 20480 + 4 * 5120) * 2
    assert forward_bytes(run("qwen3-14b", 64, tp=2), None) == 64 * (3 * 8704 + 4 * 5120) * 2


def test_experts_run_in_chunks_until_their_workspace_stays() -> None:
    """Mixtral: two experts of width 14336 for every token."""
    each = 2 * (3 * 14336 + 4096)
    assert forward_bytes(run("mixtral-8x7b", 2048), 65536) == 2048 * (4 * 4096 + each) * 2
    assert forward_bytes(run("mixtral-8x7b", 2048), 512) == (2048 * 4 * 4096 + 512 * each) * 2
    assert forward_bytes(run("mixtral-8x7b", 2048), None, stays=True) == 2048 * 4 * 4096 * 2
    # Two data-parallel ranks: this one's experts get the tokens of both, which are gathered.
    both = replace(run("mixtral-8x7b", 2048), dp=2)
    numbers = 2048 * 4 * 4096 + 4096 * each + 4096 * 4096
    assert forward_bytes(both, 65536) == numbers * 2
    assert expert_workspace_bytes(run("mixtral-8x7b", 2048)) == 2048 * 2 * 3 * 14336 * 2
    assert expert_workspace_bytes(run("llama-3-8b")) == 0


def test_latents_are_expanded_for_eight_long_requests_or_four_blocks_of_each() -> None:
    """DeepSeek-V3: 128 heads of 128 + 128 numbers; 65,536 tokens at most."""
    one = replace(run("deepseek-v3", 64, seqs=256, tp=8), max_model_len=1000)
    (mixer,) = {layers.mixer for layers in one.spec.layers}
    for changes, tokens in (
        ({}, 4 * 256 * 16), ({"max_seqs": 8}, 8 * 1000),
        ({"max_model_len": 100_000}, 65_536), ({"block_tokens": 128}, 65_536),
    ):  # fmt: skip
        assert latent_context_numbers(replace(one, **changes), mixer) == tokens * 16 * 256
    assert forward_bytes(one, None) == (4 * 256 * 16 * 16 * 256 + 64 * 4 * 7168) * 2


def test_the_largest_moment_counts_and_is_named() -> None:
    memory = vllm().memory
    sampling = activation_peak(run("llama-3-8b"), memory, version_key("0.9"))
    assert sampling.what == "largest step: sampling 256 rows"
    layers = activation_peak(run("llama-3-8b", 8192, 1), memory, version_key("0.9"))
    assert layers.what == "largest step: layers, 8192 tokens"
    assert layers.bytes == 8192 * (3 * 14336 + 4 * 4096) * 2


@pytest.mark.parametrize("tp", [1, 2])
def test_the_largest_image_goes_through_the_encoder(tp: int) -> None:
    """65,536 patches: 1,536 pixels in 4 and 2 bytes, 3 rows of 1,152, twice 4,304 in the MLP."""
    small = run("qwen3.6-27b", tokens=2048, seqs=1, tp=tp)
    image = 65_536 * 2 * (3 * 1536 + 3 * 1152 + 2 * 4304 // tp)
    peak = activation_peak(small, vllm().memory, version_key("0.30"))
    assert (peak.bytes, peak.what) == (image, "largest step: an image of the greatest size")
    # In front of a large step of text there are 16,384 rows of 5,120 that came out.
    large = run("qwen3.6-27b", tokens=32_768, seqs=1, tp=tp)
    assert activation_peak(large, vllm().memory, version_key("0.30")).bytes == (
        forward_bytes(large, None) + 16_384 * 5120 * 2
    )
    behind = replace(small, embeds=False)
    assert activation_peak(behind, vllm().memory, version_key("0.30")).bytes < image
    assert load_spec("qwen3-8b").encoder_peak is None


def test_a_first_start_holds_a_copy_of_the_embedding() -> None:
    assert cold_compile_bytes(run("llama-3-8b")) == 128256 * 4096 * 2
    assert cold_compile_bytes(run("llama-3-8b", tp=4)) == 128256 * 4096 * 2 // 4


@pytest.mark.parametrize(
    ("version", "gpu", "tp", "gib"),
    [
        ("0.7", "l40s", 1, 0.10),
        ("0.8.5", "l40s", 1, 0.60),  # CUDA's context counts in that version alone
        ("0.10.2", "h200-sxm", 2, 1.30),  # NCCL's buffers count
        ("0.10.2", "h100-sxm", 4, 1.70),  # a log says 1.84
        ("0.7", "a100-40gb-sxm", 8, 2.10),  # as a log says
        ("0.11", "h200-sxm", 2, 0.45),
        ("0.11", "h200-sxm", 8, 0.45),
        ("0.19", "a100-80gb-sxm", 1, 0.22),
        ("0.19", "h100-sxm", 1, 0.45),
        ("0.19", "rtx-5090", 1, 0.45),
    ],
)
def test_what_torch_does_not_hold(
    version: str, gpu: str | dict[str, object], tp: int, gib: float
) -> None:
    found = non_torch_bytes(vllm(), version_key(version), load_gpu(gpu), tp)
    assert found == int(gib * GIB)


def test_graphs_are_charged_since_0_20() -> None:
    spec, table = load_spec("llama-3-8b"), vllm()

    def mib(version: str, gpu: str, tp: int, seqs: int) -> float:
        taken = graph_bytes(table, version_key(version), spec, load_gpu(gpu), tp, seqs)
        return taken / 2**20

    assert mib("0.19", "l40s", 1, 256) == 0
    # 51 sizes of 32 layers at 0.3 MiB, and 35 up to 256 seats at 1 MiB.
    assert mib("0.20", "l40s", 1, 256) == pytest.approx(51 * 32 * 0.3 + 35, abs=0.01)
    assert mib("0.20", "l40s", 4, 256) == pytest.approx(51 * 32 * 0.6 + 35, abs=0.01)
    # 35 sizes up to twice 128 seats, 19 of them up to the seats.
    assert mib("0.20", "l40s", 1, 128) == pytest.approx(35 * 32 * 0.3 + 19, abs=0.01)
    assert mib("0.28", "b200-sxm", 1, 1024) > mib("0.27", "b200-sxm", 1, 1024)


def test_the_second_runner_charges_graphs_since_0_29() -> None:
    def bytes_of(version: str, **changes: bool) -> int:
        spec, gpu = load_spec("qwen3-14b"), load_gpu("h100-sxm")
        return graph_bytes(vllm(), version_key(version), spec, gpu, 1, 256, **changes)

    assert bytes_of("0.23") == bytes_of("0.29") == bytes_of("0.29", second=True) > 0
    assert bytes_of("0.28", second=True) == 0


def test_a_ledger_asks_who_serves_the_model() -> None:
    def graphs(model: str, version: str) -> int:
        demand = MemoryDemand(
            spec=load_spec(model), gpu=load_gpu("h200-sxm"), precision=precision(), version=version,
            gpu_memory_utilization=0.9, max_num_batched_tokens=8192, max_num_seqs=256,
        )  # fmt: skip
        return memory_ledger(demand).graphs_bytes

    assert graphs("llama-3-8b", "0.28") == 0 < graphs("qwen3-30b-a3b", "0.28")
    assert 0 < graphs("llama-3-8b", "0.22") < graphs("llama-3-8b", "0.29") * 1.01


def test_drafts_of_n_grams_keep_the_first_runner() -> None:
    """``_get_v2_model_runner_unsupported_features``: graphs are charged, its sampler has more."""
    drafts = Drafts(tokens=3, drafter=None, precision=precision(), of_target=False)
    demand = MemoryDemand(
        spec=load_spec("llama-3-8b"), gpu=load_gpu("h100-sxm"), precision=precision(),
        version="0.28", gpu_memory_utilization=0.9, max_num_batched_tokens=8192, max_num_seqs=256,
    )  # fmt: skip
    without, with_drafts = (memory_ledger(replace(demand, drafts=each)) for each in (None, drafts))
    assert without.graphs_bytes == 0 < with_drafts.graphs_bytes
    one = replace(run("llama-3-8b"), first_runner=True)
    assert sampler_of(one, vllm().memory, version_key("0.28")).bytes == 14


@pytest.mark.parametrize(
    ("model", "version", "longest", "tokens"),
    [
        ("deepseek-v3.2", "0.12", 0, 0),
        ("deepseek-v3.2", "0.13", 0, 40 * 163_840),  # 825 MiB, as vLLM's own comment says
        ("deepseek-v3.2", "0.32", 4096, 40 * 4096),
        ("glm-5.1", "0.33", 0, 40 * 202_752),
        ("glm-5.2", "0.33", 0, 16 * 1_048_576),
        ("deepseek-v4-flash", "0.25", 0, 40 * 1_048_576 // 4),
        ("minimax-m3", "0.33", 0, 0),
        ("deepseek-v3", "0.33", 0, 0),
    ],
)
def test_an_index_keeps_room_for_the_keys_of_many_requests(
    model: str, version: str, longest: int, tokens: int
) -> None:
    one = replace(run(model), max_model_len=longest)
    found = index_workspace_bytes(one, vllm().memory, version_key(version))
    assert found == tokens * 132


def test_a_workspace_of_experts_stays_from_0_14_on() -> None:
    def workspace(version: str, model: str = "minimax-m2.5", tokens: int = 8192) -> int:
        demand = MemoryDemand(
            spec=load_spec(model), gpu=load_gpu("b300-sxm"), tp=4, version=version,
            precision=precision(quantization="fp8"), gpu_memory_utilization=0.9,
            max_num_batched_tokens=tokens, max_num_seqs=256,
        )  # fmt: skip
        return memory_ledger(demand).workspace_bytes

    each = 8 * (3072 + 384) * 2
    assert workspace("0.13") == 0
    assert workspace("0.14") == workspace("0.27") == 8192 * each
    assert workspace("0.14", tokens=32768) == 16384 * each
    assert workspace("0.18", tokens=32768) == 32768 * each
    # Experts of GLM-5 take the room of its index in their turn.
    assert workspace("0.30", "glm-5.1") == 40 * 202_752 * 132


def test_a_pool_of_glm_5_is_what_a_server_said() -> None:
    """GLM-5.1-FP8 on eight H200, eager, vLLM 0.20.1: 373,696 tokens of 34.86 GiB."""
    ledger = memory_ledger(
        MemoryDemand(
            spec=load_spec("glm-5.1"),
            gpu=load_gpu("h200-sxm"),
            tp=8,
            version="0.20.1",
            precision=precision(quantization="fp8"),
            gpu_memory_utilization=0.92,
            max_num_batched_tokens=8192,
            max_num_seqs=1024,
            max_cudagraph_capture_size=0,
        )
    )
    assert int(34.86 * GIB) // ledger.block_bytes * 64 == 373_696
    assert ledger.kv_tokens == pytest.approx(373_696, rel=0.05)


def test_batch_sizes_that_are_captured() -> None:
    assert capture_sizes(16) == (1, 2, 4, 8, 16)
    assert len(capture_sizes(256)) == 35
    assert capture_sizes(512)[-19:-15] == (240, 248, 256, 272)
    assert len(capture_sizes(512)) == 51
