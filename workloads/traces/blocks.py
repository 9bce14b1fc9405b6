"""Which prompts begin alike, from identities of their blocks or of their tokens.

Mooncake and Bailian give one id per block of a prompt (512 and 16 tokens), the last one perhaps
partial. Files with other blocks have the same keys; the lengths tell: a prompt of ``L`` tokens with
``n`` ids has blocks of ``B`` tokens with ``floor(L / B) <= n <= ceil(L / B)``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from workloads.prefixes import block_prefixes
from workloads.requests import Ints, Prefixes

TOKENS_OF_A_BLOCK = 16
"""Tokens that are taken together where every token has an identity: vLLM's smallest block."""
LARGEST = 2**63 - 1
Id = int | str


class BlocksError(ValueError):
    """Ids that contradict the lengths, at a row."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(text)
        self.row = row


@dataclass(frozen=True, slots=True)
class Ids:
    """A field of identities."""

    name: str

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return "a list of whole numbers, or of texts"

    def parse(self, value: object) -> list[Id]:
        """Return a list of ids as it stands in a file, also as a text. Raises ValueError."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError(self.expected) from None
        if not isinstance(value, list) or set(map(type, value)) not in ({int}, {str}, set()):
            raise ValueError(self.expected)
        return value


def prefixes_of_blocks(
    lists: Sequence[Sequence[Id]], prompt_tokens: Ints, usual: int, given: int | None
) -> tuple[Prefixes, int]:
    """Return what prompts have in common, and how many tokens a block has.

    Args:
        lists: the ids of every prompt's blocks.
        prompt_tokens: shape (rows,).
        usual: tokens of a block of this format.
        given: the same as the study says, if it does.

    Raises:
        BlocksError: more ids than a prompt has blocks, or no size of a block fits every row.
    """
    counts = np.array([len(ids) for ids in lists], dtype=np.int64)
    tokens = given or _block_tokens(counts, prompt_tokens, usual)
    many = np.flatnonzero(counts > -(-prompt_tokens // tokens))
    if len(many):
        row = int(many[0])
        raise BlocksError(
            row,
            f"{counts[row]} ids for {prompt_tokens[row]} prompt tokens, expected at most one per "
            f"{tokens}",
        )
    offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
    return block_prefixes(offsets, _numbers(lists), tokens, prompt_tokens), tokens


def _numbers(lists: Sequence[Sequence[Id]]) -> Ints:
    """Return the ids of all rows as numbers; texts and numbers beyond 64 bits get one each."""
    ids = list(chain.from_iterable(lists))
    if not any(row and isinstance(row[0], str) for row in lists):  # all of a row are alike
        try:
            return np.array(ids, dtype=np.int64)
        except OverflowError:
            pass
    numbers: dict[Id, int] = {}
    return np.array([numbers.setdefault(one, len(numbers)) for one in ids], dtype=np.int64)


def _block_tokens(counts: Ints, prompt_tokens: Ints, usual: int) -> int:
    """Return the format's usual size where it fits, else the roundest one that fits every row."""
    full, all_ = prompt_tokens // usual, -(-prompt_tokens // usual)
    if np.all((full <= counts) & (counts <= all_)):
        return usual
    told = counts > 0
    lengths, numbers = prompt_tokens[told], counts[told]
    # A partial last block has an id: ceil(L / B) = n, so L / n <= B < L / (n - 1).
    low = -(-lengths // numbers)
    high = np.where(numbers > 1, -(-lengths // np.maximum(numbers - 1, 1)) - 1, LARGEST)
    if len(low) and low.max() <= high.min():
        return _roundest(int(low.max()), int(high.min()))
    # It has none: floor(L / B) = n, so L / (n + 1) < B <= L / n.
    low, high = lengths // (numbers + 1) + 1, lengths // numbers
    if len(low) and low.max() <= high.min():
        return _roundest(int(low.max()), int(high.min()))
    row = int(np.flatnonzero((counts < full) | (counts > all_))[0])
    raise BlocksError(
        row,
        f"{counts[row]} ids for {prompt_tokens[row]} prompt tokens are not one per {usual}, and no "
        "other size of a block fits every row",
    )


def _roundest(low: int, high: int) -> int:
    """Return the first power of two, else multiple of 16, else number of a range."""
    power = 1 << (low - 1).bit_length()
    sixteens = -(-low // 16) * 16
    return next((size for size in (power, sixteens) if size <= high), low)


def prefixes_of_tokens(lists: Sequence[Sequence[Id]], prompt_tokens: Ints) -> Prefixes:
    """Return what prompts have in common whose tokens are told, in whole blocks of 16.

    Args:
        lists: the ids of every prompt's tokens; what goes beyond a prompt is not read.
        prompt_tokens: shape (rows,).
    """
    numbers: dict[tuple[Id, ...], int] = {}
    blocks = []
    for ids, length in zip(lists, prompt_tokens.tolist(), strict=True):
        ends = range(0, min(len(ids), length) // TOKENS_OF_A_BLOCK * TOKENS_OF_A_BLOCK + 1)
        cuts = pairwise(ends[::TOKENS_OF_A_BLOCK])
        blocks.append([numbers.setdefault(tuple(ids[a:b]), len(numbers)) for a, b in cuts])
    return prefixes_of_blocks(blocks, prompt_tokens, TOKENS_OF_A_BLOCK, TOKENS_OF_A_BLOCK)[0]
