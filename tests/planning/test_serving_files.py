"""The command line of an answer holds flags that ``vllm serve`` has, and nothing else."""

import json
from pathlib import Path

from experiments.planning.serving_files import vllm_arguments
from experiments.study.build import settled
from experiments.study.document import read_raw
from experiments.study.points import prepare

KNOWN = {
    "--tensor-parallel-size", "--max-num-seqs", "--max-num-batched-tokens", "--max-model-len",
    "--block-size", "--gpu-memory-utilization", "--enable-prefix-caching", "--async-scheduling",
    "--no-enable-prefix-caching", "--no-async-scheduling", "--enable-expert-parallel",
    "--disable-hybrid-kv-cache-manager", "--kv-cache-dtype", "--dtype", "--quantization",
    "--long-prefill-token-threshold", "--scheduling-policy", "--num-gpu-blocks-override",
    "--data-parallel-size", "--all2all-backend", "--speculative-config",
}  # fmt: skip
STUDY = """
model: qwen3-30b-a3b
cluster: {gpu: h200-sxm, tensor_parallel_size: 2}
engine: {enable_expert_parallel: true, sampling: top_p, expert_load_exponent: 0.5}
workload:
  arrivals: {process: poisson, rate_per_s: 4}
  lengths:
    prompt: {distribution: constant, value: 300}
    output: {distribution: constant, value: 60}
  num_requests: 100
"""


def test_flags_are_those_of_vllm_serve(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    plan = prepare(read_raw(tmp_path / "small.yaml", []))
    words = vllm_arguments(settled(plan.points[0].study))
    flags = {word for word in words if word.startswith("--")}
    assert flags <= KNOWN
    assert "--enable-expert-parallel" in flags
    assert words[words.index("--enable-expert-parallel") + 1].startswith("--")


def test_drafts_are_a_speculative_config_without_what_a_server_finds_out(tmp_path: Path) -> None:
    drafts = (
        "engine: {speculative: {method: draft_model, model: qwen3-0.6b, "
        "num_speculative_tokens: 3, synthetic_acceptance_length: 2.5}, "
    )
    (tmp_path / "small.yaml").write_text(STUDY.replace("engine: {", drafts))
    plan = prepare(read_raw(tmp_path / "small.yaml", []))
    words = vllm_arguments(settled(plan.points[0].study))
    assert {word for word in words if word.startswith("--")} <= KNOWN
    assert json.loads(words[words.index("--speculative-config") + 1]) == {
        "method": "draft_model", "num_speculative_tokens": 3, "model": "qwen3-0.6b",
    }  # fmt: skip
