"""What starts the answer: its study, the command line of ``vllm serve``, a Kubernetes manifest."""

import json
import shlex
from pathlib import Path
from typing import Any

from experiments.planning.plan_finding import Finalist
from experiments.planning.probes import DayProbe
from experiments.running.assemble import write_plain_yaml
from experiments.study.document import Study
from hardware.gpu import load_gpu
from hardware.host_link import GIB
from sim.engine_config import EngineConfig
from sim.offloading_config import OffloadingConfig
from sim.speculative import SpeculativeConfig

PORT = 8000
NOT_FLAGS = (
    "version", "scheduler", "order", "long_prefill_limits_alone", "scheduler_reserve_full_isl",
    "reuse_unhashed_first", "null_block", "watermark", "batch_timeout_s", "attention",
    "step_overhead_s", "sequence_overhead_s", "api_request_s", "api_token_s", "api_output_s",
    "enable_prefix_caching", "async_scheduling", "num_gpu_blocks", "quantization", "sampling",
    "expert_load_exponent", "scheduler_settings", "order_settings", "speculative",
    "kv_offloading_size", "kv_connector_extra_config", "host_link",
)  # fmt: skip
"""Settings that ``vllm serve`` has no flag of that name for, that follow from the version, or that
are written in another way."""


def winner_study(name: str, one: Finalist) -> Study:
    """Return the study whose runs are those that the answer's missed share rests on."""
    probe = one.probe
    runs = len(probe.days) if isinstance(probe, DayProbe) else probe.runs
    study = probe.study
    return study.model_copy(
        update={
            "name": f"{name}_winner",
            "description": f"{one.replicas} x {one.candidate.name}, as {name} found it.",
            "seed": study.seed + 1,
            "seeds": max(1, runs),
            "calibration_draws": 0,
        }
    )


def write_winner(study: Study, path: Path) -> None:
    """Write a study that can be run."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            "# The deployment that a plan found, under the traffic that it was tested with.\n"
        )
        file.write("# Run alone, it gives the plan's figures.\n")
        write_plain_yaml(study.resolved(), file)


def vllm_arguments(study: Study) -> list[str]:
    """Return the words after ``vllm serve`` that start a replica with the settings simulated."""
    engine = study.engine
    words = [study.model, "--tensor-parallel-size", str(study.cluster.tensor_parallel_size)]
    if study.cluster.pipeline_parallel_size > 1:
        words += ["--pipeline-parallel-size", str(study.cluster.pipeline_parallel_size)]
    if study.cluster.data_parallel_size > 1:
        words += ["--data-parallel-size", str(study.cluster.data_parallel_size)]
    for name in EngineConfig.model_fields:
        value = getattr(engine, name)
        default = EngineConfig.model_fields[name].default
        if name in NOT_FLAGS or value is None or (value == default and name != "block_size"):
            continue
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    if engine.speculative is not None and engine.speculative.num_speculative_tokens:
        words += ["--speculative-config", json.dumps(speculative_config(engine.speculative))]
    words += _offloading_arguments(engine)
    if engine.quantization not in ("auto", "none"):
        words += ["--quantization", engine.quantization]
    if engine.num_gpu_blocks is not None:
        words += ["--num-gpu-blocks-override", str(engine.num_gpu_blocks)]
    if engine.order == "priority":
        words += ["--scheduling-policy", "priority"]
    for name in ("enable_prefix_caching", "async_scheduling"):
        value = getattr(engine, name)
        if value is not None:
            words.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
    return words


def _offloading_arguments(engine: EngineConfig) -> list[str]:
    """Words for KV in the host's memory: one flag, or its connector with what differs."""
    size_gib, told = engine.kv_offloading_size, engine.kv_connector_extra_config
    if size_gib is None:
        return []
    if told == OffloadingConfig():
        return ["--kv-offloading-size", f"{size_gib:g}"]
    extra = told.model_dump(exclude_defaults=True) | {"cpu_bytes_to_use": int(size_gib * GIB)}
    connector = {
        "kv_connector": "OffloadingConnector", "kv_role": "kv_both",
        "kv_connector_extra_config": extra,
    }  # fmt: skip
    return ["--kv-transfer-config", json.dumps(connector)]


def speculative_config(speculative: SpeculativeConfig) -> dict[str, Any]:
    """Return what a server is told of its drafts: all but how many are right, which it finds."""
    told = {
        name: getattr(speculative, name)
        for name in (
            "method", "num_speculative_tokens", "model", "num_speculative_tokens_per_batch_size",
        )
    }  # fmt: skip
    if speculative.disable_eagle_block_drop:
        told["disable_eagle_block_drop"] = True
    return {name: value for name, value in told.items() if value is not None}


def notes_of(study: Study) -> list[str]:
    """Say what of the simulation a command line cannot hold."""
    told = []
    if "/" not in study.model:
        told.append(f"{study.model}: write the published name or the path of the checkpoint")
    drafts = study.engine.speculative
    if drafts is not None and drafts.num_speculative_tokens:
        if drafts.method in ("eagle", "eagle3") and drafts.model is None:
            told.append(f"{drafts.method}: write the head's name into the speculative config")
        told.append("how many drafts are right is the study's assumption: measure it")
    if study.engine.order == "shortest_prompt":
        told.append("order: shortest_prompt is not an option of vLLM")
    if study.engine.scheduler == "static":
        told.append("scheduler: static is not an option of vLLM")
    if study.cluster.replicas > 1:
        told.append(
            f"{study.cluster.replicas} such replicas behind a router that works like "
            f"{study.cluster.router}"
        )
    return told


def serve_script(study: Study) -> str:
    """Return a shell script that starts one replica."""
    words = ["vllm", "serve", *vllm_arguments(study)]
    lines = [words[0] + " " + words[1] + " " + shlex.quote(words[2])]
    line = ""
    for word in words[3:]:
        if word.startswith("--") and line:
            lines.append(line)
            line = ""
        line = f"{line} {shlex.quote(word)}".strip()
    lines.append(line)
    told = "".join(f"# {note}\n" for note in notes_of(study))
    version = study.engine.version
    return (
        f"#!/bin/sh\n# One replica as it was simulated: vLLM {version}, "
        f"{_gpu(study)}.\n{told}" + " \\\n  ".join(lines) + "\n"
    )


def manifest(study: Study, name: str) -> list[dict[str, Any]]:
    """Return a Deployment and a Service of Kubernetes for all replicas."""
    label = _label(name)
    labels = {"app": label}
    gpus = study.cluster.all_pools[0].gpus_of_one
    version = study.engine.version
    container = {
        "name": "vllm",
        "image": f"vllm/vllm-openai:v{_release(version)}",
        "command": ["vllm", "serve"],
        "args": vllm_arguments(study),
        "ports": [{"containerPort": PORT}],
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 10},
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": label,
            "labels": dict(labels),
            "annotations": {"headroom/gpu": _gpu(study)},
        },
        "spec": {
            "replicas": study.cluster.replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {"containers": [container]},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": label},
        "spec": {"selector": dict(labels), "ports": [{"port": PORT, "targetPort": PORT}]},
    }
    return [deployment, service]


def write_manifest(study: Study, name: str, path: Path) -> None:
    """Write the manifest; kubectl reads it as it is."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# All replicas of the deployment that a plan found. A Service of Kubernetes\n")
        file.write(
            f"# spreads connections at random; it was simulated with {study.cluster.router}:\n"
        )
        file.write("# a gateway that knows the load of the replicas does that.\n")
        for number, document in enumerate(manifest(study, name)):
            file.write("---\n" if number else "")
            write_plain_yaml(document, file)


def _gpu(study: Study) -> str:
    gpu = study.cluster.gpu
    shown = load_gpu(gpu).name if isinstance(gpu, str) and gpu != "calibrated" else "its GPU"
    return f"{study.cluster.all_pools[0].gpus_of_one} x {shown}"


def _label(name: str) -> str:
    """A name as Kubernetes allows it: lower case letters, digits and dashes, 63 at most."""
    letters = [letter if letter.isalnum() and letter.isascii() else "-" for letter in name.lower()]
    return "".join(letters).strip("-")[:63].rstrip("-") or "headroom"


def _release(version: str | None) -> str:
    """A release of vLLM: three numbers."""
    parts = (version or "0").split(".")
    return ".".join([*parts, "0", "0"][:3])
