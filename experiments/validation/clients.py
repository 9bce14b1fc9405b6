"""What stood before the engine of a run: its benchmark client, and the router of replicas."""

import re
from typing import Literal

from experiments.validation.cells import drawing_of
from experiments.validation.rows import RunRow
from experiments.validation.traffic import CannotPredictError
from hardware.engines.sampling import default_drawing, server_drawing
from model.sampling import Drawing
from model.spec import DecoderSpec

_OTHER = (
    r"\b(?:not|no|non|unlike|than|versus|vs\.?|without|like|as|compared|comparable|similar)\W+"
    r"(?:\w+\W+){0,2}?"
)
"""Before a name that is said of what a run is not."""
_OTHERWISE = r"\W?(?:style|like|alike|inspired|lengths?|shapes?)\b|\W+(?:\w+\W+){0,2}?(?:not|off)\b"
"""Behind one."""

Asks = Drawing | Literal["server", "default"]
"""How tokens are drawn for a client: ``server``, if its requests say nothing; ``default``: as for
vLLM's own (``hardware.engines.sampling.default_drawing``)."""

CLIENTS: tuple[tuple[str, str, Asks], ...] = (
    ("InferenceX", r"(?<!\w)inference(?:x|max)\b", "greedy"),
    ("LMBench", r"\blmbench|\bmulti-round-qa\b", "greedy"),
    ("SGLang's bench_serving", r"\bsglang\W+bench_serving\b", "greedy"),
    ("vllm bench throughput", r"\bbench (?:throughput|latency)\b"
     r"|\bbenchmark_(?:throughput|latency)\b", "temperature"),
    ("vllm bench serve", r"\bvllm bench serve\b|\bbenchmark_serving\b", "default"),
    ("guidellm", r"\bguidellm\b", "server"),
    ("AIPerf", r"\b(?:aiperf|genai-perf)\b", "server"),
    ("inference-perf", r"\binference-perf\b|\bshared_prefix\b", "server"),
)  # fmt: skip
"""Name, words for it, and how its requests are drawn where its user says nothing: by the sources of
each at github.com."""

ROUTERS = (
    ("random", r"\b(?:k8s|kubernetes) service\b|\bkube-?proxy\b|\bcluster-?ip\b"
               r"|\brandom(?:ly)?[ -](?:rout|choice|balanc|repl|per connection)"),
    ("least_requests", r"\bleast[ _-](?:requests?|outstanding|connections?|loaded?)\b"
                       r"|\bleast_conn\b"),
    ("power_of_two_choices", r"\bpower[ -]of[ -]two\b|\bp2c\b"),
)  # fmt: skip
"""What stands before replicas, and the words for each. The service of Kubernetes, whatever people
call it, chooses at random for each connection (its proxy's iptables rules)."""


def drawing(row: RunRow, spec: DecoderSpec, version: str, notes: list[str]) -> Drawing:
    """Return how tokens were drawn: as the row says, else as its client asks for.

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
    name, asks = _client(row)
    drawn = server_drawing(spec, version)
    if asks == "default":
        drawn = default_drawing(spec, version)
    elif asks != "server":
        drawn = asks
    notes.append(f"sampling: {drawn}, by {name} and vLLM {version} for {spec.name}")
    return drawn


def _client(row: RunRow) -> tuple[str, Asks]:
    if row.sampling is not None:  # "default"
        return "its client", "server"
    words = f"{row.workload} {row.isl_spec or ''} {row.notes} {row.dataset}".lower()
    for name, pattern, asks in CLIENTS:
        if _is_said(pattern, words):
            return name, asks
    return "vllm bench serve", "default"


def _is_said(pattern: str, words: str) -> bool:
    """Whether words name something, and not to say what the run is not."""
    found = list(re.finditer(pattern, words))
    others = re.search(rf"{_OTHER}(?:{pattern})|(?:{pattern})(?:{_OTHERWISE})", words)
    return bool(found) and not others


def is_inferencex(row: RunRow) -> bool:
    """Tell whether a row is of InferenceX, whose runs are closed loops."""
    return row.closed_loop and _is_said(CLIENTS[0][1], row.workload.lower())


def is_random_text(row: RunRow) -> bool:
    """Tell whether prompts are random tokens of vLLM's own client."""
    client = _client(row)
    asked = f"{row.workload} {row.isl_spec or ''}".lower()
    return client is not None and client[0] == "vllm bench serve" and _is_said(r"\brandom\b", asked)


def router(row: RunRow, notes: list[str]) -> str:
    """Return what stands before the replicas of a run."""
    words = f"{row.mode or ''} {row.workload} {row.notes}".lower()
    found = next((name for name, said in ROUTERS if re.search(said, words)), "round_robin")
    notes.append(f"router of {row.dp_replicas} replicas: {found}")
    return found
