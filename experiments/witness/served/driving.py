"""Drives a server with vLLM's bench client, at loads and over streams, and keeps what it tells."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.witness.served.bench import Told
from experiments.witness.served.figures import measured
from experiments.witness.served.processes import ServerFailedError
from experiments.witness.served.setting import Traffic, drawn, texts, write_prompts
from experiments.witness.served.stages import Stages

LOADS = (0.3, 0.6, 0.85)
STREAMS = (16,)
"""Of closed loops."""
ALONE = 60
"""Requests of the bench client that meet nobody: their way in is another than a light client's."""
CLOSED = 0.8
"""Requests of a closed loop, as those of an open one at this load."""
Tell = Callable[[str], None]
Client = Callable[..., Told]


def runs_at(capacity_per_s: float, run_s: float) -> list[dict[str, Any]]:
    """Open loops at shares of the capacity, and closed ones, all of about the same length."""

    def count(load: float) -> int:
        """Return requests of a run at a share of the capacity."""
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


def driven(
    client: Client,
    runs: Sequence[dict[str, Any]],
    traffic: Traffic,
    logs: Path,
    stages: Stages,
    tell: Tell,
) -> dict[str, Any]:
    """Drive the server with the bench client: all runs once, then all again."""
    found = {
        "client_start_s": stages("start", lambda: _once(client, traffic, logs).client_cpu_s),
        "alone": stages("alone", lambda: _alone(client, traffic, logs)),
    }
    runs_done = []
    for again in (False, True):  # two runs of one setting are a drift apart
        for place, run in enumerate(runs):
            tell(f"{run}{', again' if again else ''}")
            one = partial(_run, client, run, again, traffic, logs, place)
            runs_done.append(stages(f"run {place}{', again' if again else ''}", one))
    return {**found, "runs": runs_done}


def _once(client: Client, traffic: Traffic, logs: Path) -> Told:
    return client(_prompts(logs, traffic, 1), 1, None, 1, logs / "start.json")


def _alone(client: Client, traffic: Traffic, logs: Path) -> dict[str, Any]:
    told = client(_prompts(logs, traffic, ALONE), ALONE, None, 1, logs / "alone.json")
    return {"count": ALONE, "ttft_s": [round(one, 6) for one in told.columns["ttft_s"]]}


def _run(
    client: Client, run: dict[str, Any], again: bool, traffic: Traffic, logs: Path, place: int
) -> dict[str, Any]:
    count = run["count"]
    out = logs / f"run{place}{again:d}.json"
    told = client(_prompts(logs, traffic, count), count, run["rate_per_s"], run["streams"], out)
    return _kept(run, again, told, traffic)


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


def _prompts(folder: Path, traffic: Traffic, count: int) -> Path:
    path = folder / f"prompts{count}.jsonl"
    requests = drawn(traffic, count)
    write_prompts(path, requests, texts(requests, traffic.prefix_tokens, traffic.seed))
    return path
