"""What starts the answer: its study, the command lines of ``vllm serve``, a Kubernetes manifest."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experiments.planning.day_probe import DayProbe
from experiments.planning.plan.finding import Finalist
from experiments.planning.plan.stated import stated
from experiments.planning.plan.vllm_command import notes_of, vllm_arguments
from experiments.running.assemble import write_plain_yaml
from experiments.study.calibrations import names_calibrated
from experiments.study.document import Study
from experiments.study.pools import by_pool
from hardware.gpu import load_gpu
from model.counts import count_of
from sim.settings.pools import DECODE, PREFILL, SERVE, PoolConfig

PORT = 8000
SHARED = "shm"
PREFIX, LONGEST = "headroom", 63


def winner_study(name: str, one: Finalist) -> Study:
    """Return the study whose runs are those that the answer's missed share rests on."""
    probe = one.probe
    runs = len(probe.days) if isinstance(probe, DayProbe) else probe.runs
    study = probe.study
    return study.model_copy(
        update={
            "name": f"{name}_winner",
            "description": f"{one.candidate.told(one.replicas)}, as {name} found it.",
            "seed": study.seed + 1,
            "seeds": max(1, runs),
            "calibration_draws": 0,
        }
    )


def write_winner(study: Study, chosen: Iterable[str], path: Path) -> None:
    """Write a study that can be run: what differs from the defaults, and the ``chosen`` keys."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            "# The deployment that a plan found, under the traffic that it was tested with.\n"
        )
        file.write("# Run alone, it gives the plan's figures.\n")
        write_plain_yaml(stated(study, chosen), file)


def serve_script(study: Study) -> str:
    """Return a shell script that starts one replica: of the pool that its argument names."""
    pools = by_pool(study)
    version = pools[0][1].engine.version
    header = ["#!/bin/sh", f"# {_deployed(study)}."]
    if len(pools) == 1:
        ((pool, alone),) = pools
        lines = [f"# One of them as it was simulated: vLLM {version}, {_gpu(pool)}."]
        lines += [
            *(f"# {note}" for note in notes_of(alone, study.cluster.kv_store)),
            *_command(study, pool, alone),
        ]
        return "\n".join([*header, *lines]) + "\n"
    names = "|".join(pool.name for pool, _ in pools)
    lines = [f"# sh serve.sh {names} starts a replica of one pool, as simulated.", 'case "$1" in']
    for pool, alone in pools:
        lines.append(f"{pool.name})  # {pool.replicas} of them: vLLM {version}, {_gpu(pool)}")
        lines += [f"# {note}" for note in notes_of(alone, study.cluster.kv_store)]
        lines += [*_command(study, pool, alone), ";;"]
    lines += [f'*) echo "expected one of {names}" >&2; exit 2 ;;', "esac"]
    return "\n".join([*header, *lines]) + "\n"


def _deployed(study: Study) -> str:
    """Say what the router has to do."""
    pools, router = study.cluster.all_pools, study.cluster.router
    count = sum(pool.replicas for pool in pools)
    replicas = count_of(count, "replica")
    if not study.cluster.has_roles:
        return f"{replicas} behind a router that works like {router}"
    roles = ((PREFILL, "compute prompts"), (DECODE, "answer"))
    told = [
        f"{sum(pool.replicas for pool in pools if pool.role == role)} {text}"
        for role, text in roles
    ]
    return (
        f"{replicas} behind llm-d's router or one like it: {', '.join(told)}, chosen like {router}"
    )


def _command(study: Study, pool: PoolConfig, alone: Study) -> list[str]:
    """Lines of ``vllm serve`` for one replica of a pool."""
    words = vllm_arguments(alone, pool.role, study.cluster.kv_transfer, study.cluster.kv_store)
    lines = [f"vllm serve {shlex.quote(words[0])}"]
    for word in words[1:]:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n  ".join(lines).split("\n")


def manifest(study: Study, name: str) -> list[dict[str, Any]]:
    """Return a Deployment of Kubernetes for each pool, and a Service for all replicas.

    Where pools have roles requests must not come to any of them: each has a Service of its own.
    """
    pools, label = by_pool(study), _label(name)
    labels = {"app": label}
    documents: list[dict[str, Any]] = []
    for pool, alone in pools:
        own = label if len(pools) == 1 else _label(name, pool.name)
        told = dict(labels) if len(pools) == 1 else {**labels, "pool": own}
        words = vllm_arguments(alone, pool.role, study.cluster.kv_transfer, study.cluster.kv_store)
        documents.append(_deployment(own, told, pool, alone, words))
        if study.cluster.has_roles:
            documents.append(_service(own, told))
    return documents if study.cluster.has_roles else [*documents, _service(label, labels)]


def _deployment(
    name: str, labels: dict[str, str], pool: PoolConfig, alone: Study, words: list[str]
) -> dict[str, Any]:
    ranks = pool.gpus_of_one
    container = {
        "name": "vllm",
        "image": f"vllm/vllm-openai:v{_release(alone.engine.version)}",
        "command": ["vllm", "serve"],
        "args": words,
        "ports": [{"containerPort": PORT}],
        **_hands_over(pool),
        **({"volumeMounts": [{"name": SHARED, "mountPath": "/dev/shm"}]} if ranks > 1 else {}),
        "resources": {"limits": {"nvidia.com/gpu": pool.gpus_of_one}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 10},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "labels": dict(labels),
            "annotations": {"headroom/gpu": _gpu(pool)},
        },
        "spec": {
            "replicas": pool.replicas,
            "selector": {"matchLabels": dict(labels)},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {"containers": [container], **_volumes(pool)},
            },
        },
    }


def _volumes(pool: PoolConfig) -> dict[str, Any]:
    """What ranks talk through: a container has 64 MiB of shared memory, too little for NCCL."""
    if pool.gpus_of_one == 1:
        return {}
    return {"volumes": [{"name": SHARED, "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]}


def _hands_over(pool: PoolConfig) -> dict[str, Any]:
    """What a replica needs whose KV others read: the address at which they ask for it."""
    if pool.role == SERVE:
        return {}
    own = {"fieldRef": {"fieldPath": "status.podIP"}}
    return {"env": [{"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "valueFrom": own}]}


def _service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": dict(labels), "ports": [{"port": PORT, "targetPort": PORT}]},
    }


def write_manifest(study: Study, name: str, path: Path) -> None:
    """Write the manifest; kubectl reads it as it is."""
    if study.cluster.has_roles:
        told = ["Which replicas compute a prompt and which answer it is for a router to say, such",
                "as llm-d's; it chose as " + study.cluster.router + " does."]  # fmt: skip
    else:
        told = [
            "A Service of Kubernetes spreads connections at random; it was simulated with",
            f"{study.cluster.router}: a gateway that knows the load of the replicas does that.",
        ]
    if len({_gpu(pool) for pool in study.cluster.all_pools}) > 1:
        told += [
            "Pools differ in their GPUs: a nodeSelector has to bring each to its own, as its",
            "annotation headroom/gpu says.",
        ]
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("# All replicas of the deployment that a plan found.\n")
        file.writelines(f"# {line}\n" for line in told)
        for number, document in enumerate(manifest(study, name)):
            file.write("---\n" if number else "")
            write_plain_yaml(document, file)


def _gpu(pool: PoolConfig) -> str:
    known = isinstance(pool.gpu, str) and not names_calibrated(pool.gpu)
    return f"{pool.gpus_of_one} x {load_gpu(pool.gpu).name if known else 'its GPU'}"


def _label(name: str, part: str = "") -> str:
    """A name as Kubernetes allows a Service to have: lower case letters, digits and dashes.

    A letter is first, and there are 63 at most, of which ``part`` keeps its own.
    """
    whole, end = _letters(name) or PREFIX, _letters(part)[: LONGEST // 2]
    if not whole[0].isalpha():
        whole = f"{PREFIX}-{whole}"
    if not end:
        return whole[:LONGEST].rstrip("-")
    return f"{whole[: LONGEST - 1 - len(end)].rstrip('-')}-{end}"


def _letters(name: str) -> str:
    letters = [letter if letter.isalnum() and letter.isascii() else "-" for letter in name.lower()]
    return "".join(letters).strip("-")


def _release(version: str | None) -> str:
    """A release of vLLM: three numbers."""
    parts = (version or "0").split(".")
    return ".".join([*parts, "0", "0"][:3])
