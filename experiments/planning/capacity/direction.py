"""Whether more of a searched key is harder, as the first values that were tried tell.

The same requests with the same luck go through every value, so their strain (``Sample.strain``: how
much of a limit they need, in the mean) tells the direction long before any of them misses.
"""

from collections.abc import Mapping

from experiments.planning.lengths import RATES
from experiments.planning.samples import MOST_STRAIN

HARDER = frozenset((*RATES.values(), "rate_on_per_s", "rate_scale"))
"""Last words of keys that are traffic: more of it is harder, whatever a few runs say."""
DOUBLINGS = 3
"""After which more has to be harder than the value that the study says,"""
STEPS_DOWN = 2
"""or less easier."""


def is_traffic(key: str) -> bool:
    """Tell whether more of a key is more to do."""
    return key.rsplit(".", 1)[-1] in HARDER


def is_no_harder_above(strains: Mapping[float, float], first: float) -> bool:
    """Tell whether none of the values above the first strains requests more.

    Args:
        strains: mean strain by value.
        first: the value that the study says.
    """
    above = [strain for value, strain in strains.items() if value > first]
    return len(above) >= DOUBLINGS and max(above) <= strains[first]


def is_no_easier_below(strains: Mapping[float, float], first: float) -> bool:
    """Tell whether none of the values below the first strains requests less.

    Not where all are lost at the first already: nothing is worse than that.
    """
    below = [strain for value, strain in strains.items() if value < first]
    return len(below) >= STEPS_DOWN and min(below) >= strains[first] < MOST_STRAIN


def are_alike(strains: Mapping[float, float]) -> bool:
    """Tell whether all values strain requests the same, to the last bit, and not all are lost."""
    return (
        len(strains) > 1 and len(set(strains.values())) == 1 and MOST_STRAIN not in strains.values()
    )
