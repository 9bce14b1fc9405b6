"""What the page shows of generation with and without a KV cache."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from experiments.reporting.page.figures import Axis, Figure, Series
from experiments.reporting.page.sheet import Answer, Section, card
from experiments.reporting.page.tables import Table
from experiments.reporting.quantities import significant

Row = Mapping[str, Any]
Lines = Mapping[int, Mapping[str, Sequence[float]]]
"""By prompt tokens: seconds until each token, ``cached``, ``cached_predicted``, ``uncached``,
``uncached_predicted``."""
MOST_MARKS = 64


def answer(rows: Sequence[Row]) -> Answer:
    """Say what the cache saves at most, and how near the predictions are."""
    best = max(rows, key=lambda row: row["speed_up"])
    errors = [abs(row[f"{kind}_error"]) for row in rows for kind in ("cached", "uncached")]
    return Answer(
        f"With the KV cache {best['output_tokens']:,.0f} tokens after a prompt of "
        f"{best['prompt_tokens']:,.0f} come {significant(best['speed_up'])} times as fast; "
        f"{significant(best['speed_up_predicted'])} times was predicted.",
        more=f"Half of the predicted latencies are within {significant(100 * median(errors), 2)}% "
        "of the measured ones.",
        about="With the cache every token costs a step of one token; without it, a step of the "
        "prompt and all tokens so far: latency bends upwards once these outnumber the prompt.",
    )


def cards(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the saving after the longest answer to each prompt."""
    longest = max(row["output_tokens"] for row in rows)
    return [
        card(
            f"prompt of {row['prompt_tokens']:,.0f} tokens", f"{significant(row['speed_up'])} x",
            f"predicted {significant(row['speed_up_predicted'])} x, after {longest:,.0f} tokens",
        )
        for row in rows
        if row["output_tokens"] == longest
    ]  # fmt: skip


def sections(rows: Sequence[Row], lines: Lines) -> list[Section]:
    """Return latencies over the tokens generated, measured and predicted, and the table."""
    return [
        Section(
            "Latency over the tokens generated",
            "Solid: measured. Dashed: predicted from the calibration.",
            figures=[
                _latency("with the KV cache", "cached", lines),
                _latency("without", "uncached", lines),
            ],
        ),
        Section("Every figure", table=_table(rows)),
    ]


def _latency(title: str, kind: str, lines: Lines) -> Figure:
    rows = [
        Series(
            f"prompt of {prompt:,}{', predicted' if place else ''}", _thinned(found[name]),
            look=number, dash=place,
        )
        for number, (prompt, found) in enumerate(lines.items())
        for place, name in enumerate((kind, f"{kind}_predicted"))
    ]  # fmt: skip
    return Figure(
        "lines", f"Latency {title}", Axis(f"tokens generated, {title}"), rows,
        Axis("latency, s", zero=True),
    )  # fmt: skip


def _thinned(seconds: Sequence[float]) -> list[tuple[float, float]]:
    """Every so many tokens, and the last one, whose latency the table has."""
    every = -(-len(seconds) // MOST_MARKS)
    places = sorted({*range(0, len(seconds), every), len(seconds) - 1})
    return [(float(place + 1), float(seconds[place])) for place in places]


def _table(rows: Sequence[Row]) -> Table:
    headings = (
        "prompt tokens", "tokens generated", "with cache, ms", "predicted, ms", "error, %",
        "without, ms", "predicted without, ms", "error without, %", "speed-up",
        "predicted speed-up",
    )  # fmt: skip
    cells = []
    for row in rows:
        found = [f"{row['prompt_tokens']:.0f}", f"{row['output_tokens']:.0f}"]
        for kind in ("cached", "uncached"):
            found += [
                significant(1e3 * row[f"{kind}_s"]),
                significant(1e3 * row[f"{kind}_predicted_s"]),
            ]
            found.append(f"{100 * row[f'{kind}_error']:+.1f}")
        found += [significant(row["speed_up"]), significant(row["speed_up_predicted"])]
        cells.append(tuple(found))
    return Table(headings, tuple(cells), keys=0)
