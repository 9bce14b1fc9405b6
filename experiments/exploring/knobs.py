"""The closed list of what the live page may change, each with its bounds or choices.

A page is asked by whoever can reach it, so nothing else gets to the simulator: no model, no path,
no mapping.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from experiments.study.document import Study
from hardware.gpu import gpu_names
from model.dataclass import dataclass
from sim.measuring.slo import Slo, percentile_limits, request_limits
from sim.settings.cluster_config import ClusterConfig

DEFAULT = "default"
"""A choice that sends nothing: the engine decides."""
WIDE = 20
"""How many times as much, or as little, as the study's own value a number may become."""
SEATS = (8, 16, 32, 64, 128, 256, 512, 1024)
BUDGETS = (512, 1024, 2048, 4096, 8192, 16384)
GROUPS = (1, 2, 4, 8)
SHARES = (0.9, 0.95, 0.99, 0.999)


NUMBER = re.compile(r"[-+]?[0-9.]+(e[-+]?[0-9]{1,3})?")
"""What a page writes for one; Python's own reading knows underscores and other scripts' digits."""


class KnobError(ValueError):
    """What was asked is not on the list, or beyond its bounds."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One key that may be changed."""

    id: str
    key: str
    label: str
    kind: Literal["number", "whole", "choice"]
    value: float | int | str
    """The study's own."""
    low: float = 0.0
    high: float = 0.0
    choices: tuple[float | int | str, ...] = ()

    def read(self, text: str) -> float | int | str:
        """Return the value that a page sends as text.

        Raises:
            KnobError: no such choice, no number, or one beyond the bounds.
        """
        if self.kind == "choice":
            for choice in self.choices:
                if str(choice) == text:
                    return choice
            raise KnobError(f"{self.id} = {text[:40]!r}, expected one of {list(self.choices)}")
        try:
            value = float(text) if NUMBER.fullmatch(text) else math.nan
        except ValueError:
            value = math.nan
        whole = self.kind != "whole" or value == int(value) if math.isfinite(value) else False
        if not whole or not self.low <= value <= self.high:
            what = "a whole number" if self.kind == "whole" else "a number"
            raise KnobError(
                f"{self.id} = {text[:40]!r}, expected {what} from {self.low:g} to {self.high:g}"
            )
        return int(value) if self.kind == "whole" else value

    def told(self) -> dict[str, Any]:
        """Return what a page needs to draw it."""
        return asdict(self)


def knobs_of(study: Study) -> tuple[Knob, ...]:
    """Return the knobs of a point, each at the study's own value."""
    return tuple(_knobs(study))


def _knobs(study: Study) -> Iterator[Knob]:
    cluster, engine, workload = study.cluster, study.engine, study.workload
    arrivals = workload.arrivals
    rate, users = getattr(arrivals, "rate_per_s", None), getattr(arrivals, "users", None)
    if rate is not None:
        what = "requests" if workload.sessions is None else "sessions"
        yield _number("rate", "workload.arrivals.rate_per_s", f"{what} per second", rate)
    if users is not None:
        yield _whole("users", "workload.arrivals.users", "users", users, 100_000)
    yield from _hardware(cluster)
    for key, label, values in (
        ("max_num_seqs", "max_num_seqs", SEATS),
        ("max_num_batched_tokens", "max_num_batched_tokens", BUDGETS),
    ):
        own = getattr(engine, key)
        yield _choice(
            key, f"engine.{key}", label, DEFAULT if own is None else own, (DEFAULT, *values)
        )
    for side in ("prompt", "output"):
        law = getattr(workload.lengths, side, None)
        for name in ("mean", "value"):
            own = getattr(law, name, None)
            if isinstance(own, int | float):
                key = f"workload.lengths.{side}.{name}"
                yield _whole(side, key, f"{side} tokens, {name}", round(own), 100_000)
    if study.slo is not None:
        yield from _limits(study.slo)


def _hardware(cluster: ClusterConfig) -> Iterator[Knob]:
    """Replicas, GPU and group: of each pool where there are some."""
    for place, pool in enumerate(cluster.all_pools):
        at, told = ("cluster", "") if cluster.pools is None else (
            f"cluster.pools[{place}]", f" of {pool.name}"
        )  # fmt: skip
        mark = "" if cluster.pools is None else f"_{place}"
        yield _whole(f"replicas{mark}", f"{at}.replicas", f"replicas{told}", pool.replicas, 256)
        if isinstance(pool.gpu, str):
            yield _choice(f"gpu{mark}", f"{at}.gpu", f"GPU{told}", pool.gpu, gpu_names())
        yield _choice(
            f"tp{mark}", f"{at}.tensor_parallel_size", f"tensor parallel{told}",
            pool.tensor_parallel_size, GROUPS,
        )  # fmt: skip
        if pool.pipeline_parallel_size > 1:
            yield _choice(
                f"pp{mark}", f"{at}.pipeline_parallel_size", f"pipeline parallel{told}",
                pool.pipeline_parallel_size, GROUPS,
            )  # fmt: skip


def _limits(slo: Slo) -> Iterator[Knob]:
    """Limits that the study has, and the share that keeps those of single requests."""
    alone = request_limits(slo)
    for name, limit_s in alone.items():
        yield _number(f"{name}_s", f"slo.{name}_s", f"{name.upper()} limit, s", limit_s)
    for one in percentile_limits(slo):
        told = f"{one.latency.upper()} p{one.percent} limit, s"
        yield _number(one.key, f"slo.{one.key}", told, one.limit_s)
    if alone:
        told = "share within the limits"
        yield _choice("attainment", "slo.attainment", told, slo.attainment, SHARES)


def _number(id_: str, key: str, label: str, own: float) -> Knob:
    return Knob(id_, key, label, "number", own, own / WIDE, own * WIDE)


def _whole(id_: str, key: str, label: str, own: int, most: int) -> Knob:
    return Knob(id_, key, label, "whole", own, 1, min(most, max(64, own * WIDE)))


def _choice(id_: str, key: str, label: str, own: Any, choices: Sequence[Any]) -> Knob:
    values = tuple(choices) if own in choices else (own, *choices)
    return Knob(id_, key, label, "choice", own, choices=values)


def settings_of(knobs: Sequence[Knob], asked: Mapping[str, str]) -> dict[str, Any]:
    """Return dotted keys and values of what differs from the study's own point.

    Raises:
        KnobError: a name that is no knob, or a value that its knob does not have.
    """
    known = {knob.id: knob for knob in knobs}
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise KnobError(f"{unknown[0][:40]!r} is no knob, expected one of {sorted(known)}")
    found = {}
    for name, text in asked.items():
        value = known[name].read(text)
        if value != known[name].value:
            found[known[name].key] = None if value == DEFAULT else value
    return found


def as_options(settings: Mapping[str, Any]) -> str:
    """Write settings as options of ``headroom run``."""
    return " ".join(f"--set {key}={json.dumps(value)}" for key, value in settings.items())
