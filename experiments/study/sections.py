"""Whole sections of a study as values of its sweep, and what would be lost of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.study.document import Loaded
from experiments.study.errors import Problem, show
from experiments.study.grid import SWEEPABLE, Setting
from experiments.study.overrides import REPLACED_BY_TRACE
from sim.settings.cluster_config import OF_A_POOL

INSTEAD = (
    (("pools",), OF_A_POOL),
    (("trace",), REPLACED_BY_TRACE),
    (("num_requests",), ("duration_s",)),
)
"""Keys of a section of which one side takes the place of the other."""


def as_written(resolved: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved study without the short form of a pool, as far as nobody wrote it down.

    A point that has pools instead would contradict what is merely a default.
    """
    said = raw.get("cluster")
    cluster = {
        key: value
        for key, value in resolved["cluster"].items()
        if key not in OF_A_POOL or (isinstance(said, Mapping) and key in said)
    }
    return {**resolved, "cluster": cluster}


def losses(loaded: Loaded, settings: Sequence[Setting]) -> Iterator[Problem]:
    """Refuse sections of a sweep that lack what the study's file says of them: it would be gone.

    ``sweep: [{engine: {block_size: 8}}]`` is the whole of the engine there, and not one key of it.
    """
    for setting in settings:
        for key, value in setting.values.items():
            said = loaded.raw.get(key)
            if key not in SWEEPABLE or not (
                isinstance(value, Mapping) and isinstance(said, Mapping)
            ):
                continue
            written = [each for each in said if loaded.has((key, each))]
            if gone := _missing(written, value):
                example = next((f"{key}.{word}" for word in value), f"{key}.{gone[0]}")
                text = (
                    f"{key}: without {', '.join(map(show, gone))}, which the study says, expected "
                    f"dotted keys such as {example}, or all that {key} is to be"
                )
                yield Problem(loaded.where(setting.origins[key]), text)


def _missing(said: Sequence[str], value: Mapping[str, Any]) -> list[str]:
    replaced = {
        key
        for sides in INSTEAD
        for side, other in (sides, sides[::-1])
        if any(each in value for each in side)
        for key in other
    }
    return [key for key in said if key not in value and key not in replaced]
