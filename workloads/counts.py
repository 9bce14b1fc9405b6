"""How accounts count things, in a room that stands alone: see ``model.counts``."""


def count_of(number: int, noun: str) -> str:
    """Write ``1 request``, ``1,200 requests``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
