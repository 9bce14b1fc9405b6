"""``baseline``: the point that every other one is compared with."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.study.errors import nearest, show
from experiments.study.grid import cell


def baselines(
    points: Sequence[Mapping[str, Any]], baseline: int | Mapping[str, Any] | None
) -> dict[int, int]:
    """Return the number of each point, from 1, and that of its baseline.

    A number, or nothing for the first, is one baseline for all. Swept keys with values give each
    point the one that has these values and is like it otherwise: with ``{cluster.gpu: l40s}`` every
    rate is compared with the same rate on an L40S.

    Args:
        points: values of the swept keys of each.
        baseline: of the study.

    Raises:
        ValueError: no such point, key or value.
    """
    numbers = range(1, len(points) + 1)
    if baseline is None:
        baseline = 1
    if isinstance(baseline, int):
        if baseline not in numbers:
            raise ValueError(f"expected the number of a point, 1 to {len(points)}")
        return dict.fromkeys(numbers, baseline)
    for key, value in baseline.items():
        swept = list(points[0])
        if key not in swept:
            hint = nearest(key, swept)
            known = f"expected one of {', '.join(swept)}" if swept else "nothing is swept"
            raise ValueError(f"{key} is not swept{hint or ','} {known}")
        if cell(value) not in [point[key] for point in points]:
            values = ", ".join(dict.fromkeys(show(point[key]) for point in points))
            raise ValueError(f"{key} = {show(value)} is no value of the sweep, expected {values}")
    wanted = {key: cell(value) for key, value in baseline.items()}
    found = {}
    for number, point in zip(numbers, points, strict=True):
        alike = [other for other, values in zip(numbers, points, strict=True)
                 if values == {**point, **wanted}]  # fmt: skip
        if not alike:
            raise ValueError(
                f"point {number} has no baseline: no point has {show(wanted)} and is like it "
                "otherwise, expected a grid, or the number of one point"
            )
        found[number] = alike[0]
    return found
