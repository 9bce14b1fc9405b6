"""Which drafts of a run's requests are right, for the engines that verify them."""

from sim.engine.drafts.drafting import Acceptance
from sim.settings.speculative import SpeculativeConfig
from workloads.acceptance import DrawnAcceptance
from workloads.requests import Requests


class Synthetic(Acceptance):
    """Drawn with the probabilities of a study: see ``workloads.acceptance``."""

    def __init__(self, speculative: SpeculativeConfig, requests: Requests, seed: int) -> None:
        self._drawn = DrawnAcceptance(
            seed, requests.output_tokens, speculative.rates, speculative.acceptance_length_std
        )

    def of(self, request: int) -> bytes:
        """See ``Acceptance``."""
        return self._drawn.of(request)


class Given(Acceptance):
    """Told beforehand, of every request by its row."""

    def __init__(self, accepted: list[bytes]) -> None:
        self._accepted = accepted

    def of(self, request: int) -> bytes:
        """See ``Acceptance``."""
        return self._accepted[request]
