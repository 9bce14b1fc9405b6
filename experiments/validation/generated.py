"""Runs that aiconfigurator's authors made of deployments that its own generator had written.

What such a row does not say, the generator does (github.com/ai-dynamo/aiconfigurator,
src/aiconfigurator/generator/rule_plugin/vllm.rule, as it was from 2025-12 to 2026-02): seats for
the stated batch alone, a budget of those, a prompt and 1,500 tokens, and requests of two lengths
that AIPerf asks exactly (backend_templates/benchmark/bench_run.sh.j2). A collection that holds them
beside rows of InferenceX may call all of them so.
"""

import re
from typing import Any, Final

_OWN = re.compile(r"\baic-auto-gap-analysis\b")
SPARE_TOKENS: Final = 1500
"""Of the budget, and of the longest request."""
ROUNDS: Final = 20
"""Requests of a user."""
WORKLOAD: Final = "AIPerf, fixed lengths (a deployment that aiconfigurator generated)"


def with_generated(data: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of a row with those that the generator wrote, where it is one of its own.

    Seats and budget are those of each data-parallel rank. Cells that the row has stay.
    """
    if not _OWN.search(str(data.get("notes", ""))):
        return data
    users, prompt, answer = (
        _count(data.get(name)) for name in ("max_concurrency", "isl_mean", "osl_mean")
    )
    told: dict[str, Any] = {"prefix_caching": "off"}
    if users:
        seats = max(1, users // (_count(data.get("data_parallel_size")) or 1))
        told |= {"max_num_seqs": seats, "n_requests": ROUNDS * users}
        if prompt:
            told["max_num_batched_tokens"] = seats + prompt + SPARE_TOKENS
    if prompt and answer:
        told["max_model_len"] = prompt + answer + SPARE_TOKENS
    return told | data | {"workload": WORKLOAD}


def _count(cell: object) -> int:
    """A cell as a number of tokens or users; 0 for anything else."""
    try:
        return max(0, round(float(str(cell))))
    except (ValueError, OverflowError):
        return 0
