"""What a deployment costs by the hour."""

import math

from experiments.study.build import scenario_of
from experiments.study.document import Study


def usd_per_hour(study: Study) -> float:
    """Return the price of all GPUs of a settled point; NaN if they are not priced."""
    scenario = scenario_of(study, study.seed)
    price = study.cluster.gpu_usd_per_hour or scenario.gpu.usd_per_hour
    return math.nan if price is None else price * gpus(study)


def gpus(study: Study) -> int:
    """Return how many GPUs a settled point has."""
    return study.cluster.tensor_parallel_size * study.cluster.replicas
