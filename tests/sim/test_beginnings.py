"""How prompts begin, as routers and caches are told."""

import numpy as np

from sim.caches import block_spans
from sim.routers.prompts import Prompts
from workloads.requests import Prefixes

PREFIXES = Prefixes(
    offsets=np.array([0, 2, 2, 3]), streams=np.array([7, 9, 7]), ends=np.array([33, 64, 31])
)
"""Three requests: 33 tokens of stream 7 and up to 64 of stream 9; nothing; 31 tokens of 7."""


def test_a_row_has_its_own_places() -> None:
    prompts = Prompts(PREFIXES)
    assert [prompts.text(row) for row in range(3)] == [[(7, 33), (9, 64)], [], [(7, 31)]]
    assert Prompts().text(0) == []


def test_caches_count_whole_blocks_and_copy_no_column() -> None:
    spans_of = block_spans(PREFIXES, 16)
    assert [spans_of(row) for row in range(3)] == [[(7, 2), (9, 4)], [], [(7, 1)]]
    PREFIXES.ends[2] = 48  # seen by a cache that was made before
    assert spans_of(2) == [(7, 3)]
    PREFIXES.ends[2] = 31
