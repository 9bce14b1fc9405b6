"""Candidates of a plan: what fits, what can keep the limits at all, and how much each can serve."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experiments.planning.lengths import with_values
from experiments.planning.plan_reading import PlanInput
from experiments.planning.promises import limits_of
from experiments.planning.traffic import steady_version
from experiments.running.capacity import capacity_per_s
from experiments.study import build, calibrations
from experiments.study.document import Study
from experiments.study.errors import show
from experiments.study.grid import cell
from experiments.study.keys import key_path
from experiments.study.requests import requests_of
from experiments.study.schema import value_at
from hardware.gpu import load_gpu
from hardware.memory import DoesNotFitError
from sim.ceilings import ceilings_of
from sim.lone import lone_steps_s
from sim.scenario import Scenario

Spread = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]]
"""Calls a function with each of many arguments, in whatever order; gives what it returned."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment that may be bought, as one replica of it."""

    number: int
    """From 1, in written order."""
    name: str
    """``H200 TP2, max_num_seqs 64``."""
    kind: str
    """Of its hardware: model, GPU and tensor-parallel size."""
    values: dict[str, Any]
    """What it differs in from others, by dotted key."""
    study: Study
    """Settled, where it can be served at all; one replica."""
    gpus: int
    """Of one replica."""
    usd_per_hour: float
    """Of one replica."""
    capacity_per_s: float = math.nan
    """What one replica gets through of the traffic's mix."""
    lost: str = field(default="")
    """Why it is out before anything was simulated of it; empty while it is not."""
    reason: str = field(default="")
    """The same as one word for tables."""

    def sized(self, replicas: int) -> Study:
        """Return its study with so many replicas."""
        return with_values(self.study, {"cluster.replicas": replicas})


def candidates_of(plan: PlanInput, spread: Spread) -> list[Candidate]:
    """Build every candidate: those that do not fit or can never keep the limits say why."""
    found = built(plan)
    tasks = [(place, one.study) for place, one in enumerate(found) if not one.lost]
    for place, capacity in spread(_capacity, tasks):
        found[place] = replace(found[place], capacity_per_s=capacity)
    return found


def built(plan: PlanInput) -> list[Candidate]:
    """Build every candidate, without asking what it can serve."""
    return [_candidate(plan, number) for number in range(len(plan.studies))]


def _candidate(plan: PlanInput, place: int) -> Candidate:
    study, setting = plan.studies[place], plan.settings[place]
    cluster = study.cluster
    price = cluster.gpu_usd_per_hour
    assert price is not None  # plan_reading set it
    gpus = cluster.all_pools[0].gpus_of_one
    common: dict[str, Any] = {
        "number": place + 1,
        "name": _name(plan, study, setting.values),
        "kind": f"{study.model} {cluster.gpu} {gpus}",
        "values": _values(plan, study),
        "gpus": gpus,
        "usd_per_hour": price * gpus,
    }
    try:
        study = build.settled(study)
        scenario = build.scenario_of(study, study.seed)
    except DoesNotFitError as error:
        return Candidate(**common, study=study, lost=_sentence(error), reason="does not fit")
    except ValueError as error:
        return Candidate(**common, study=study, lost=_sentence(error), reason="cannot be served")
    floor = _floor(study, scenario)
    common["values"] = _values(plan, study)  # with what it does not say
    return Candidate(**common, study=study, lost=floor, reason="ceiling" if floor else "")


def _values(plan: PlanInput, study: Study) -> dict[str, Any]:
    """What candidates differ in, as this one has it."""
    data = study.resolved()
    return {key: cell(value_at(data, key_path(key))) for key in plan.keys}


def _sentence(error: ValueError) -> str:
    return str(error).split("\n", 1)[0]


def _name(plan: PlanInput, study: Study, values: dict[str, Any]) -> str:
    """Model if there are several, GPU and group, then what else differs."""
    gpu = study.cluster.all_pools[0].gpu
    shown = load_gpu(gpu).name if not calibrations.names_calibrated(gpu) else show(gpu)
    pool = study.cluster.all_pools[0]
    ranks = "".join(
        f" {what}{size}"
        for what, size in (("PP", pool.pipeline_parallel_size), ("DP", pool.data_parallel_size))
        if size > 1
    )
    parts = [f"{shown} TP{pool.tensor_parallel_size}{ranks}"]
    if "model" in plan.keys:
        parts.insert(0, study.model.rsplit("/", 1)[-1])
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    told = ("model", "cluster.gpu", *(f"cluster.{size}" for size in sizes))
    rest = [
        f"{key.rsplit('.', 1)[-1]} {show(cell(value))}"
        for key, value in values.items()
        if key not in told
    ]
    return ", ".join([" ".join(parts), *rest])


def _floor(study: Study, scenario: Scenario) -> str:
    """Say that no load is low enough: what a request takes that is alone is beyond a limit."""
    slo = study.slo
    assert slo is not None
    requests = requests_of(study, study.seed)
    for key, limit in limits_of(slo).items():
        if limit.latency == "tpot":
            lone_s = ceilings_of(scenario.pool)["fastest_token_s"]
            if lone_s > limit.limit_s:
                return (
                    f"a token takes {lone_s * 1e3:.3g} ms of a request that is alone, more than "
                    f"{key} = {limit.limit_s:g} s, at any number of replicas"
                )
        if limit.latency == "ttft" and requests.prefixes is None:
            prompt = int(np.quantile(requests.prompt_tokens, limit.share, method="lower"))
            prompt = min(prompt, scenario.pool.max_model_len - 1)
            lone_s = lone_prefill_s(scenario, prompt)
            if lone_s > limit.limit_s:
                return (
                    f"the prefill of {prompt:,} tokens, which {100 * (1 - limit.share):.3g}% of "
                    f"the prompts have, takes {lone_s:.3g} s alone, more than {key} = "
                    f"{limit.limit_s:g} s, at any number of replicas"
                )
    return ""


def lone_prefill_s(scenario: Scenario, prompt_tokens: int) -> float:
    """Return the time to the first token of a request that is alone: its chunks, and the API."""
    api = scenario.api
    seconds = api.request_s + api.token_s * prompt_tokens
    return seconds + lone_steps_s(scenario.pool, prompt_tokens) + api.output_s


def _capacity(place: int, study: Study) -> tuple[int, float]:
    """Overload one replica with the lengths of the traffic, at a steady rate."""
    if study.workload.has_clock:
        workload = steady_version(study.workload, 1.0, 10_000)
        study = study.model_copy(update={"workload": workload, "warmup_s": None})
    return place, capacity_per_s(study)
