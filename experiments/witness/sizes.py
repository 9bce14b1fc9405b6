"""How large the engines and requests of scenarios are."""

from typing import NamedTuple


class Sizes(NamedTuple):
    """What is drawn from, each with the same chance."""

    seats: tuple[int, ...]
    budgets: tuple[int, ...]
    """Tokens of a step."""
    blocks: tuple[int, ...]
    """Tokens of one."""
    prompts: tuple[int, ...]
    """Means, as those of ``outputs``."""
    outputs: tuple[int, ...]
    short: float
    """Chance that there are fewer blocks than all seats may take."""
    spare: int
    """Longest requests that then fit beside one, at most."""
    loads: tuple[float, ...]
    """Offered, in requests served one by one."""
    texts: tuple[int, ...]
    """Ways in which prompts begin alike."""


USUAL = Sizes(
    seats=(1, 2, 3, 5, 8, 16, 64),
    budgets=(16, 33, 64, 128, 512, 2048),
    blocks=(8, 16, 16, 32),
    prompts=(8, 60, 300),
    outputs=(1, 3, 12, 40),
    short=0.6,
    spare=2,
    loads=(0.1, 1, 5, 50),
    texts=(0, 1, 2, 3),
)
TIGHT = Sizes(
    seats=(2, 3, 4, 6),
    budgets=(12, 16, 24, 40),
    blocks=(2, 4, 4, 8),
    prompts=(5, 15, 15),
    outputs=(3, 8),
    short=1.0,
    spare=1,
    loads=(5, 50),
    texts=(2,),
)
"""Conversations; blocks fall short all the time, and who loses them soon finds what others keep."""
