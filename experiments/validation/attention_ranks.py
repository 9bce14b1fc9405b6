"""Data-parallel attention in a table of runs, whichever columns or words tell of it.

An engine of N such ranks has ``tp`` GPUs in each, and shares its experts among all of them: dealt
whole (``ep`` of all GPUs) or cut (``moe_tp`` in notes, as aiconfigurator writes it).
"""

import re
from typing import Any

_CUT = re.compile(r"\bmoe_tp\s*[=:]\s*(\d+)")
_RANKS = re.compile(r"\badp\s*[=:]\s*(\d+)")
_INFERENCEX = re.compile(r"(?<!\w)inference(?:x|max)\b", re.IGNORECASE)


def with_ranks(data: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of a row with ``data_parallel_size``, where they tell it.

    Replicas that share their experts are ranks. Where GPUs are those of one rank, so are users.
    """
    tp, experts = _whole(data.get("tp")), _whole(data.get("ep")) or 1
    notes = str(data.get("notes", ""))
    if _INFERENCEX.search(str(data.get("workload", ""))) and _number(_RANKS, notes) == tp > 1:
        return data | _of_its_gpus(tp)
    experts *= _number(_CUT, notes) or 1
    if not tp or experts <= tp or experts % tp:
        return data
    ranks = experts // tp
    if _whole(data.get("data_parallel_size")) not in (0, ranks):
        return data
    told = {"data_parallel_size": ranks}
    replicas, users = (_whole(data.get(name)) for name in ("dp_replicas", "max_concurrency"))
    if replicas:  # as many behind one address: ranks of one engine, or of several
        told["dp_replicas"] = max(1, replicas // ranks)
    elif users and _whole(data.get("n_gpus")) == tp:
        told |= {"max_concurrency": users * ranks, "n_gpus": experts}
    return data | told


def _of_its_gpus(gpus: int) -> dict[str, Any]:
    """What InferenceX calls TP where attention is data-parallel: its GPUs, one a rank.

    Its scripts (github.com/SemiAnalysisAI/InferenceX, benchmarks/single_node, ``DP_ATTENTION``)
    start vLLM with ``--tensor-parallel-size 1 --data-parallel-size $TP --enable-expert-parallel``.
    """
    return {"tp": 1, "data_parallel_size": gpus, "ep": gpus, "n_gpus": gpus, "dp_replicas": 1}


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _whole(cell: object) -> int:
    """A cell as a whole number; 0 for anything else."""
    try:
        number = float(str(cell))
    except ValueError:
        return 0
    return int(number) if number == int(number) and number > 0 else 0
