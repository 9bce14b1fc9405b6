"""The ratios of pools that a plan tries, of each candidate that has several pools.

All ratios of up to so many replicas in lowest terms: those whose capacity costs more than the
answer are never simulated, so that a long list costs little.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from experiments.study.document import Study
from experiments.study.errors import Problem, StudyError
from experiments.study.grid import Setting
from experiments.study.schema import value_at

POOLS = "cluster.pools"
Ratios = int | list[list[int]]


def every_ratio(most: int, pools: int) -> Iterator[tuple[int, ...]]:
    """Yield the ratios of 1 to ``most`` replicas of each pool, each once, small ones first."""
    parts = sorted(product(range(1, most + 1), repeat=pools), key=lambda one: (sum(one), one))
    return (one for one in parts if math.gcd(*one) == 1)


def with_ratios(
    settings: Sequence[Setting], studies: Sequence[Study], asked: Ratios | None,
    raw: Mapping[str, Any], where: str,
) -> tuple[list[Setting], list[Study]]:  # fmt: skip
    """Return every candidate of several pools once per ratio; others as they are.

    Args:
        settings: what candidates differ in.
        studies: of each.
        asked: most replicas of a pool in a ratio, or the ratios; None: as candidates have them.
        raw: the file, which has the pools of candidates that change something else.
        where: the line of the file that complaints name.

    Raises:
        StudyError: a ratio has another number of pools, a candidate says its own, or none has
            several pools.
    """
    if asked is None:
        return list(settings), list(studies)
    found: list[tuple[Setting, Study]] = []
    for setting, study in zip(settings, studies, strict=True):
        count = len(study.cluster.all_pools)
        if count == 1:
            found.append((setting, study))
            continue
        _check(study, setting.values, asked, raw, where)
        ratios = every_ratio(asked, count) if isinstance(asked, int) else map(tuple, asked)
        found += [_in_ratio(setting, study, ratio) for ratio in dict.fromkeys(ratios)]
    if len(found) == len(settings) and all(len(one.cluster.all_pools) == 1 for one in studies):
        text = "ratios: no candidate has several pools, expected cluster.pools with two or more"
        raise StudyError([Problem(where, text)])
    return [setting for setting, _ in found], [study for _, study in found]


def _check(
    study: Study, values: Mapping[str, Any], asked: Ratios, raw: Mapping[str, Any], where: str
) -> None:
    pools = study.cluster.all_pools
    rows: Any = values.get(POOLS) or value_at(raw, ("cluster", "pools")) or ()
    own = [pool.name for pool, row in zip(pools, rows, strict=False) if "replicas" in row]
    own += [key for key in values if key.startswith(POOLS) and key.endswith(".replicas")]
    if own:
        text = (
            f"ratios: pool {own[0]} of a candidate has replicas of its own, expected one of both: "
            "ratios says how many of each pool"
        )
        raise StudyError([Problem(where, text)])
    for ratio in asked if isinstance(asked, list) else []:
        if len(ratio) != len(pools):
            names = ", ".join(pool.name for pool in pools)
            text = f"ratios: {ratio} has {len(ratio)} numbers, expected one for each of {names}"
            raise StudyError([Problem(where, text)])


def _in_ratio(setting: Setting, study: Study, ratio: Sequence[int]) -> tuple[Setting, Study]:
    pools = [
        pool.model_copy(update={"replicas": count})
        for pool, count in zip(study.cluster.all_pools, ratio, strict=True)
    ]
    values = dict(setting.values)
    if POOLS in values:
        rows = zip(values[POOLS], ratio, strict=True)
        values[POOLS] = [{**row, "replicas": count} for row, count in rows]
    else:
        values |= {f"{POOLS}[{at}].replicas": count for at, count in enumerate(ratio)}
    cluster = study.cluster.model_copy(update={"pools": pools})
    return Setting(values, setting.origins), study.model_copy(update={"cluster": cluster})
