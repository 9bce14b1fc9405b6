"""Measures a server: its steps, what it spends outside of them, and what its clients see."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibrating.measure import grid, measure, probe_device
from experiments.witness.environment import Environment
from experiments.witness.served import host, predicting
from experiments.witness.served.bench import Told, run_bench
from experiments.witness.served.figures import measured
from experiments.witness.served.processes import (
    OTHERS,
    Server,
    ServerFailedError,
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
    write_prompts,
)
from experiments.witness.served.streams import Answer, burst

LOADS = (0.3, 0.6, 0.85)
STREAMS = (16,)
"""Of closed loops."""
CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
EXPECTED_PER_S, MOST_TOKENS = 5000.0, 200
"""Tokens/s of many streams, about, and tokens of each stream at most."""
ALONE = 60
"""Requests of the bench client that meet nobody: their way in is another than a light client's."""
CLOSED = 0.8
"""Requests of a closed loop, as those of an open one at this load."""
LONGEST = 512
"""Context of a measured step,"""
MANY_LONGEST = 256
"""and of one with hundreds of sequences."""
Tell = Callable[[str], None]


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
    """Measure the server at every load, twice; keep all in one file.

    Args:
        environment: with vLLM.
        out: folder; takes served.json or cached.json, and logs.
        caching: whether the server has its prefix cache.
        steps_s: seconds to time steps for, before and after the runs.
        run_s: of one run.
        ready: called once everything is started and before anything is measured.
        tell: told what is done.

    Raises:
        FileExistsError: it is there already.
        ServerFailedError: a process of vLLM failed.
    """
    engine, traffic = SERVED._replace(caching=caching), Traffic()
    path, logs, model = _places(out, "cached" if caching else "served")
    with (
        step_timer(environment, model, engine, logs / "steps.log") as timer,
        server(environment, model, engine, logs / "server.log") as running,
    ):
        data = _begun(environment, engine, traffic)
        _warm(running, model, traffic)
        ready()
        data["steps"] = [_steps(timer, engine, steps_s, tell)]
        data["phases"] = host_phases(running, model, traffic, (1, 4, 16, 32), tell)
        capacity_per_s = predicting.capacity_per_s(data)
        tell(f"capacity: {capacity_per_s:.1f} requests/s")
        data["capacity_per_s"] = capacity_per_s
        client = partial(run_bench, environment, running, model)
        runs = _runs(capacity_per_s, run_s)
        data |= _driven(client, runs, traffic, logs, tell)
        data["steps"].append(_steps(timer, engine, steps_s, tell))
    return _written(path, data)


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
    with (
        step_timer(environment, model, engine, logs / "steps.log") as timer,
        server(environment, model, engine, logs / "server.log") as running,
    ):
        data = _begun(environment, engine, traffic)
        _warm(running, model, traffic)
        ready()
        data["steps"] = [_steps(timer, engine, steps_s, tell)]
        data["phases"] = host_phases(running, model, traffic, (1, 4, 16, 32), tell)
        data["points"] = []
        for again in (False, True):
            for streams in CURVE:
                tokens = min(MOST_TOKENS, round(EXPECTED_PER_S * run_s / streams))
                found = _point(running, model, streams, tokens)
                tell(f"{streams} streams: {found['tokens'] / found['lasted_s']:.0f} tokens/s")
                data["points"].append({"streams": streams, "again": again, **found})
    return _written(path, data)


def _runs(capacity_per_s: float, run_s: float) -> list[dict[str, Any]]:
    """Open loops at shares of the capacity, and closed ones, all of about the same length."""

    def count(load: float) -> int:
        return max(8, round(load * capacity_per_s * run_s))

    return [
        *(
            {
                "load": load,
                "rate_per_s": load * capacity_per_s,
                "streams": None,
                "count": count(load),
            }
            for load in LOADS
        ),
        *(
            {"load": None, "rate_per_s": None, "streams": streams, "count": count(CLOSED)}
            for streams in STREAMS
        ),
    ]


def _driven(
    client: Callable[..., Told],
    runs: Sequence[dict[str, Any]],
    traffic: Traffic,
    logs: Path,
    tell: Tell,
) -> dict[str, Any]:
    """Drive the server with the bench client: all runs once, then all again."""
    start = client(_prompts(logs, traffic, 1), 1, None, 1, logs / "start.json")
    alone = client(_prompts(logs, traffic, ALONE), ALONE, None, 1, logs / "alone.json")
    found = []
    for again in (False, True):  # two runs of one setting are a drift apart
        for place, run in enumerate(runs):
            tell(f"{run}")
            count = run["count"]
            prompts = _prompts(logs, traffic, count)
            out = logs / f"run{place}{again:d}.json"
            told = client(prompts, count, run["rate_per_s"], run["streams"], out)
            found.append(_kept(run, again, told, traffic))
    ttft_s = [round(one, 6) for one in alone.columns["ttft_s"]]
    return {
        "client_start_s": start.client_cpu_s,
        "alone": {"count": ALONE, "ttft_s": ttft_s},
        "runs": found,
    }


def _kept(run: dict[str, Any], again: bool, found: Told, traffic: Traffic) -> dict[str, Any]:
    """What is kept of a run; the requests can be drawn again, and so only their times are.

    Raises:
        ServerFailedError: other requests than these were answered.
    """
    asked = drawn(traffic, run["count"])
    for name, wanted in (("prompt_tokens", asked.prompt), ("output_tokens", asked.output)):
        if found.columns[name] != wanted.tolist():
            raise ServerFailedError(f"{name} of the client's result are not those of its prompts")
    return {
        **run,
        "again": again,
        "client_cpu_s": found.client_cpu_s,
        "sent_s": found.columns["sent_s"],
        "messages": len(found.columns["gaps_s"]) + run["count"],
        "figures": measured(found.columns, found.counted, found.samples),
        "samples": found.samples,
    }


def _places(out: Path, name: str) -> tuple[Path, Path, Path]:
    path, logs, model = out / f"{name}.json", out / name, out / "model"
    if path.exists():
        raise FileExistsError(f"{path} is there already, expected a new --out")
    logs.mkdir(parents=True, exist_ok=True)
    write_model(model)
    return path, logs, model


def _begun(environment: Environment, engine: Engine, traffic: Traffic) -> dict[str, Any]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    device = probe_device(torch.device("cpu"), torch.float32)
    torch.set_num_threads(threads)
    return {
        "vllm": environment.newest,
        **as_data(engine, traffic),
        "device": device.model_dump(mode="json", exclude_none=True),
        "measured_on": time.strftime("%Y-%m-%d"),
    }


def _written(path: Path, data: dict[str, Any]) -> Path:
    """Keep what was measured first: it takes minutes, and cannot be had again."""
    path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    data |= predicting.fitted(data)
    path.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    return path


def _prompts(folder: Path, traffic: Traffic, count: int) -> Path:
    path = folder / f"prompts{count}.jsonl"
    requests = drawn(traffic, count)
    write_prompts(path, requests, texts(requests, traffic.prefix_tokens, traffic.seed))
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
