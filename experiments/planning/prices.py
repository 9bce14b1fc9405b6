"""What a deployment costs by the hour."""

from experiments.planning.plan.study import PlanStudy, Prices
from experiments.study.build import scenario_of
from experiments.study.calibrations import names_calibrated
from experiments.study.document import Loaded, Study
from experiments.study.errors import Problem, StudyError, show
from hardware.gpu import Gpu, load_gpu
from sim.measuring import hardware_use
from sim.settings.pools import PoolConfig


def usd_per_hour(study: Study) -> float:
    """Return the price of all GPUs of a settled point; NaN if they are not priced."""
    return hardware_use.usd_per_hour(scenario_of(study, study.seed).kinds)


def usd_of(loaded: Loaded, plan: PlanStudy, pool: PoolConfig) -> float:
    """Return what an hour of one GPU of a pool costs.

    Raises:
        StudyError: nobody knows, or not for this contract.
    """
    words, price = pool.gpu, pool.gpu_usd_per_hour
    if not names_calibrated(words):
        price = _price_of(loaded, plan, load_gpu(words), price)
    if price is None:
        raise StudyError(
            [
                Problem(
                    loaded.where(("prices",)),
                    f"prices: nobody knows the price of {show(words)}, expected "
                    f"prices: {{{words if isinstance(words, str) else 'NAME'}: USD per hour}}",
                )
            ]
        )
    return price


def _price_of(loaded: Loaded, plan: PlanStudy, gpu: Gpu, otherwise: float | None) -> float | None:
    """Return what an hour of a GPU costs: by the plan's prices, its cluster, or the catalogue.

    Raises:
        StudyError: prices of a GPU that nobody knows, or not for this contract.
    """
    for name, given in plan.prices.items():
        try:
            named = load_gpu(name)
        except ValueError as error:
            problem = Problem(loaded.where(("prices", name)), f"prices: {error}")
            raise StudyError([problem]) from None
        if named.name != gpu.name:
            continue
        if not isinstance(given, Prices):
            return given
        price: float | None = getattr(given, plan.contract)
        if price is None:
            told = ", ".join(key for key, value in given if value is not None)
            raise StudyError(
                [
                    Problem(
                        loaded.where(("prices", name)),
                        f"prices.{name} has {told or 'nothing'}, expected {plan.contract}, which "
                        "is the contract",
                    )
                ]
            )
        return price
    return otherwise if otherwise is not None else gpu.usd_per_hour
