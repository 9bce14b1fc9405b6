"""A study with several pools as one study for each of them, in which it is alone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from pydantic import ValidationError

from experiments.study.document import Study
from hardware.memory.kv_blocks import DoesNotFitError
from model.same import Same
from sim.settings.cluster_config import OF_A_POOL, ClusterConfig
from sim.settings.engine_config import EngineConfig
from sim.settings.pools import PoolConfig


def by_pool(study: Study) -> tuple[tuple[PoolConfig, Study], ...]:
    """Return each pool with the study in which it is alone: its GPUs, engine and calibration.

    Raises:
        ValueError: settings of a pool and of the study contradict each other.
    """
    return _by_pool(Same(study))


@lru_cache(maxsize=1024)
def _by_pool(of: Same[Study]) -> tuple[tuple[PoolConfig, Study], ...]:
    """Each point of a sweep is asked for twenty times."""
    study = of.value
    cluster = study.cluster
    if cluster.pools is None:
        return ((cluster.all_pools[0], study),)
    return tuple((pool, _alone(study, pool)) for pool in cluster.pools)


def _alone(study: Study, pool: PoolConfig) -> Study:
    given = study.engine.model_dump() | pool.engine.model_dump()
    with naming(pool):
        try:
            engine = EngineConfig.model_validate(given)
        except ValidationError as error:
            text = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise ValueError(f"engine.{text}") from None
    short = {name: getattr(pool, name) for name in OF_A_POOL}
    routed = {name: getattr(study.cluster, name) for name in ("router", "router_settings")}
    cluster = ClusterConfig.model_validate(short | routed)
    calibration = pool.calibration or study.calibration
    return study.model_copy(
        update={"cluster": cluster, "engine": engine, "calibration": calibration}
    )


def called(name: str) -> str:
    """Return what a text calls a pool: ``pool fast``, and ``pool1`` of one without a name."""
    return name if re.fullmatch(r"pool\d+", name) else f"pool {name}"


@contextmanager
def naming(pool: PoolConfig) -> Iterator[None]:
    """Let errors begin with the pool, where it has a name. Raises ValueError, or what it was."""
    try:
        yield
    except DoesNotFitError as error:
        text = f"pool {pool.name}: {error}" if pool.name else str(error)
        raise DoesNotFitError(text, error.ledger) from None
    except ValueError as error:
        if not pool.name or str(error).startswith(f"pool {pool.name}: "):
            raise
        raise ValueError(f"pool {pool.name}: {error}") from None
