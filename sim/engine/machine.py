"""What computes the batches of a scheduler: here it is prices, elsewhere a real decoder."""

from array import array

from mypy_extensions import mypyc_attr

from hardware.steps.prices import StepPrices
from sim.engine.sequence import Batch


@mypyc_attr(allow_interpreted_subclasses=True)
class Machine:
    """Says when the steps of a batch end, once they are computed."""

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """Append the ends of the steps of a batch that starts at ``start_s``; return the last.

        At least one, and at most ``batch.steps``; none that would start at ``until_s`` or later (a
        time after ``start_s``, or infinity).
        """
        raise NotImplementedError


class Priced(Machine):
    """Steps take as long as they cost."""

    def __init__(self, prices: StepPrices) -> None:
        self.prices = prices

    def compute(
        self, batch: Batch, start_s: float, until_s: float, ends_s: "array[float]"
    ) -> float:
        """See ``Machine``."""
        decodes = batch.decodes + batch.padding
        if batch.chunks:
            end_s = start_s + self.prices.step_s(decodes, batch.reads, batch.chunks)
            ends_s.append(end_s)
            return end_s
        return self.prices.decode_ends_s(
            start_s, decodes, batch.reads, batch.growth, batch.steps, until_s, ends_s
        )
