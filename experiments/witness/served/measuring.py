"""Measures a server: its steps, what it spends outside of them, and what its clients see."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibrating.measure import grid, measure, probe_device
from experiments.witness.environment import Environment
from experiments.witness.served import host, predicting
from experiments.witness.served.bench import run_bench
from experiments.witness.served.driving import Tell, driven, runs_at
from experiments.witness.served.processes import (
    OTHERS,
    Server,
    StepTimer,
    cpu_s,
    pin,
    server,
    step_timer,
)
from experiments.witness.served.setting import (
    SERVED,
    WIDE,
    Drawn,
    Engine,
    Traffic,
    as_data,
    drawn,
    texts,
    write_model,
)
from experiments.witness.served.stages import Stages
from experiments.witness.served.streams import Answer, burst

CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
EXPECTED_PER_S, MOST_TOKENS = 5000.0, 200
"""Tokens/s of many streams, about, and tokens of each stream at most."""
LONGEST = 512
"""Context of a measured step,"""
MANY_LONGEST = 256
"""and of one with hundreds of sequences."""


def measure_server(
    environment: Environment,
    out: Path,
    caching: bool,
    *,
    steps_s: float,
    run_s: float,
    ready: Callable[[], None],
    tell: Tell,
) -> Path:
    """Measure the server at every load, twice; keep all in one file. What is there already stays.

    Args:
        environment: with vLLM.
        out: folder; takes served.json or cached.json, and logs.
        caching: whether the server has its prefix cache.
        steps_s: seconds to time steps for, before and after the runs.
        run_s: of one run.
        ready: called once everything is started and before anything is measured.
        tell: told what is done.

    Raises:
        OtherSettingError: what a stopped measurement left behind is another one's.
        ServerFailedError: a process of vLLM failed.
    """
    engine, traffic = SERVED._replace(caching=caching), Traffic()
    path, logs, model = _places(out, "cached" if caching else "served")
    if path.exists():
        return path
    stages = _stages(path, environment, engine, traffic, steps_s, run_s)
    with _warmed(environment, model, engine, traffic, logs) as (timer, running):
        ready()
        data = {"vllm": environment.newest, **as_data(engine, traffic)}
        data |= _begun(stages, timer, running, model, traffic, engine, steps_s, tell)
        capacity_per_s = stages("capacity", lambda: predicting.capacity_per_s(data))
        tell(f"capacity: {capacity_per_s:.1f} requests/s")
        data["capacity_per_s"] = capacity_per_s
        client = partial(run_bench, environment, running, model)
        data |= driven(client, runs_at(capacity_per_s, run_s), traffic, logs, stages, tell)
        data["steps"].append(stages("steps after", lambda: _steps(timer, engine, steps_s, tell)))
    return _written(path, data, stages)


def measure_curve(
    environment: Environment,
    out: Path,
    *,
    steps_s: float,
    run_s: float,
    ready: Callable[[], None],
    tell: Tell,
) -> Path:
    """Measure where one API process stops: streams of one to hundreds, each point twice.

    Args and Raises: see ``measure_server``.
    """
    engine = WIDE
    traffic = Traffic(prefixes=1, prefix_tokens=8, own_mean=8, own_most=8, output_mean=128)
    path, logs, model = _places(out, "curve")
    if path.exists():
        return path
    stages = _stages(path, environment, engine, traffic, steps_s, run_s)
    with _warmed(environment, model, engine, traffic, logs) as (timer, running):
        ready()
        data = {"vllm": environment.newest, **as_data(engine, traffic)}
        data |= _begun(stages, timer, running, model, traffic, engine, steps_s, tell)
        data["points"] = []
        for again in (False, True):
            for streams in CURVE:
                tokens = min(MOST_TOKENS, round(EXPECTED_PER_S * run_s / streams))
                point = partial(_point, running, model, streams, tokens)
                found = stages(f"{streams} streams{', again' if again else ''}", point)
                tell(f"{streams} streams: {found['tokens'] / found['lasted_s']:.0f} tokens/s")
                data["points"].append({"streams": streams, "again": again, **found})
        data["steps"].append(stages("steps after", lambda: _steps(timer, engine, steps_s, tell)))
    return _written(path, data, stages)


def _places(out: Path, name: str) -> tuple[Path, Path, Path]:
    path, logs, model = out / f"{name}.json", out / name, out / "model"
    logs.mkdir(parents=True, exist_ok=True)
    write_model(model)
    return path, logs, model


@contextmanager
def _warmed(
    environment: Environment, model: Path, engine: Engine, traffic: Traffic, logs: Path
) -> Iterator[tuple[StepTimer, Server]]:
    """A timer of vLLM's steps, and its server, which has answered before anything is measured."""
    with (
        step_timer(environment, model, engine, logs / "steps.log") as timer,
        server(environment, model, engine, logs / "server.log") as running,
    ):
        _warm(running, model, traffic)
        yield timer, running


def _stages(
    path: Path, environment: Environment, engine: Engine, traffic: Traffic, steps_s: float,
    run_s: float,
) -> Stages:  # fmt: skip
    setting = {"vllm": environment.newest, **as_data(engine, traffic)}
    setting |= {"steps_s": steps_s, "run_s": run_s}
    return Stages(path.with_suffix(".part.json"), setting)


def _begun(
    stages: Stages, timer: StepTimer, running: Server, model: Path, traffic: Traffic,
    engine: Engine, steps_s: float, tell: Tell,
) -> dict[str, Any]:  # fmt: skip
    """What comes before all runs: the machine, its steps, and what is spent outside of them."""
    return {
        "device": stages("device", _device),
        "measured_on": stages("measured_on", lambda: time.strftime("%Y-%m-%d")),
        "steps": [stages("steps", lambda: _steps(timer, engine, steps_s, tell))],
        "phases": stages(
            "phases", lambda: host_phases(running, model, traffic, (1, 4, 16, 32), tell)
        ),
    }


def _device() -> dict[str, Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    device = probe_device(torch.device("cpu"), torch.float32)
    torch.set_num_threads(threads)
    return device.model_dump(mode="json", exclude_none=True)


def _written(path: Path, data: dict[str, Any], stages: Stages) -> Path:
    data |= predicting.fitted(data)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    os.replace(new, path)
    stages.done()
    return path


def _warm(running: Server, model: Path, traffic: Traffic) -> None:
    requests = drawn(traffic, 24)
    prompts = texts(requests, traffic.prefix_tokens, traffic.seed + 1)
    burst(running.port, str(model), prompts, requests.output.tolist(), 8)


def _steps(timer: StepTimer, engine: Engine, budget_s: float, tell: Tell) -> list[dict[str, Any]]:
    """Time the grid of steps that the torch decoder is calibrated with."""
    tell(f"timing steps for {budget_s:g} s")
    longest = MANY_LONGEST if engine == WIDE else LONGEST
    shapes = grid(engine.max_num_seqs, longest, engine.max_num_batched_tokens)
    for past in (longest // 4, longest // 2):
        timer.asked({"cached": past})
    return [asdict(one) for one in measure(timer, shapes, budget_s)]


def host_phases(
    running: Server, model: Path, traffic: Traffic, bursts: Sequence[int], tell: Tell
) -> list[dict[str, Any]]:
    """Requests alone, one beside a stream, and streams that begin together.

    Every phase has the CPU seconds of the API server, of the engine, and of this client.
    """
    tell("requests alone, and streams together")
    rng = np.random.default_rng(traffic.seed + 2)
    found = []
    for prompt in host.PROMPTS:
        rows = Drawn(np.zeros(host.ALONE, dtype=int), np.full(host.ALONE, prompt), np.array([2]))
        prompts = texts(rows, 0, int(rng.integers(1 << 30)))
        outputs = [2] * host.ALONE
        found.append(_phase("alone", running, model, prompts, outputs, 1, prompt))
    for streams in bursts:
        for _ in range(3):
            rows = Drawn(np.zeros(streams, dtype=int), np.full(streams, 16), np.array([64]))
            prompts = texts(rows, 0, int(rng.integers(1 << 30)))
            outputs = [64] * streams
            found.append(_phase("burst", running, model, prompts, outputs, streams, 16))
    for _ in range(4):
        count, prompt, each = host.CHURN
        rows = Drawn(np.zeros(count, dtype=int), np.full(count, prompt), np.full(count, each))
        prompts = texts(rows, 0, int(rng.integers(1 << 30)))
        outputs = [each] * count
        found.append(_phase("churn", running, model, prompts, outputs, host.CHURNING, prompt))
    return found


def _phase(
    kind: str, running: Server, model: Path, prompts: list[str], outputs: list[int],
    streams: int, prompt: int,
) -> dict[str, Any]:  # fmt: skip
    answers, spent = _spent(running, model, prompts, outputs, streams)
    return {
        "kind": kind, "streams": streams, "prompt": prompt, "requests": len(answers),
        "tokens": sum(outputs), "lasted_s": _lasted_s(answers),
        "ttft_s": [one.first_s - one.sent_s for one in answers],
        "tpot_s": [one.tpot_s for one in answers],
        "messages": sum(one.messages for one in answers), **spent,
    }  # fmt: skip


def _lasted_s(answers: Sequence[Answer]) -> float:
    return max(one.last_s for one in answers) - min(one.sent_s for one in answers)


def _point(running: Server, model: Path, streams: int, tokens: int) -> dict[str, Any]:
    prompt = np.full(streams, predicting.CURVE_PROMPT)
    rows = Drawn(np.zeros(streams, dtype=int), prompt, np.array([tokens]))
    prompts = texts(rows, 0, 3)
    answers, spent = _spent(running, model, prompts, [tokens] * streams, streams)
    return {
        "tokens": tokens * len(answers), "each": tokens,
        "messages": sum(one.messages for one in answers),
        "ttft_s": float(np.mean([one.first_s - one.sent_s for one in answers])),
        "tpot_s": float(np.mean([one.tpot_s for one in answers])),
        "lasted_s": _lasted_s(answers),
        **spent,
    }  # fmt: skip


def _spent(
    running: Server, model: Path, prompts: list[str], outputs: list[int], streams: int
) -> tuple[list[Answer], dict[str, float]]:
    """Answers, and the CPU seconds that they took: of the API server, the engine, this client."""
    pids = {"api_cpu_s": running.process.pid, "engine_cpu_s": running.engine()}
    pin(os.getpid(), OTHERS)  # it is a client now
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    own_s = time.process_time()
    answers = burst(running.port, str(model), prompts, outputs, streams)
    spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    return answers, spent | {"client_cpu_s": time.process_time() - own_s}
