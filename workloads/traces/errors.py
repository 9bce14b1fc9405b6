"""The one error of workload files, and how a message shows what such a file holds."""

MOST_SHOWN = 80
"""Characters of a value, and of a list of names, that a message shows."""


class TraceError(ValueError):
    """A workload file that cannot be used; the message begins with FILE or FILE:LINE.

    What a file holds may stand in it: no character of it acts on a terminal.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def shown(value: object, most: int = MOST_SHOWN) -> str:
    """Write a value in quotes, cut, and without a character that a terminal would act on."""
    text = str(value)
    cut = text[:most] + ("..." if len(text) > most else "")
    return f"'{printable(cut)}'"


def printable(text: str) -> str:
    """Replace what cannot be printed by question marks."""
    return "".join(c if c.isprintable() and c != "\ufffd" else "?" for c in text)


def listed(names: list[str], most: int = 4 * MOST_SHOWN) -> str:
    """Write names with commas between, and how many more there are once they fill a line."""
    kept: list[str] = []
    for name in names:
        if sum(map(len, kept)) + 2 * len(kept) + min(len(name), MOST_SHOWN) > most:
            break
        kept.append(printable(name[:MOST_SHOWN]))
    more = len(names) - len(kept)
    return ", ".join(kept) + (f" and {more} more" if more else "")
