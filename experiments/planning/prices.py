"""What a deployment costs by the hour."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import field

from experiments.planning.plan.study import PlanStudy, Prices
from experiments.study.build import scenario_of
from experiments.study.calibrations import CALIBRATED, names_calibrated
from experiments.study.document import Loaded, Study
from experiments.study.errors import Problem, StudyError
from experiments.study.faults import by_line
from hardware.gpu import Gpu, load_gpu
from model.dataclass import dataclass
from sim.measuring import hardware_use
from sim.settings.pools import PoolConfig

CATALOGUE = "on_demand"
"""The contract that the prices of the catalogue are of."""


def usd_per_hour(study: Study) -> float:
    """Return the price of all GPUs of a settled point; NaN if they are not priced."""
    return hardware_use.usd_per_hour(scenario_of(study, study.seed).kinds)


def usd_of_each(loaded: Loaded, plan: PlanStudy, pools: Iterable[PoolConfig]) -> list[float]:
    """Return what an hour of one GPU costs in each of the pools that may be bought.

    It is the plan's price under its contract, that of the cluster, or the catalogue's on demand.

    Raises:
        StudyError: every price that nobody knows, or not for this contract, and every one that the
            plan has of a GPU which no candidate has.
    """
    each = list(pools)
    gpus = [None if names_calibrated(pool.gpu) else load_gpu(pool.gpu) for pool in each]
    faults = _Faults(loaded)
    own = _own(plan, {gpu.name: gpu for gpu in gpus if gpu is not None}, faults)
    found = [
        _usd(plan.contract, pool, gpu, own, faults) for pool, gpu in zip(each, gpus, strict=True)
    ]
    if faults.found:
        raise StudyError(by_line(dict.fromkeys(faults.found)))
    return found


@dataclass(slots=True)
class _Faults:
    loaded: Loaded
    found: list[Problem] = field(default_factory=list)

    def add(self, text: str, *path: str) -> float:
        """Take note of what is wrong there, which leaves no price."""
        self.found.append(Problem(self.loaded.where(path), text))
        return math.nan


Own = dict[str, tuple[str, float | Prices]]
"""The plan's prices: by the GPU's name, as the plan calls it, and the price."""


def _own(plan: PlanStudy, bought: Mapping[str, Gpu], faults: _Faults) -> Own:
    """Find out of which GPU each of the plan's prices is."""
    found: Own = {}
    for word, price in plan.prices.items():
        name = word
        if name not in bought:
            try:
                name = load_gpu(word).name
            except ValueError as error:
                faults.add(f"prices.{word}: {error}", "prices", word)
                continue
        if name not in bought:
            which = ", ".join(bought)
            faults.add(
                f"prices.{word}: no candidate has this GPU"
                f"{f', expected prices of {which}' if which else ''}", "prices", word,
            )  # fmt: skip
        elif name in found:
            faults.add(f"prices.{word}: the same GPU as {found[name][0]}, expected one of them",
                       "prices", word)  # fmt: skip
        found.setdefault(name, (word, price))
    return found


def _usd(
    contract: str, pool: PoolConfig, gpu: Gpu | None, own: Own, faults: _Faults
) -> float:  # fmt: skip
    told = pool.gpu_usd_per_hour
    if gpu is None:
        text = f"cluster.gpu_usd_per_hour: missing, nobody knows what gpu = {CALIBRATED} costs"
        return faults.add(f"{text}, expected USD per hour", "cluster") if told is None else told
    if gpu.name in own:
        return _contracted(contract, *own[gpu.name], faults)
    if told is not None:
        return told
    expected = f"expected prices: {{{gpu.name}: USD per hour}}"
    if gpu.usd_per_hour is None:
        return faults.add(f"prices: nobody knows the price of {gpu.name!r}, {expected}", "prices")
    if contract != CATALOGUE:
        text = f"contract = {contract}: of {gpu.name} only the catalogue's price on demand is known"
        return faults.add(f"{text}, {expected}", "contract")
    return gpu.usd_per_hour


def _contracted(contract: str, word: str, given: float | Prices, faults: _Faults) -> float:
    """A price that is a number is that of any contract."""
    if not isinstance(given, Prices):
        return given
    price: float | None = getattr(given, contract)
    if price is not None:
        return price
    told = ", ".join(key for key, value in given if value is not None) or "nothing"
    text = f"prices.{word} has {told}, expected {contract}, which is the contract"
    return faults.add(text, "prices", word)
