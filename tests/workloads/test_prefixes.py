"""What prompts have in common, as streams of text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tries import tries
from workloads.generate import generate
from workloads.prefixes import _chains_of_ids, block_prefixes, prompt_prefixes
from workloads.requests import Prefixes, Requests
from workloads.workload import Workload

FIXED = {"prompt": {"distribution": "constant", "value": 50}} | {
    "output": {"distribution": "constant", "value": 2}
}
RANDOM = FIXED | {"prompt": {"distribution": "uniform", "min": 10, "max": 500}}


def generated(prefixes: dict[str, int], lengths: object = FIXED, rows: int = 6) -> Requests:
    workload = Workload.model_validate(
        {
            "arrivals": {"process": "poisson", "rate_per_s": 1.0},
            "lengths": lengths,
            "num_requests": rows,
            "prefixes": prefixes,
        }
    )
    return generate(workload, 0)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_distinct_prompts_are_cycled_in_order_of_arrival() -> None:
    requests = generated({"groups": 2, "prompts_per_group": 2, "shared_tokens": 20})
    prefixes = requests.prefixes
    assert prefixes is not None
    assert prefixes.offsets.tolist() == [0, 2, 4, 6, 8, 10, 12]
    # streams 0 and 1 are the system prompts, 2 to 5 the prompts
    assert prefixes.streams.tolist() == [0, 2, 0, 3, 1, 4, 1, 5, 0, 2, 0, 3]
    assert prefixes.ends.tolist() == [20, 50] * 6


def test_a_repeated_prompt_is_as_long_as_before() -> None:
    requests = generated({"groups": 1, "prompts_per_group": 3, "shared_tokens": 20}, RANDOM)
    lengths = requests.prompt_tokens
    assert lengths[:3].tolist() == lengths[3:].tolist()
    assert len(set(lengths.tolist())) == 3


def test_without_prompts_per_group_only_the_system_prompt_is_shared() -> None:
    prefixes = generated({"groups": 2, "shared_tokens": 80}).prefixes
    assert prefixes is not None
    assert prefixes.streams.tolist() == [0, 1, 0, 1, 0, 1]
    assert prefixes.ends.tolist() == [50] * 6  # a prompt shorter than that is a part of it


def test_a_prompt_s_number_counts_within_its_prefix() -> None:
    prefixes = prompt_prefixes(
        ids(9, 9, 9), prompt_id=ids(1, 1, 1), prefix_id=ids(5, 5, 6), prefix_tokens=ids(4, 4, 4)
    )
    assert prefixes.streams.tolist() == [0, 2, 0, 2, 1, 3]


def test_blocks_are_alike_only_with_all_before_them() -> None:
    prefixes = block_prefixes(ids(0, 2, 4, 6), ids(1, 2, 1, 2, 3, 2), 16, ids(32, 20, 32))
    assert prefixes.streams.tolist() == [0, 1, 0, 1, 2, 3]  # 2 after 3 is not 2 after 1
    assert prefixes.ends.tolist() == [16, 32, 16, 20, 16, 32]


def test_rows_can_be_taken() -> None:
    prefixes = Prefixes(ids(0, 2, 2, 3), ids(4, 5, 6), ids(1, 2, 3)).taken(ids(2, 1, 0))
    assert prefixes.offsets.tolist() == [0, 1, 1, 3]
    assert prefixes.streams.tolist() == [6, 4, 5]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((ids(0, 1), ids(4, 5), ids(1, 2)), "offsets end at 1, there are 2 streams"),
        ((ids(0, 1), ids(-4), ids(1)), "stream -4, expected at least 0"),
        ((ids(0, 2), ids(4, 5), ids(2, 1)), "must not fall within a row"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prefixes(*columns)


def test_what_is_named_must_be_told_whole() -> None:
    with pytest.raises(ValueError, match="expected prompt_id, prefix_id or both"):
        prompt_prefixes(ids(1))
    with pytest.raises(ValueError, match="prefix_id and prefix_tokens belong together"):
        prompt_prefixes(ids(1), prefix_id=ids(1))
    with pytest.raises(ValueError, match="prompt_id has 2 rows, expected 1"):
        prompt_prefixes(ids(1), prompt_id=ids(1, 2))
    with pytest.raises(ValueError, match="prefixes has 1 rows, expected 2"):
        Requests(
            arrival_s=np.zeros(2), prompt_tokens=ids(1, 1), output_tokens=ids(1, 1),
            priority=ids(0, 0), prefixes=prompt_prefixes(ids(1), prompt_id=ids(1)),
        )  # fmt: skip


def test_a_trace_brings_its_own_identities() -> None:
    with pytest.raises(ValueError, match="prefixes is for generated requests"):
        Workload.model_validate({"trace": "t.csv", "prefixes": {"groups": 1, "shared_tokens": 1}})


@tries(80)
@given(st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=12), st.booleans())
def test_chains_are_numbered_as_they_appear(rows: list[list[int]], hashed: bool) -> None:
    """Ids that are hashes of all that is before them are counted at once, others one by one."""
    chains: dict[tuple[int, ...], int] = {}
    streams = [
        chains.setdefault(tuple(row[: place + 1]), len(chains))
        for row in rows
        for place in range(len(row))
    ]
    names: dict[tuple[int, ...], int] = {}
    if hashed:  # the same prompts, with other names of blocks
        rows = [
            [names.setdefault(tuple(row[: n + 1]), -7 * len(names)) for n in range(len(row))]
            for row in rows
        ]
    offsets = np.cumsum([0, *map(len, rows)])
    numbers = np.array([block for row in rows for block in row], dtype=np.int64)
    found = block_prefixes(offsets, numbers, 16, 16 * np.diff(offsets))
    assert found.streams.tolist() == streams
    at_once = _chains_of_ids(offsets[:-1][np.diff(offsets) > 0], numbers)
    if hashed:
        assert at_once is not None
    assert at_once is None or at_once.tolist() == streams
