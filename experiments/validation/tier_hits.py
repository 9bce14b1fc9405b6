"""What a hit costs in each tier beside computing anew, on one H20: measured, and simulated.

    python -m experiments.validation.tier_hits

The measurement: https://gitea.gahow.org/gahow/agentic-kvc, v2/exp_a_tier_latency (May 2026): one
request alone that begins with 1,024 or 65,536 tokens seen before, Qwen3-Coder-30B-A3B, vLLM 0.18.1
without CUDA graphs, medians of 11. Over RDMA the KV came from another engine, at 5 to 7 GB/s, so
they say; 6 are simulated. The time of the API server is left out, as they sent to the engine.
"""

from typing import Final

import numpy as np

from hardware.engines.constants import engine_calibration
from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.scenario import build_scenario
from sim.simulation import simulate
from workloads.prefixes import prompt_prefixes
from workloads.requests import Requests

GPU, MODEL = "h20-sxm", "qwen3-coder-30b-a3b"
ASKED_TOKENS = 64
"""Behind what was seen before."""
MEASURED: Final[dict[str, dict[int, float]]] = {
    "GPU": {1024: 0.042, 65_536: 0.111},
    "host": {1024: 0.057, 65_536: 0.272},
    "store": {65_536: 0.97},
    "computed": {1024: 0.078, 65_536: 15.2},
}
"""TTFT in seconds, by tier and tokens."""
TEXTS: Final = {"GPU": (0, 0), "host": (0, 1, 0), "store": (0, 0), "computed": (0, 1)}
"""What is asked about, one after the other; the last one counts. A GPU that has a host's memory
holds one text here; two replicas that share a store are asked in turn."""


def ttft_s(tier: str, tokens: int) -> float:
    """Return the TTFT of a request whose first tokens are in a tier, or in none."""
    engine: dict[str, object] = {
        "version": "0.33", "max_model_len": tokens + ASKED_TOKENS + 1,
        "api_request_s": 0.0, "api_token_s": 0.0,
        "kv_connector_extra_config": {"blocks_per_chunk": 16},
    }  # fmt: skip
    cluster: dict[str, object] = {"gpu": GPU}
    if tier == "host":
        engine |= {"kv_offloading_size": 200, "num_gpu_blocks": (tokens + ASKED_TOKENS) // 16 + 2}
    if tier == "store":
        cluster |= {"replicas": 2, "kv_store": {"size_gib": 500, "bandwidth_gb_s": 6}}
    gpu, texts = load_gpu(GPU), np.array(TEXTS[tier])
    scenario = build_scenario(
        load_spec(MODEL), gpu, ClusterConfig.model_validate(cluster),
        EngineConfig.model_validate(engine), engine_calibration("vllm-0.23", gpu),
    )  # fmt: skip
    rows = len(texts)
    lengths = np.full(rows, tokens + ASKED_TOKENS)
    columns = simulate(
        scenario,
        Requests(
            arrival_s=np.arange(rows, dtype=np.float64) * 100,
            prompt_tokens=lengths,
            output_tokens=np.ones(rows, dtype=np.int64),
            priority=np.zeros(rows, dtype=np.int64),
            prefixes=prompt_prefixes(
                lengths, prompt_id=np.arange(rows), prefix_id=texts,
                prefix_tokens=np.full(rows, tokens),
            ),
        ),
    ).requests  # fmt: skip
    return float(columns["first_token_s"][-1] - columns["sent_s"][-1])


def main() -> None:
    """Print measured and simulated times beside each other."""
    print("| tier | tokens | TTFT measured, s | simulated | beyond a hit, measured | simulated |")
    print("| --- | --- | --- | --- | --- | --- |")
    for tier, known in MEASURED.items():
        for tokens, measured_s in known.items():
            found_s, hit_s = ttft_s(tier, tokens), ttft_s("GPU", tokens)
            cells = (measured_s, found_s, measured_s - MEASURED["GPU"][tokens], found_s - hit_s)
            print(f"| {tier} | {tokens:,} | {' | '.join(f'{each:.3f}' for each in cells)} |")


if __name__ == "__main__":
    main()
