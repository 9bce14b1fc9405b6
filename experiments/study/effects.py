"""Settings that other settings put out of force: said of the base, refused in a sweep."""

import re
from collections.abc import Callable, Iterator, Sequence

from experiments.study.document import Loaded, Study
from experiments.study.errors import Problem, show
from experiments.study.grid import Setting
from experiments.study.pools import by_pool
from hardware.links.exchange import GATHERED
from hardware.memory.host_link import HostLink
from model.dataclass import dataclass
from sim.measuring.slo import Slo, request_limits
from sim.plugins import is_own
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.offloading_config import OffloadingConfig
from sim.settings.registry import policy

_OF_POOL = re.compile(r"cluster\.pools\[(\d+)\]\.")


@dataclass(frozen=True, slots=True)
class Condition:
    """A key that does something only where another has one of some values."""

    key: str
    default: object
    """With it the key says nothing, so it needs no effect."""
    decider: str
    fits: Callable[[object], bool]
    """Of the decider's value: whether the key then has an effect."""
    beside: str | None = None
    """A key of the study that gives it an effect as well, if it has any value."""

    def holds(self, study: Study) -> bool:
        """Tell whether the key has an effect at one point, or in one pool of it."""
        return self.holds_in(study, None)

    def holds_in(self, study: Study, pool: int | None) -> bool:
        """The same of one pool, by its place; None is any of them."""
        if self.beside is not None and _decided(study, self.beside) != [None]:
            return True
        decided = _decided(study, self.decider)
        return any(map(self.fits, decided if pool is None else decided[pool : pool + 1]))

    def is_given(self, study: Study) -> bool:
        """Tell whether a point has something else than the default."""
        return any(value not in (None, self.default) for value in _decided(study, self.key))

    def reason(self, studies: Sequence[Study]) -> str:
        """Return ``engine.order: fcfs``, or every value that the decider has at these points."""
        decided = dict.fromkeys(
            _said(value) for study in studies for value in _decided(study, self.decider)
        )
        return f"{self.decider}: {' or '.join(decided)}"


def _said(value: object) -> str:
    """A value in a message; of an slo, its limits."""
    if not isinstance(value, Slo):
        return show(value)
    return ", ".join(value.model_dump(exclude_none=True, exclude={"attainment"})) or "no limits"


def _decided(study: Study, key: str) -> list[object]:
    """The value of a key, in each pool if it is one of theirs."""
    if key == "cluster.replicas":
        return [study.cluster.engines]
    if key == "cluster.data_parallel_size":
        return [pool.data_parallel_size for pool in study.cluster.all_pools]
    if not key.startswith("engine."):
        value: object = study
        for name in key.split("."):
            value = getattr(value, name, None)
        return [value]
    return [getattr(alone.engine, key.removeprefix("engine.")) for _, alone in by_pool(study)]


def _engine(key: str, default: object) -> Condition:
    return Condition(f"engine.{key}", default, "engine.scheduler", fits=_reads(key))


def _reads(key: str) -> Callable[[object], bool]:
    """Whether a scheduler looks at a key."""
    return lambda name: key in policy(str(name)).reads


def _may_look_at_priorities(order: object) -> bool:
    return order == "priority" or is_own(order)


def _cuts_prompts(name: object) -> bool:
    return policy(str(name)).cuts_prompts


def _is_there(value: object) -> bool:
    return value is not None


def _is_several(count: object) -> bool:
    return count != 1


def _limits_requests(slo: object) -> bool:
    return isinstance(slo, Slo) and bool(request_limits(slo))


CONDITIONS = (
    Condition("workload.priorities", None, "engine.order", _may_look_at_priorities),
    _engine("batch_timeout_s", EngineConfig.model_fields["batch_timeout_s"].default),
    _engine("long_prefill_token_threshold", 0),
    _engine("long_prefill_limits_alone", True),
    _engine("scheduler_reserve_full_isl", False),
    Condition("engine.async_scheduling", False, "engine.scheduler", _cuts_prompts),
    Condition("engine.host_link", HostLink(), "engine.kv_offloading_size", _is_there),
    Condition(
        "engine.kv_connector_extra_config",
        OffloadingConfig(),
        "engine.kv_offloading_size",
        _is_there,
        beside="cluster.kv_store",
    ),
    Condition("engine.all2all_backend", GATHERED, "cluster.data_parallel_size", _is_several),
    Condition("slo.attainment", Slo.model_fields["attainment"].default, "slo", _limits_requests),
    Condition(
        "cluster.router",
        ClusterConfig.model_fields["router"].default,
        "cluster.replicas",
        lambda replicas: replicas != 1,
    ),
)


def idle_notes(settings: Sequence[Setting], studies: Sequence[Study]) -> Iterator[str]:
    """Name every key that was set and does nothing at any point; those that are swept are faults.

    A key that has its default may be written down all the same, as a resolved study does.
    """
    for condition in CONDITIONS:
        swept = any(_swept(condition, setting) for setting in settings)
        given = any(condition.is_given(study) for study in studies)
        if given and not swept and not any(map(condition.holds, studies)):
            yield f"{condition.key} has no effect with {condition.reason(studies)}"


def idle_sweeps(
    loaded: Loaded, settings: Sequence[Setting], studies: Sequence[Study]
) -> Iterator[Problem]:
    """Refuse a key that is swept at points where it does nothing: its rows would be all alike."""
    for condition in CONDITIONS:
        pairs = zip(settings, studies, strict=True)
        found = [(key, at, study) for at, study in pairs for key in _swept(condition, at)]
        points = [study for _, _, study in found]
        if found and not any(condition.holds_in(study, _pool(key)) for key, _, study in found):
            key, setting, _ = found[0]
            text = f"{key} is swept, but has no effect with {condition.reason(points)}"
            yield Problem(loaded.where(setting.origins[key]), text)


def _swept(condition: Condition, setting: Setting) -> list[str]:
    """Keys of a setting that are the condition's, of the study or of a pool, or inside it."""
    return [
        key for key in setting.values if f"{_OF_POOL.sub('', key)}.".startswith(f"{condition.key}.")
    ]


def _pool(key: str) -> int | None:
    """The place of the pool that a key is of."""
    found = _OF_POOL.match(key)
    return None if found is None else int(found[1])
