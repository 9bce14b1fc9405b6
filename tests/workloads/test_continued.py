"""Whose text a prompt says again, row by row and by hand."""

import numpy as np
import pytest

from workloads.continued import continued, full_blocks, resent, said_again
from workloads.prefixes import Prefixes
from workloads.requests import After, Requests

BLOCK = 16


def requests(prompts: list[int], outputs: list[int]) -> Requests:
    return Requests(
        arrival_s=np.arange(len(prompts), dtype=np.float64),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        priority=np.zeros(len(prompts), dtype=np.int64),
    )


def blocks(prompts: list[int], ids: list[list[int]]) -> Prefixes:
    """Identities of the blocks of each prompt; the last of them may be partial."""
    ends = [
        min(BLOCK * (place + 1), prompt)
        for prompt, own in zip(prompts, ids, strict=True)
        for place in range(len(own))
    ]
    offsets = np.cumsum([0, *map(len, ids)])
    return Prefixes(offsets, np.array([each for own in ids for each in own]), np.array(ends))


def told(prefixes: Prefixes) -> list[list[tuple[int, int]]]:
    """Streams and ends of each row."""
    pairs = list(zip(prefixes.streams.tolist(), prefixes.ends.tolist(), strict=True))
    bounds = zip(prefixes.offsets[:-1], prefixes.offsets[1:], strict=True)
    return [pairs[low:high] for low, high in bounds]


def waiting(*rows: list[int]) -> After:
    return After(np.cumsum([0, *map(len, rows)]), np.array([each for own in rows for each in own]))


def test_a_last_block_is_full_or_not() -> None:
    prompts = [32, 33, 31, 16, 5]
    found = full_blocks(blocks(prompts, [[1, 2], [1, 2, 3], [1, 4], [1], [9]]))
    assert found.tolist() == [2, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("prompt", "ids", "goes_on"),
    [
        (48, [1, 2, 5], 0),
        (33, [1, 2, 5], 0),
        (32, [1, 2], -1),  # the same prompt once more
        (48, [1, 6, 5], -1),
        (31, [1, 2], -1),
    ],
)
def test_a_longer_prompt_goes_on_with_all_full_blocks(
    prompt: int, ids: list[int], goes_on: int
) -> None:
    prompts = [32, prompt]
    rows = requests(prompts, [4, 4])
    found = continued(rows, blocks(prompts, [[1, 2], ids]), waiting([], [0]))
    assert found.tolist() == [-1, goes_on]


def test_of_several_prompts_it_goes_on_with_the_longest() -> None:
    prompts = [16, 32, 64]
    prefixes = blocks(prompts, [[1], [1, 2], [1, 2, 3, 4]])
    found = continued(requests(prompts, [4, 4, 4]), prefixes, waiting([], [], [0, 1]))
    assert found.tolist() == [-1, -1, 1]


@pytest.mark.parametrize(("second", "ends"), [(39, [16, 32]), (40, [16, 32, 40])])
def test_an_answer_is_told_where_the_next_turn_holds_it_whole(second: int, ends: list[int]) -> None:
    """A prompt of 32 and an answer of 8: 39 tokens do not hold both."""
    prompts = [32, second]
    prefixes = blocks(prompts, [[1, 2], [1, 2, 3]])
    found = told(said_again(requests(prompts, [8, 4]), prefixes, np.array([-1, 0])))
    assert [end for _, end in found[0]] == ends
    assert found[1] == [(1, 16), (2, 32), (3, second)]


def test_turns_that_say_the_same_again_branch_off_behind_the_answer() -> None:
    """The first goes on with the text of the answer, the others with theirs behind it."""
    rows = requests([50, 80, 90, 70], [10, 10, 10, 10])
    found = told(resent(rows, waiting([], [0], [0], [0])))
    assert found == [[(0, 60)], [(0, 80)], [(0, 60), (2, 90)], [(0, 60), (3, 70)]]
