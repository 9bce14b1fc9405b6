"""vLLM's own bench client, and what it wrote of a run."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments.witness.environment import Environment
from experiments.witness.served.processes import (
    OTHERS,
    Server,
    ServerFailedError,
    end,
    ends_with_us,
    pin,
    variables,
)

SAMPLED_EVERY_S = 1.0
"""How often the server is asked for its metrics; writing them takes its loop some milliseconds."""


class Told(NamedTuple):
    """What the client and the server tell of a run."""

    client_cpu_s: float
    """Of the whole client, its start included."""
    columns: dict[str, list[float]]
    """Of requests in order of sending, seconds from the first one on; ``gaps_s`` between any two
    messages of one request."""
    counted: dict[str, float]
    """How far the server's counters moved."""
    samples: list[dict[str, float]]
    """Requests that ran and waited at some times, seconds from the first one on."""


def run_bench(
    environment: Environment,
    server: Server,
    model: Path,
    prompts: Path,
    count: int,
    rate_per_s: float | None,
    streams: int | None,
    out: Path,
) -> Told:
    """Drive the server; return what was measured.

    Args:
        environment: has the client.
        server: is asked.
        model: folder with the tokenizer.
        prompts: JSON lines, as ``--dataset-name custom`` reads them.
        count: requests.
        rate_per_s: Poisson arrivals; None: as streams become free.
        streams: most requests at once.
        out: takes the client's JSON and its log.

    Raises:
        ServerFailedError: the client failed.
    """
    options: dict[str, object] = {
        "base-url": f"http://127.0.0.1:{server.port}", "model": model, "tokenizer": model,
        "dataset-path": prompts, "num-prompts": count, "request-rate": rate_per_s or "inf",
        "result-filename": out,
    }  # fmt: skip
    options |= {} if streams is None else {"max-concurrency": streams}
    command = _client(environment, options)
    server.empty_cache()
    before = server.sample()
    cpu_s, samples = _driven(command, server, out.with_suffix(".log"))
    told = json.loads(out.read_text(encoding="utf-8"))
    if told["failed"]:
        raise ServerFailedError(f"{told['failed']} requests of {count} failed")
    after = server.sample()
    start_s = told["start_times"][0]
    return Told(
        client_cpu_s=cpu_s,
        columns={
            "sent_s": [round(one - start_s, 4) for one in told["start_times"]],
            "ttft_s": told["ttfts"],
            "e2e_s": told["latencies"],
            "prompt_tokens": told["input_lens"],
            "output_tokens": told["output_lens"],
            "gaps_s": [gap for gaps in told["itls"] for gap in gaps],
        },
        counted={name: after[name] - before[name] for name in after},
        samples=[
            {**one, "at_s": round(one["at_s"] - start_s, 3)}
            for one in samples
            if start_s <= one["at_s"] <= start_s + told["duration"]
        ],
    )


def _client(environment: Environment, options: Mapping[str, object]) -> list[str]:
    """The command of vLLM's own client: its ``options``, and those that every run has."""
    always: dict[str, object] = {
        "backend": "openai", "endpoint": "/v1/completions", "dataset-name": "custom",
        "custom-output-len": -1, "seed": 0, "ready-check-timeout-sec": 0, "temperature": 0.0,
    }  # fmt: skip
    command = [str(environment.python), str(environment.python.parent / "vllm"), "bench", "serve"]
    command += [f"--{name}={value}" for name, value in {**always, **options}.items()]
    command += ["--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--save-result"]
    return [*command, "--save-detailed", "--disable-tqdm"]


def _driven(
    command: list[str], server: Server, log_path: Path
) -> tuple[float, list[dict[str, float]]]:
    """Run the client to its end; return its CPU seconds, and samples of the server meanwhile."""
    samples: list[dict[str, float]] = []
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(server, samples, ended))
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=variables(), preexec_fn=ends_with_us
        )
        pin(process.pid, OTHERS)
        watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            ended.set()
            watcher.join()
            if process.returncode is None:
                end(process)
    if process.returncode:
        raise ServerFailedError(log_path.read_text()[-3000:])
    return usage.ru_utime + usage.ru_stime, samples


def _watch(server: Server, samples: list[dict[str, float]], ended: threading.Event) -> None:
    """Sample the server until the client has ended."""
    while not ended.wait(SAMPLED_EVERY_S):
        at_s = time.perf_counter()
        samples.append({"at_s": at_s, **server.sample()})
