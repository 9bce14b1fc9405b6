"""What remains of the runs of a test: how many requests missed which promise, and why."""

from collections.abc import Sequence
from dataclasses import field

from experiments.planning.promises import Promise
from experiments.planning.samples import Sample
from model.dataclass import dataclass


@dataclass(slots=True)
class Counts:
    """What remains of the runs of a probe."""

    promises: Sequence[Promise]
    measured: int = 0
    against: dict[str, int] = field(default_factory=dict)
    """Requests that count against each promise, by its key."""
    by_limit: dict[str, int] = field(default_factory=dict)
    waited: dict[str, int] = field(default_factory=dict)
    """Of those that count against each promise, who missed a limit of a wait."""

    def add(self, sample: Sample) -> None:
        """Add a run."""
        self.measured += sample.measured
        for promise in self.promises:
            self.against[promise.key] = self.against.get(promise.key, 0) + sample.count(promise)
            waited = sample.waited(promise)
            self.waited[promise.key] = self.waited.get(promise.key, 0) + waited
        for name, mask in sample.by_limit.items():
            self.by_limit[name] = self.by_limit.get(name, 0) + int(mask.sum())

    @property
    def worst(self) -> Promise:
        """The promise of which the largest part of what it allows is used up."""
        return max(self.promises, key=lambda one: self.against.get(one.key, 0) / one.allowed)

    @property
    def missed(self) -> int:
        """Requests that count against that promise."""
        return self.against.get(self.worst.key, 0)

    @property
    def binds(self) -> str:
        """Its limit that most of them miss; empty where none missed."""
        if not self.missed:
            return ""
        return max(self.worst.limits, key=lambda name: self.by_limit[name])
