"""``headroom compare BEFORE AFTER``: what two results differ by, and what of it is more than luck.

Exit status 0: done; 1: a rule of --fail-on holds beyond doubt; 2: something is wrong with the
input.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, called, fail, run_command
from experiments.reporting.formats import FORMATS, written
from model.counts import count_of
from model.dataclass import dataclass

if TYPE_CHECKING:
    from experiments.reporting.terminal import Screen
    from experiments.running.compared import Comparison, Line

EXAMPLES = """examples:
  %(prog)s results/before results/after
  %(prog)s results/batching_sweep:14 results/batching_sweep:15
  %(prog)s results/before results/after --fail-on "ttft_p99_s > +5%%"
  %(prog)s results/before results/after --report compared.html
"""
NOT_SAME = "an slo has to be the same on both sides to be compared"
MOST_SETTINGS = 12
"""That differ, and are printed; a page has all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``ttft_p99_s > +5%``: what is not to be."""

    text: str
    metric: str
    above: bool
    limit: float
    relative: bool

    def holds(self, line: "Line") -> bool | None:
        """Tell whether a difference is beyond the limit with its whole interval; None: unknown."""
        found = line.difference
        unit = abs(line.before) if self.relative else 1.0
        end = found.low if self.above else found.high
        if math.isnan(end) or not unit:
            return None
        return end / unit > self.limit if self.above else end / unit < self.limit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return run_command(_command, _parser(), argv, "nothing was changed")


def rule(text: str) -> Rule:
    """Read a rule. Raises ArgumentTypeError."""
    from experiments.reporting.stats import is_share
    from experiments.running.compared import EVERY
    from experiments.study.errors import nearest

    found = re.fullmatch(r"\s*(\w+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*(%?)\s*", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}, expected e.g. 'ttft_p99_s > +5%'")
    metric, sign, number, percent = found.groups()
    if metric not in EVERY:
        hint = nearest(metric, EVERY)
        raise argparse.ArgumentTypeError(f"{metric!r} is not compared{hint or ''}")
    limit = float(number) / (100 if percent else 1)
    if is_share(metric) and not percent and abs(limit) >= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: {metric} is a share, no difference is beyond 1, expected e.g. "
            f"'{metric} {sign} {limit / 100:+g}' for {abs(limit):g} points"
        )
    return Rule(text.strip(), metric, sign == ">", limit, bool(percent))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=called("compare"),
        description="Compare two results, paired by seed and request where these are the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("before", metavar="BEFORE", help="a results folder, or FOLDER:POINT")
    parser.add_argument("after", metavar="AFTER", help="another one, or another point")
    parser.add_argument(
        "--fail-on", type=rule, action="append", default=[], metavar="RULE", dest="rules",
        help="exit status 1 if a difference is beyond this with its whole interval: "
        "'ttft_p99_s > +5%%', 'goodput_per_s < -0.5'",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, default="table", help="of what is printed")
    parser.add_argument(
        "--report", type=Path, metavar="FILE",
        help="also write a page that shows it, e.g. compared.html; the file must be new",
    )  # fmt: skip
    return parser


def _command(options: argparse.Namespace) -> int:
    from experiments.reporting.terminal import screen
    from experiments.running.compared import compare, comparison_table, sides_of
    from experiments.study.errors import StudyError

    try:
        found = [compare(*pair) for pair in sides_of(options.before, options.after)]
    except StudyError as error:
        return fail(str(error))
    if options.report is not None:
        fault = _report(found, options.report)
        if fault:
            return fail(fault)
    if options.format == "table":
        to = screen(sys.stdout)
        for one in found:
            _print(one, to)
    else:
        print(written(comparison_table(found), options.format), end="")
    return max((_judge(one, each) for one in found for each in options.rules), default=0)


def _report(found: "list[Comparison]", path: Path) -> str:
    """Write the page; return why it cannot be written, if so."""
    from experiments.reporting.page.sheet import write_sheet
    from experiments.running.compared_sheet import sheet

    if os.path.lexists(path):
        return f"--report {path}: it exists, expected the name of a new file"
    try:
        write_sheet(path, sheet(found))
    except OSError as error:
        return f"--report {path}: {error.strerror}"
    return ""


def _judge(one: "Comparison", asked: Rule) -> int:
    """Exit status of a rule, said on stderr."""
    from experiments.running.compared import OF_SLO

    line = next((line for line in one.lines if line.metric == asked.metric), None)
    verdict = None if line is None else asked.holds(line)
    why = "no interval"
    if line is None and asked.metric in OF_SLO:
        why = NOT_SAME
    elif line is None or math.isnan(line.before + line.after):
        why = "not in both results"
    elif asked.relative and not line.before:
        why = "it was 0 before"
    words = {True: "holds", False: "does not hold", None: f"cannot be told: {why}"}[verdict]
    print(
        f"--fail-on {asked.text!r} {words} ({one.before.name}, {one.after.name})", file=sys.stderr
    )
    return int(verdict is True)


def _print(one: "Comparison", to: "Screen") -> None:
    from experiments.reporting.difference_table import STARS, heading_of, text_of
    from experiments.reporting.grid import Grid
    from experiments.reporting.quantities import signed, significant
    from experiments.running.compared import have_same_limits
    from experiments.running.compared_sheet import NO_INTERVAL, PAIRINGS, verdict_of

    to.print(f"{one.after.name} against {one.before.name}: {PAIRINGS[one.pairing]} ({STARS})")
    for key, before, after in one.settings[:MOST_SETTINGS]:
        to.print(f"  {key}: {before} -> {after}")
    if not one.settings:
        to.print("  no setting differs")
    if (more := len(one.settings) - MOST_SETTINGS) > 0:
        to.print(f"  and {count_of(more, 'more setting')}: --report FILE lists all")
    grid = Grid()
    for heading in ("", "before", "after", "difference", "%", ""):
        grid.add_column(heading, whole=True)
    known = True
    for line in one.lines:
        if line.metric not in one.shown or math.isnan(line.before + line.after):
            continue
        heading, factor = heading_of(line.metric)
        found = line.difference
        row = {
            "metric": line.metric, "starred": line.starred, "difference": found.value,
            "difference_lo": found.low, "difference_hi": found.high,
        }  # fmt: skip
        known &= not math.isnan(found.low)
        told = signed(found.value * factor) if math.isnan(found.low) else text_of(row)
        values = (significant(value * factor) for value in (line.before, line.after))
        share = "" if math.isnan(line.relative) else f"{100 * line.relative:+z.1f}"
        grid.add_row(heading, *values, told, share, verdict_of(line))
    to.print(grid)
    if not have_same_limits(one.before, one.after):
        to.print(f"without goodput and SLO: {NOT_SAME}")
    if not known:
        to.print(f"without ±: {NO_INTERVAL}")
    for spread in one.spreads:
        ends = ", ".join(
            f"p{percent} {signed(1e3 * value)}"
            for percent, value in ((10, spread.p10_s), (50, spread.p50_s), (90, spread.p90_s))
        )
        to.print(
            f"{spread.latency.upper()} of {count_of(spread.requests, 'request')}: "
            f"{spread.better:,} better by more than 10%, {spread.worse:,} worse; "
            f"difference of a request (ms): {ends}"
        )
