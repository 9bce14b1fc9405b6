"""Pipeline stages: rules by version, what goes over which link, and the memory of each."""

from dataclasses import replace

import pytest

from hardware.engines.pipelining import pipelining
from hardware.gpu import load_gpu
from hardware.links.interconnect import check_stages, send_s, told_of_stages
from hardware.memory.kv_blocks import MemoryDemand, memory_ledger
from hardware.memory.kv_groups import kv_layout
from hardware.memory.profile_run import ProfileRun, received_bytes
from model.alike import attention_of
from model.precision import precision
from model.quantization.weights import PLAIN
from model.shape import grouped
from model.spec import load_spec
from model.stages import stages_of

GPU = load_gpu("h100-sxm")
LLAMA = load_spec("llama-3.1-70b")
BF16 = precision("bfloat16", PLAIN, "bfloat16")


@pytest.mark.parametrize(
    ("version", "asynchronous", "batches", "spacing", "fills"),
    [
        ("0.9", None, 4, 0, False),
        ("0.14", None, 4, 0, False),
        ("0.15", None, 4, 0, False),
        ("0.16", None, 4, 1, False),
        ("0.20", False, 4, 0, False),
        ("0.22", None, 4, 1, False),
        ("0.23", None, 5, 4, True),  # the second runner serves it
        ("0.33", None, 5, 4, True),
        ("0.33", False, 4, 0, True),
    ],
)
def test_how_steps_are_planned_depends_on_the_version(
    version: str, asynchronous: bool | None, batches: int, spacing: int, fills: bool
) -> None:
    rules = pipelining(LLAMA, 4, version, False, asynchronous)
    assert (rules.batches, rules.spacing, rules.fills) == (batches, spacing, fills)


def test_quantized_models_of_experts_came_to_the_second_runner_later() -> None:
    mixture = load_spec("mixtral-8x7b")
    assert pipelining(mixture, 2, "0.26", False, None).spacing == 1
    assert pipelining(LLAMA, 2, "0.23", True, None).spacing == 1
    assert pipelining(mixture, 2, "0.29", True, None).spacing == 2


def test_what_is_sent_goes_over_links_in_a_server_and_over_the_network_between() -> None:
    sent = 1e6
    inside = sent / (GPU.link_bytes_per_s or 0) + GPU.link_latency_s
    between = sent / (GPU.network_bytes_per_s or 0) + GPU.network_latency_s
    assert [send_s(sent, GPU, 4, stage) for stage in range(3)] == [inside, between, inside]
    assert send_s(sent, GPU, 8, 0) == between
    assert send_s(sent, GPU, 16, 0) == between
    assert "by links and network" in told_of_stages(GPU, 4, 4)
    assert "by network" in told_of_stages(GPU, 8, 2)
    assert not told_of_stages(GPU, 8, 1)


def test_stages_need_whole_servers_and_a_network() -> None:
    check_stages(GPU, 4, 3)
    with pytest.raises(ValueError, match="a stage would lie across servers"):
        check_stages(GPU, 6, 2)
    with pytest.raises(ValueError, match="network_bytes_per_s"):
        check_stages(load_gpu("l40s"), 4, 3)


def test_all_stages_have_the_blocks_of_the_one_with_least_room() -> None:
    ledger = memory_ledger(
        MemoryDemand(
            spec=LLAMA,
            gpu=GPU,
            precision=BF16,
            tp=2,
            pp=4,
            max_num_batched_tokens=8192,
            max_num_seqs=256,
            max_model_len=8192,
            version="0.33",
        )
    )
    assert ledger.num_gpu_blocks == min(blocks for _, _, blocks in ledger.stages)
    weights = [held for _, held, _ in ledger.stages]
    assert weights[0] == weights[1] + 128_256 * 8192  # an embedding of 2 bytes over 2 GPUs
    assert weights[3] == weights[1] + 128_256 * 8192 + 8192 * 2  # the head, and the final norm
    assert ledger.stage == "stage 4 of 4 (layers 60 to 79)"  # it samples
    assert ledger.block_bytes == 16 * 20 * 2 * 4 * 128 * 2
    assert "stage 2 (layers 20 to 39)" in ledger.as_text()
    assert ledger.sizes == "tensor_parallel_size = 2, pipeline_parallel_size = 4"


def test_groups_are_those_of_the_whole_model_and_a_stage_has_its_layers_of_them() -> None:
    """vLLM PR 23974: full attention in layers 0 and 3, windows in the others, three groups of them:
    (1, 5), (2, 6) and (4,). Layers 0 to 3 fill two pages of a block, 4 to 6 one."""
    attention = attention_of(LLAMA)
    windowed = replace(attention, sliding_window=100)
    mixers = [attention, windowed, windowed, attention, windowed, windowed, windowed]
    each = [(mixer, LLAMA.layers[0].mlp) for mixer in mixers]
    spec = replace(LLAMA, layers=grouped(each, LLAMA.layers[0].norm))
    layout = kv_layout(spec, precision=BF16, version="0.33")
    page = 16 * 2 * 8 * 128 * 2
    assert [group.layers for group in layout.groups] == [2, 2, 2, 1]
    assert layout.places == ((0, 3), (1, 5), (2, 6), (4,))
    assert layout.block_bytes == 2 * page
    first, last = stages_of(spec, 2)
    own = [{place for kind in one.spec.layers for place in kind.places} for one in (first, last)]
    assert own == [{0, 1, 2, 3}, {4, 5, 6}]
    stages = [layout.of_stage(layers) for layers in own]
    assert [one.block_bytes for one in stages] == [2 * page, page]
    assert all(one.groups == layout.groups for one in stages)


@pytest.mark.parametrize(
    ("version", "asynchronous", "steps"),
    [("0.33", True, 3), ("0.33", False, 2), ("0.25", True, 1)],
)
def test_windows_keep_what_steps_under_way_read(
    version: str, asynchronous: bool, steps: int
) -> None:
    """As many budgets as the queue has batches (``max_in_flight_tokens``, since 0.26)."""
    demand = MemoryDemand(
        spec=load_spec("gpt-oss-20b"), gpu=GPU, precision=BF16, pp=2, version=version,
        max_num_batched_tokens=2048, max_num_seqs=64, async_scheduling=asynchronous,
    )  # fmt: skip
    ledger = demand.ledger()
    assert ledger.in_flight_tokens == steps * 2048
    assert ledger.waits_for_steps == (steps > 1)
    assert ledger.block_bytes == 16 * 6 * 2 * 8 * 64 * 2  # 12 layers a stage, 6 of each kind


def test_a_stage_keeps_buffers_for_what_it_receives() -> None:
    first, last = stages_of(LLAMA, 2)
    runs = [
        ProfileRun(
            spec=stage.spec, precision=BF16, tp=1, max_tokens=1000, max_seqs=10,
            embeds=stage.embeds, predicts=stage.predicts,
        )
        for stage in (first, last)
    ]  # fmt: skip
    assert [received_bytes(run) for run in runs] == [0, 2 * 1000 * 8192 * 2]
