"""Prefill and decode apart beside a measured pair: gpt-oss-120b on sixteen H200.

    python -m experiments.validation.apart [pd_gptoss120b_h200.csv]

The measurement: llm-d's guide "pd-disaggregation" (github.com/llm-d/llm-d, Apache-2.0): 45 requests
per second of 5,000 and 250 tokens; 16 plain replicas behind a service, and 8 that prefill with two
of four GPUs that decode. The plain run is an older one. A report beside it (vLLM 0.27.1, blocks of
128 tokens) has the second setup once more. docs/disaggregation.md says what differs, and why.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from experiments.study.build import scenario_of
from experiments.study.document import Study
from experiments.study.requests import requests_of
from experiments.validation.published import number_of, options_and_table, read_published
from model.dataclass import dataclass
from sim.measuring.metrics import summarise
from sim.simulation import simulate

PLAIN, APART = "16 x TP1", "8 x TP1 + 2 x TP4"
GAP = "tpot_mean_ms"
NO_TPOT: Final = "itl_mean_ms"
"""The plain row tells gaps alone."""


@dataclass(frozen=True, slots=True)
class Means:
    """Of one setup."""

    ttft_s: float
    tpot_s: float
    e2e_s: float


MEASURED: Final[dict[str, Means]] = {
    PLAIN: Means(0.532, 25e-3, 6.7),
    APART: Means(1.157, 5.70e-3, 2.775),
}
POOLS: Final[dict[str, list[dict[str, object]]]] = {
    PLAIN: [{"name": "serve", "gpu": "h200-sxm", "replicas": 16}],
    APART: [
        {"name": "prefill", "role": "prefill", "gpu": "h200-sxm", "replicas": 8},
        {"name": "decode", "role": "decode", "gpu": "h200-sxm", "replicas": 2,
         "tensor_parallel_size": 4},
    ],
}  # fmt: skip
SERVED: Final[dict[str, tuple[str, dict[str, object]]]] = {
    PLAIN: ("round_robin", {}),
    APART: ("least_requests", {"version": "0.27", "block_size": 128}),
}
"""Router, and engine settings that are told of the run, or of the one that repeats it."""


def read_measured(path: Path) -> dict[str, Means]:
    """Return what a table says of the two setups: the row with prefill apart, and the other.

    Raises:
        ValueError: it lacks a column or one of the two rows, or has cells that are no numbers.
    """
    found = {}
    for row in read_published(path, ("layout", "ttft_mean_s", "e2e_mean_s", GAP, NO_TPOT)):
        gap = GAP if row[GAP] else NO_TPOT
        found[APART if "prefill" in row["layout"] else PLAIN] = Means(
            number_of(row, "ttft_mean_s", path),
            number_of(row, gap, path) / 1e3,
            number_of(row, "e2e_mean_s", path),
        )
    if len(found) < 2:
        raise ValueError(f"{path}: expected a layout with prefill apart, and one without")
    return found


def predicted(setup: str, requests: int, seed: int = 0) -> Means:
    """Simulate a setup and return its means."""
    router, engine = SERVED[setup]
    study = Study.model_validate(
        {
            "name": "apart", "model": "gpt-oss-120b",
            "cluster": {"pools": POOLS[setup], "router": router},
            "engine": {"max_model_len": 16384, **engine},
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 45},
                "lengths": {
                    name: {"distribution": "constant", "value": value}
                    for name, value in (("prompt", 5000), ("output", 250))
                },
                "num_requests": requests,
            },
        }
    )  # fmt: skip
    scenario = scenario_of(study, seed)
    means = summarise(simulate(scenario, requests_of(study, seed)), scenario)
    return Means(means["ttft_mean_s"], means["tpot_mean_s"], means["e2e_mean_s"])


def signs(of: Mapping[str, Means]) -> tuple[bool, bool, bool]:
    """Say of TTFT, TPOT and E2E whether prefill apart makes them longer."""
    plain, apart = of[PLAIN], of[APART]
    return apart.ttft_s > plain.ttft_s, apart.tpot_s > plain.tpot_s, apart.e2e_s > plain.e2e_s


def main() -> None:
    """Print measured and simulated means beside each other, and whether the signs agree."""
    parser = argparse.ArgumentParser(prog="python -m experiments.validation.apart")
    parser.add_argument("--requests", type=int, default=2700, help="to simulate (2700: a minute)")
    given, measured = options_and_table(parser, MEASURED, read_measured)
    simulated = {setup: predicted(setup, given.requests) for setup in POOLS}
    print("| | TTFT s, measured | simulated | TPOT ms, measured | simulated | E2E s, measured | "
          "simulated |")  # fmt: skip
    print("| --- " * 7 + "|")
    for setup, known in measured.items():
        found = simulated[setup]
        print(
            f"| {setup} | {known.ttft_s:.2f} | {found.ttft_s:.2f} | {1e3 * known.tpot_s:.1f} | "
            f"{1e3 * found.tpot_s:.1f} | {known.e2e_s:.2f} | {found.e2e_s:.2f} |"
        )
    right = sum(a == b for a, b in zip(signs(measured), signs(simulated), strict=True))
    print(f"signs right: {right} of 3 (TTFT, TPOT, E2E)")


if __name__ == "__main__":
    main()
