"""The prices of a pipeline: of every stage, and of a step that goes through all of them."""

from dataclasses import dataclass, replace

import numpy as np

from hardware.pipelining import Pipelining
from hardware.step_cost import StepCost
from hardware.step_prices import StepPrices
from model.shape import DecoderSpec
from model.stages import Stage


@dataclass(frozen=True, slots=True)
class PipelineCost:
    """What steps of a pipeline cost."""

    rules: Pipelining
    """How its steps are planned."""
    stages: tuple[StepCost, ...]
    """What each stage takes, handing over included."""
    places: tuple[tuple[int, ...], ...]
    """Of each stage, which of the whole model's classes of cache its own ones are."""

    @property
    def prices(self) -> list[StepPrices]:
        """Of each stage."""
        return [stage.prices for stage in self.stages]

    def ceilings(self, whole: StepCost) -> dict[str, float]:
        """Return what a replica cannot exceed: see ``StepCost.ceilings``.

        Its throughput is that of the slowest stage, its fastest token goes through all of them.
        """
        each = [stage.ceilings() for stage in self.stages]
        least = {name: min(one[name] for one in each) for name in each[0]}
        return least | {"fastest_token_s": whole.ceilings()["fastest_token_s"]}


def pipeline_cost(
    spec: DecoderSpec,
    rules: Pipelining,
    whole: StepCost,
    stages: tuple[Stage, ...],
    costs: tuple[StepCost, ...],
) -> tuple[StepCost, PipelineCost]:
    """Return the price of a step that is alone in the pipeline, and those of its stages.

    Args:
        spec: the whole model.
        rules: how steps are planned.
        whole: price of the model in one stage.
        stages: what they hold.
        costs: their prices.
    """
    reaches = list(spec.reaches)
    places = tuple(
        tuple(reaches.index(reach) if reach in reaches else 0 for reach in stage.spec.reaches)
        for stage in stages
    )
    token_s = np.sum([np.array(cost.token_s) for cost in costs], axis=0)
    alone = replace(whole, token_s=token_s.tolist())
    return alone, PipelineCost(rules, costs, places)
