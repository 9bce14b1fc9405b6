"""Candidates of a plan: what fits, what can keep the limits at all, and how much each can serve."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, replace
from typing import Any

from experiments.planning.bounds import floor_of, rates_of
from experiments.planning.lengths import with_values
from experiments.planning.plan.reading import PlanInput
from experiments.planning.sizes import Rates, Sizes
from experiments.planning.traffic import steady_version
from experiments.study import build
from experiments.study.calibrations import names_calibrated
from experiments.study.document import Study
from experiments.study.errors import show
from experiments.study.grid import cell
from experiments.study.keys import key_path
from experiments.study.schema import value_at
from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import DoesNotFitError
from model.dataclass import dataclass
from sim.settings.pools import PoolConfig

Spread = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]]
"""Calls a function with each of many arguments, in whatever order; gives what it returned."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment that may be bought, of any size."""

    number: int
    """From 1, in written order."""
    name: str
    """``H200 TP2, max_num_seqs 64``; of pools all of them, and their ratio."""
    kind: str
    """Of its hardware: model, GPUs and how they are grouped, whatever the ratio of pools."""
    values: dict[str, Any]
    """What it differs in from others, by dotted key."""
    study: Study
    """Settled, where it can be served at all; pools as they are written."""
    sizes: Sizes
    """What so many replicas of it are, cost and serve."""
    pools: tuple[str, ...] = ()
    """What each pool is, of several."""
    lost: str = field(default="")
    """Why it is out before anything was simulated of it; empty while it is not."""
    reason: str = field(default="")
    """The same as one word for tables."""

    def sized(self, size: int) -> Study:
        """Return its study with so many replicas in all."""
        return self._of(self.sizes.parts(size))

    def _of(self, parts: Sequence[int]) -> Study:
        if self.study.cluster.pools is None:
            return with_values(self.study, {"cluster.replicas": parts[0]})
        counts = {f"cluster.pools[{place}].replicas": count for place, count in enumerate(parts)}
        return with_values(self.study, counts)

    def one_fewer(self, size: int) -> list[tuple[str, Study]]:
        """Return what is left when a replica is away, of each pool in turn, and the pool's name.

        No name where there is one pool; empty where one is away without which nothing can be
        served.
        """
        pools, parts = self.study.cluster.all_pools, self.sizes.parts(size)
        if len(pools) == 1:
            return [("", self.sized(size - 1))] if size > 1 else []
        left = []
        for place, pool in enumerate(pools):
            fewer = [count - (at == place) for at, count in enumerate(parts)]
            if fewer[place]:
                left.append((pool.name, self._of(fewer)))
            elif not self.study.cluster.has_roles:
                whole = self._of(parts)
                rest = [each for at, each in enumerate(whole.cluster.all_pools) if at != place]
                cluster = whole.cluster.model_copy(update={"pools": rest})
                left.append((pool.name, whole.model_copy(update={"cluster": cluster})))
            else:
                return []
        return left

    def told(self, size: int) -> str:
        """Write ``4 x H200 TP2, max_num_seqs 64``, or how many of each pool."""
        if len(self.pools) < 2:
            return f"{size} x {self.name}"
        parts = zip(self.sizes.parts(size), self.pools, strict=True)
        _, comma, settings = self.name.partition(", ")
        return " + ".join(f"{count} x {pool}" for count, pool in parts) + comma + settings


def candidates_of(plan: PlanInput, spread: Spread) -> list[Candidate]:
    """Build every candidate: those that do not fit or can never keep the limits say why."""
    tasks = [_task(plan, place) for place in range(len(plan.studies))]
    ordered = sorted(spread(_asked, tasks), key=lambda one: one.number)
    return list(ordered)


def built(plan: PlanInput) -> list[Candidate]:
    """Build every candidate, without asking what it can serve."""
    return [_candidate(*_task(plan, place)) for place in range(len(plan.studies))]


Task = tuple[int, Study, dict[str, Any], tuple[str, ...]]
"""Place of a candidate, what it is, the keys that make it one, and those of all of them."""


def _task(plan: PlanInput, place: int) -> Task:
    return place, plan.studies[place], plan.settings[place].values, plan.keys


def _asked(place: int, study: Study, given: dict[str, Any], keys: tuple[str, ...]) -> Candidate:
    """Build a candidate, and find what it can serve while what was built for it is at hand."""
    one = _candidate(place, study, given, keys)
    if one.lost:
        return one
    return replace(one, sizes=replace(one.sizes, rates=_rates(one.study)))


def _candidate(place: int, study: Study, given: dict[str, Any], keys: tuple[str, ...]) -> Candidate:
    pools = study.cluster.all_pools
    hardware = [f"{one.gpu} {one.gpus_of_one} {one.role}" for one in pools]
    common: dict[str, Any] = {
        "number": place + 1,
        "name": _name(study, given, keys),
        "pools": tuple(map(pool_name, pools)),
        "kind": f"{study.model} {' + '.join(hardware)}",
        "values": _values(study, given, keys),
        "sizes": Sizes(
            tuple(one.replicas for one in pools),
            tuple((one.gpu_usd_per_hour or math.nan) * one.gpus_of_one for one in pools),
            tuple(one.gpus_of_one for one in pools),
        ),
    }
    try:
        study = build.settled(study)
        scenario = build.scenario_of(study, study.seed)
    except DoesNotFitError as error:
        return Candidate(**common, study=study, lost=_sentence(error), reason="does not fit")
    except ValueError as error:
        return Candidate(**common, study=study, lost=_sentence(error), reason="cannot be served")
    floor = floor_of(study, scenario)
    common["values"] = _values(study, given, keys)  # with what it does not say
    return Candidate(**common, study=study, lost=floor, reason="ceiling" if floor else "")


def _values(study: Study, given: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """What candidates differ in, as this one has it; pools as they are written."""
    data = study.resolved()
    whole = {key: given[key] for key in given if key == "cluster.pools"}
    return {
        key: cell(whole[key] if key in whole else value_at(data, key_path(key))) for key in keys
    }


def _sentence(error: ValueError) -> str:
    return str(error).split("\n", 1)[0].removesuffix(":")  # before a ledger


def _name(study: Study, values: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Model if there are several, GPUs and groups, then what else differs."""
    pools = study.cluster.all_pools
    text = " + ".join(map(pool_name, pools))
    if len(pools) > 1:
        text += f" {':'.join(str(pool.replicas) for pool in pools)}"
    if "model" in keys:
        text = f"{study.model.rsplit('/', 1)[-1]} {text}"
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    told = ("model", "cluster.gpu", *(f"cluster.{size}" for size in sizes))
    rest = [
        f"{key.rsplit('.', 1)[-1]} {show(cell(value))}"
        for key, value in values.items()
        if key not in told and not (key.startswith("cluster.pools") and ".engine." not in key)
    ]
    return ", ".join([text, *rest])


def pool_name(pool: PoolConfig) -> str:
    """Write GPU and group, a pool's name, and the settings that it has for itself."""
    gpu = show(pool.gpu) if names_calibrated(pool.gpu) else load_gpu(pool.gpu).name
    ranks = "".join(
        f" {what}{size}"
        for what, size in (("PP", pool.pipeline_parallel_size), ("DP", pool.data_parallel_size))
        if size > 1
    )
    own = [f" {key} {show(value)}" for key, value in pool.engine.model_dump().items()]
    return f"{gpu} TP{pool.tensor_parallel_size}{ranks} {pool.name}".rstrip() + "".join(own)


def _rates(study: Study) -> Rates:
    """Find what one replica of each pool serves of the traffic's mix, at a steady rate."""
    if study.workload.has_clock:
        workload = steady_version(study.workload, 1.0, 10_000)
        study = study.model_copy(update={"workload": workload, "warmup_s": None})
    return rates_of(study)
