"""What stood before the engine of a run: its benchmark client, and the router of replicas."""

import re

from experiments.validation.cells import drawing_of
from experiments.validation.rows import RunRow
from experiments.validation.traffic import CannotPredictError
from hardware.versions import version_key
from model.sampling import Drawing

_OTHER = r"\b(?:not|no|non|unlike|than|versus|vs\.?|without)\W+(?:\w+\W+)?"
"""Before a name that is said of what a run is not."""

Since = dict[str, Drawing | None]
"""First version of vLLM that it holds for, ascending; None: the request says nothing."""

CLIENTS: tuple[tuple[str, str, Since], ...] = (
    ("InferenceX", r"(?<!\w)inference(?:x|max)\b", {"0.5": "greedy"}),
    ("LMBench", r"\blmbench|\bmulti-round-qa\b", {"0.5": "greedy"}),
    ("SGLang's bench_serving", r"\bsglang\W+bench_serving\b", {"0.5": "greedy"}),
    ("vllm bench throughput", r"\bbench (?:throughput|latency)\b"
     r"|\bbenchmark_(?:throughput|latency)\b", {"0.5": "temperature"}),
    ("vllm bench serve", r"\bvllm bench serve\b|\bbenchmark_serving\b",
     {"0.5": "greedy", "0.15": None}),
    ("guidellm", r"\bguidellm\b", {"0.5": None}),
    ("AIPerf", r"\b(?:aiperf|genai-perf)\b", {"0.5": None}),
    ("inference-perf", r"\binference-perf\b|\bshared_prefix\b", {"0.5": None}),
)  # fmt: skip
"""Name, words for it, and how its requests are drawn where its user says nothing: by the sources of
each at github.com. `vllm bench serve` sent a temperature of 0 until pull request 32723 of
vllm-project/vllm, first in 0.15; it is taken to be of the server's version."""

ROUTERS = (
    ("random", r"\b(?:k8s|kubernetes) service\b|\bkube-?proxy\b|\bcluster-?ip\b"
               r"|\brandom(?:ly)?[ -](?:rout|choice|balanc|repl|per connection)"),
    ("least_requests", r"\bleast[ _-](?:requests?|outstanding|connections?|loaded?)\b"
                       r"|\bleast_conn\b"),
    ("power_of_two_choices", r"\bpower[ -]of[ -]two\b|\bp2c\b"),
)  # fmt: skip
"""What stands before replicas, and the words for each. The service of Kubernetes, whatever people
call it, chooses at random for each connection (its proxy's iptables rules)."""


def drawing(row: RunRow, version: str, notes: list[str]) -> Drawing | None:
    """Return how tokens were drawn: as the row says, else as its client asks for.

    None: nobody says, so as the server does it, which is since 0.8 as the model's own
    generation_config.json says.

    Raises:
        CannotPredictError: words about sampling that mean nothing.
    """
    if row.sampling is not None and "default" not in row.sampling.lower():
        said = drawing_of(row.sampling)
        if said is None:
            raise CannotPredictError(
                f"sampling = {row.sampling!r} is not known, expected greedy, temperature or top_p"
            )
        return said
    client = None if row.sampling else _client(row)
    if client is None:
        return None
    name, since = client
    held = [each for first, each in since.items() if version_key(first) <= version_key(version)]
    asked = (held or list(since.values()))[-1 if held else 0]
    if asked is not None:
        notes.append(f"sampling: {asked}, what {name} asks for")
    return asked


def _client(row: RunRow) -> tuple[str, Since] | None:
    words = f"{row.workload} {row.isl_spec or ''} {row.notes} {row.dataset}".lower()
    for name, pattern, since in CLIENTS:
        if _is_said(pattern, words):
            return name, since
    return None


def _is_said(pattern: str, words: str) -> bool:
    """Whether words name something, and not to say what the run is not."""
    return bool(re.search(pattern, words)) and not re.search(f"{_OTHER}(?:{pattern})", words)


def is_inferencex(row: RunRow) -> bool:
    """Tell whether a row is of InferenceX, whose runs are closed loops."""
    return row.closed_loop and _is_said(CLIENTS[0][1], row.workload.lower())


def router(row: RunRow, notes: list[str]) -> str:
    """Return what stands before the replicas of a run."""
    words = f"{row.mode or ''} {row.workload} {row.notes}".lower()
    found = next((name for name, said in ROUTERS if re.search(said, words)), "round_robin")
    notes.append(f"router of {row.dp_replicas} replicas: {found}")
    return found
