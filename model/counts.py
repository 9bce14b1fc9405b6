"""How messages count things: each number with its noun, so that one of them is one."""


def count_of(number: int, noun: str, many: str = "") -> str:
    """Write ``1 run``, ``1,200 runs``.

    Args:
        number: how many there are.
        noun: what one is called; of a phrase the part that is counted comes last.
        many: what several are called, where that is not ``noun`` with an s.
    """
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
