"""KV in the host's memory beside a measured run: 16 H100 that serve gpt-oss-120b, with and without.

    python -m experiments.validation.offload [kv_offload_gptoss120b_h100.csv]

The measurement: llm-d's guide "tiered prefix cache" (github.com/llm-d/llm-d, folder
guides/tiered-prefix-cache, Apache-2.0): Poisson arrivals of 5 to 40 requests/s, 60 s each and 60 s
of pause behind, on the same 16 replicas; 250 texts of 16,000 tokens with 5 questions of 256 each,
answers of 256 tokens (the benchmark's profile; 16.7k tokens a request agree with it).

What is simulated: each replica gets every request of its own texts (16 or 15 of the 250, in turn),
as behind a router that sees the caches. The prefix cache of several groups of the KV cache is not
modelled: it is one group here, of as many blocks as vLLM's two groups of this model have.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from experiments.validation.published import number_of, options_and_table, read_published
from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from model.dataclass import dataclass
from model.spec import load_spec
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pools import Pool
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

REPLICAS, TEXTS, QUESTIONS = 16, 250, 5
TEXT_TOKENS, QUESTION_TOKENS, ANSWER_TOKENS = 16_000, 256, 256
STAGE_S, PAUSE_S = 60.0, 60.0
HOST_GIB: Final = 100.0


class Measured(NamedTuple):
    """Seconds, without and with the host's memory."""

    ttft_s: tuple[float, float]
    e2e_s: tuple[float, float]


MEASURED: Final[dict[int, Measured]] = {
    5: Measured((0.45, 0.43), (1.80, 1.80)),
    10: Measured((0.44, 0.37), (1.98, 1.91)),
    15: Measured((0.45, 0.35), (2.73, 2.17)),
    20: Measured((0.73, 0.32), (5.59, 2.60)),
    25: Measured((6.16, 0.34), (14.29, 3.46)),
    30: Measured((14.07, 0.33), (22.51, 4.24)),
    35: Measured((18.44, 0.50), (26.52, 6.16)),
    40: Measured((24.78, 4.24), (32.78, 10.33)),
}
"""Means over requests, by requests/s of all replicas."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One rate, simulated: means without and with the host's memory."""

    rate_per_s: int
    ttft_s: tuple[float, float]
    e2e_s: tuple[float, float]


def scenario(host: bool) -> Scenario:
    """Return one replica, with or without the host's memory."""
    gpu, spec = load_gpu("h100-sxm"), load_spec("gpt-oss-120b")
    settings: dict[str, object] = {
        "version": "0.33", "enable_prefix_caching": True, "max_model_len": 20_000,
        "disable_hybrid_kv_cache_manager": True,
    }  # fmt: skip
    if host:
        settings["kv_offloading_size"] = HOST_GIB
    engine = EngineConfig.model_validate(settings)
    calibration = engine_calibration("vllm-0.23", gpu)
    one = build_scenario(spec, gpu, ClusterConfig(gpu=gpu.name), engine, calibration)
    return replace(one, pools=(_two_groups(one.pool),))


def _two_groups(pool: Pool) -> Pool:
    """Half of the layers keep 128 tokens: blocks of the others are half as large, and twice as
    many."""
    ledger = pool.ledger
    layout = replace(ledger.layout, block_bytes=ledger.block_bytes // 2)
    host = pool.host and replace(pool.host, chunk_bytes=pool.host.chunk_bytes // 2)
    ledger = replace(ledger, num_gpu_blocks=2 * ledger.num_gpu_blocks, layout=layout)
    return replace(pool, ledger=ledger, host=host)


def requests(replica: int) -> Requests:
    """Return what one replica gets over all stages."""
    rng = np.random.default_rng([replica, 1])
    arrivals, texts, prompts = [], [], []
    asked = 0
    for stage, rate in enumerate(MEASURED):
        count = rng.poisson(rate * STAGE_S)
        begin_s = stage * (STAGE_S + PAUSE_S)
        for arrival_s in np.sort(rng.uniform(begin_s, begin_s + STAGE_S, count)):
            prompt = asked % (TEXTS * QUESTIONS)
            asked += 1
            if prompt % TEXTS % REPLICAS == replica:
                arrivals.append(arrival_s)
                texts.append(prompt % TEXTS)
                prompts.append(prompt // TEXTS)
    rows = len(arrivals)
    lengths = np.full(rows, TEXT_TOKENS + QUESTION_TOKENS)
    return Requests(
        arrival_s=np.array(arrivals),
        prompt_tokens=lengths,
        output_tokens=np.full(rows, ANSWER_TOKENS),
        priority=np.zeros(rows, dtype=np.int64),
        prefixes=prompt_prefixes(
            lengths, prompt_id=np.array(prompts), prefix_id=np.array(texts),
            prefix_tokens=np.full(rows, TEXT_TOKENS),
        ),
    )  # fmt: skip


def stages(replicas: int = 2) -> Iterator[Stage]:
    """Simulate the first replicas, with and without the host's memory, one stage behind another."""
    columns = {
        host: [simulate(scenario(host), requests(each)).requests for each in range(replicas)]
        for host in (False, True)
    }
    for stage, rate in enumerate(MEASURED):
        begin_s = stage * (STAGE_S + PAUSE_S)
        means = {}
        for host, runs in columns.items():
            ttft, e2e = [], []
            for run in runs:
                here = (run["arrival_s"] >= begin_s) & (run["arrival_s"] < begin_s + STAGE_S)
                ttft.append((run["first_token_s"] - run["sent_s"])[here])
                e2e.append((run["finish_s"] - run["sent_s"])[here])
            means[host] = float(np.concatenate(ttft).mean()), float(np.concatenate(e2e).mean())
        yield Stage(
            rate,
            (means[False][0], means[True][0]),
            (means[False][1], means[True][1]),
        )


def read_measured(path: Path) -> dict[int, Measured]:
    """Return what the published table says, by requests/s.

    Raises:
        ValueError: it lacks a column, a rate or a setup, or has cells that are no numbers.
    """
    found: dict[tuple[int, str], tuple[float, float]] = {}
    for row in read_published(path, ("target_qps", "config", "ttft_mean_s", "e2e_mean_s")):
        key = int(number_of(row, "target_qps", path)), row["config"]
        found[key] = number_of(row, "ttft_mean_s", path), number_of(row, "e2e_mean_s", path)
    measured = {}
    for rate in MEASURED:
        try:
            without, having = found[rate, "hbm_only"], found[rate, "cpu_offload"]
        except KeyError as error:
            raise ValueError(f"{path}: no row of {error.args[0]}") from None
        measured[rate] = Measured((without[0], having[0]), (without[1], having[1]))
    return measured


def signs_right(measured: Mapping[int, Measured], simulated: list[Stage]) -> int:
    """Count the rates at which what the host does to TTFT and to E2E has the measured sign.

    A measured mean that the host leaves as it is, to the printed digit, has none.
    """
    return sum(
        all(
            known[0] == known[1] or (known[1] < known[0]) == (found[1] < found[0])
            for known, found in zip(measured[stage.rate_per_s], (stage.ttft_s, stage.e2e_s),
                                    strict=True)
        )
        for stage in simulated
    )  # fmt: skip


def main() -> None:
    """Print measured and simulated means beside each other."""
    parser = argparse.ArgumentParser(prog="python -m experiments.validation.offload")
    _, measured = options_and_table(parser, MEASURED, read_measured)
    simulated = list(stages(4))
    print("| requests/s | TTFT measured | TTFT simulated | E2E measured | E2E simulated |")
    print("| --- | --- | --- | --- | --- |")
    for stage in simulated:
        known = measured[stage.rate_per_s]
        cells = [
            f"{without:.2f} -> {having:.2f}"
            for without, having in (known.ttft_s, stage.ttft_s, known.e2e_s, stage.e2e_s)
        ]
        print(f"| {stage.rate_per_s} | {' | '.join(cells)} |")
    print(f"signs right: at {signs_right(measured, simulated)} of {len(simulated)} rates")


if __name__ == "__main__":
    main()
