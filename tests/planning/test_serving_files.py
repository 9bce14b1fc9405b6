"""The command line of an answer holds flags that ``vllm serve`` has, and nothing else."""

import json
import re
from pathlib import Path

import pytest

from experiments.planning.plan.serving_files import manifest
from experiments.planning.plan.vllm_command import NOT_FLAGS, notes_of, vllm_arguments
from experiments.study.build import settled
from experiments.study.document import read_raw
from experiments.study.points import prepare
from sim.settings.engine_config import EngineConfig

KNOWN = {
    "--tensor-parallel-size", "--max-num-seqs", "--max-num-batched-tokens", "--max-model-len",
    "--block-size", "--gpu-memory-utilization", "--enable-prefix-caching", "--async-scheduling",
    "--no-enable-prefix-caching", "--no-async-scheduling", "--enable-expert-parallel",
    "--disable-hybrid-kv-cache-manager", "--kv-cache-dtype", "--dtype", "--quantization",
    "--long-prefill-token-threshold", "--scheduling-policy", "--num-gpu-blocks-override",
    "--data-parallel-size", "--all2all-backend", "--speculative-config", "--kv-offloading-size",
    "--kv-transfer-config", "--pipeline-parallel-size", "--prefix-cache-retention-interval",
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


def test_no_key_of_an_engine_becomes_a_flag_that_there_is_not() -> None:
    flags = {f"--{name.replace('_', '-')}" for name in EngineConfig.model_fields}
    flags -= {f"--{name.replace('_', '-')}" for name in NOT_FLAGS}
    assert flags <= KNOWN | {
        "--api-server-count", "--enforce-eager", "--max-cudagraph-capture-size", "--moe-backend",
        "--stream-interval",
    }  # fmt: skip


def test_graphs_and_fused_norms_are_a_compilation_config(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        STUDY.replace(
            "engine: {", "engine: {cudagraph_mode: FULL_DECODE_ONLY, fuse_allreduce_rms: false, "
        )
    )
    plan = prepare(read_raw(tmp_path / "small.yaml", []))
    words = vllm_arguments(settled(plan.points[0].study))
    told = words[words.index("--compilation-config") + 1]
    assert json.loads(told) == {
        "cudagraph_mode": "FULL_DECODE_ONLY",
        "pass_config": {"fuse_allreduce_rms": False},
    }


def test_stages_are_a_flag_and_their_own_default_of_planning_ahead(tmp_path: Path) -> None:
    def words(version: str) -> list[str]:
        engine = f"engine: {{version: '{version}', "
        text = STUDY.replace("engine: {", engine).replace("el_size: 2", "el_size: 1, @")
        text = text.replace("@", "pipeline_parallel_size: 2")
        (tmp_path / "small.yaml").write_text(text)
        plan = prepare(read_raw(tmp_path / "small.yaml", []))
        return vllm_arguments(settled(plan.points[0].study))

    new, old = words("0.33"), words("0.14")
    assert new[new.index("--pipeline-parallel-size") + 1] == "2"
    assert {word for word in new if word.startswith("--")} <= KNOWN
    assert "--async-scheduling" in new
    assert "--no-async-scheduling" in old  # that version has none with stages


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


def test_the_host_s_memory_is_one_flag_or_its_connector(tmp_path: Path) -> None:
    def words(engine: str) -> list[str]:
        text = STUDY.replace("engine: {", f"engine: {{{engine}, ")
        (tmp_path / "small.yaml").write_text(text)
        plan = prepare(read_raw(tmp_path / "small.yaml", []))
        return vllm_arguments(settled(plan.points[0].study))

    plain = words("kv_offloading_size: 64, host_link: {latency_s: 0.002}")
    assert plain[plain.index("--kv-offloading-size") + 1] == "64"
    assert {word for word in plain if word.startswith("--")} <= KNOWN
    own = words("kv_offloading_size: 64, kv_connector_extra_config: {offload_prompt_only: false}")
    assert {word for word in own if word.startswith("--")} <= KNOWN
    assert json.loads(own[own.index("--kv-transfer-config") + 1]) == {
        "kv_connector": "OffloadingConnector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"offload_prompt_only": False, "cpu_bytes_to_use": 64 << 30},
    }  # fmt: skip


def test_a_shared_store_is_its_connector_or_a_tier_below_the_host_s(tmp_path: Path) -> None:
    def told(engine: str) -> dict[str, object]:
        store = "cluster: {kv_store: {size_gib: 512, bandwidth_gb_s: 20}, "
        text = STUDY.replace("cluster: {", store).replace("engine: {", f"engine: {{{engine}")
        (tmp_path / "small.yaml").write_text(text)
        study = settled(prepare(read_raw(tmp_path / "small.yaml", [])).points[0].study)
        words = vllm_arguments(study, store=study.cluster.kv_store)
        assert {word for word in words if word.startswith("--")} <= KNOWN
        assert words.count("--kv-transfer-config") == 1
        assert "512 GiB" in notes_of(study, study.cluster.kv_store)[0]
        return json.loads(words[words.index("--kv-transfer-config") + 1])

    assert told("") == {"kv_connector": "MooncakeStoreConnector", "kv_role": "kv_both"}
    below = told("kv_offloading_size: 64, ")
    assert below["kv_connector"] == "OffloadingConnector"
    extra = below["kv_connector_extra_config"]
    assert isinstance(extra, dict)
    assert extra["spec_name"] == "TieringOffloadingSpec"
    assert extra["cpu_bytes_to_use"] == 64 << 30


@pytest.mark.parametrize("name", ["8b_" + "long" * 20, "___", "small"])
def test_a_manifest_is_one_that_kubernetes_takes(name: str) -> None:
    """Services begin with a letter, no two objects are alike, ranks have shared memory."""
    pools = [
        {"name": "prefill", "gpu": "h100-sxm", "role": "prefill"},
        {"name": "decode", "gpu": "h100-sxm", "role": "decode", "tensor_parallel_size": 2},
    ]
    raw = {
        "model": "llama-3.1-8b", "cluster": {"pools": pools},
        "workload": {"arrivals": {"process": "poisson", "rate_per_s": 1}, "num_requests": 10,
                     "lengths": {"prompt": 10, "output": 10}},
    }  # fmt: skip
    documents = manifest(settled(prepare(read_raw(raw)).study), name)
    names = [(one["kind"], one["metadata"]["name"]) for one in documents]
    assert len(set(names)) == 4
    for _, each in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", each)
    deployments = [one for one in documents if one["kind"] == "Deployment"]
    assert [one["metadata"]["labels"]["pool"] for one in deployments] == [names[0][1], names[2][1]]
    pods = [one["spec"]["template"]["spec"] for one in deployments]
    assert ["volumes" in pod for pod in pods] == [False, True]
    assert pods[1]["containers"][0]["volumeMounts"][0]["mountPath"] == "/dev/shm"
