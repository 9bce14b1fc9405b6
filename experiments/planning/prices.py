"""What a deployment costs by the hour."""

from experiments.study.build import scenario_of
from experiments.study.document import Study
from sim import hardware_use


def usd_per_hour(study: Study) -> float:
    """Return the price of all GPUs of a settled point; NaN if they are not priced."""
    return hardware_use.usd_per_hour(scenario_of(study, study.seed).kinds)
