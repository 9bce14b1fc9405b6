"""``headroom trace STUDY --point N``: a stretch of one run as a Chrome trace, for Perfetto."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, between, called, fail, run_command, whole_number
from experiments.cli.executors import add_plugins
from model.counts import count_of

if TYPE_CHECKING:
    from experiments.study.points import Point

EXAMPLES = """examples:
  %(prog)s batching_sweep --point 3
  %(prog)s batching_sweep --point 14 --from 60 --to 70 --out step.json
"""
STRETCH_S = 30.0
SERVING = "serving"
"""The kind of study whose runs have steps."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    return run_command(_command, _parser(), argv, "nothing was written")


def _time(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e10:
        raise argparse.ArgumentTypeError(f"{text!r}, expected seconds of simulated time, from 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=called("trace"),
        description="Write steps, requests and KV blocks of a stretch of a run as a Chrome trace: "
        "open it at ui.perfetto.dev or chrome://tracing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", metavar="STUDY", help="a YAML file, or a bundled study")
    parser.add_argument("--point", type=whole_number, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--seed", type=between(0, 2**62), metavar="N", help="default: the first of the study"
    )
    parser.add_argument(
        "--from", type=_time, default=0.0, dest="start_s", metavar="S",
        help="begin at this simulated time, seconds (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--to", type=_time, dest="stop_s", metavar="S",
        help=f"end there (default: {STRETCH_S:g} s later)",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="set a dotted key to a YAML value",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="default: NAME-pointN.trace.json")
    add_plugins(parser)
    return parser


def _command(options: argparse.Namespace) -> int:
    from experiments.study.errors import StudyError
    from experiments.study.plugins import allowed, read_plugins

    try:
        with allowed(read_plugins(options.plugins)):
            return _trace(options)
    except StudyError as error:
        return fail(str(error))


def _trace(options: argparse.Namespace) -> int:
    """Write the trace. Raises StudyError."""
    from experiments.study.document import read_raw
    from experiments.study.kinds import kind_of
    from experiments.study.overrides import parse_overrides
    from experiments.study.points import prepare

    stop_s = options.start_s + STRETCH_S if options.stop_s is None else options.stop_s
    if stop_s <= options.start_s:
        return fail(f"--to {stop_s:g} is not after --from {options.start_s:g}")
    loaded = read_raw(options.study, parse_overrides(options.settings))
    if (kind := kind_of(loaded)) != SERVING:
        hint = ", such as the winner.yaml that it leaves" if kind == "plan" else ""
        return fail(f"study {options.study} is of kind {kind}, expected {SERVING}{hint}")
    plan = prepare(loaded)
    if options.point > len(plan.points):
        return fail(f"--point {options.point}: expected a point from 1 to {len(plan.points)}")
    point = plan.points[options.point - 1]
    out = Path(options.out or f"{plan.study.name}-point{point.number}.trace.json")
    try:
        count = _write(point, options.seed, options.start_s, stop_s, out)
    except FileExistsError:
        return fail(f"--out {out} is there already; move it away, or choose another")
    except ValueError as error:
        return fail(str(error))
    stretch = f"{options.start_s:g} to {stop_s:g} s"
    print(f"{out} holds {count_of(count, 'event')} of {stretch}", file=sys.stderr)
    return 0


def _write(point: "Point", seed: int | None, start_s: float, stop_s: float, out: Path) -> int:
    """Simulate until the stretch has ended and write it.

    Raises:
        FileExistsError: there is something already.
        ValueError: the run ends before the stretch begins.
    """
    import numpy as np

    from experiments.running.chrome_trace import write_trace
    from experiments.study.build import scenario_of
    from experiments.study.grid import Setting
    from experiments.study.requests import requests_of, stop_of
    from sim.simulation import simulate

    chosen = point.seeds[0] if seed is None else seed
    scenario = scenario_of(point.study, chosen)
    if os.path.lexists(out):
        raise FileExistsError(out)
    until_s = min(stop_of(point.study), stop_s)
    result = simulate(scenario, requests_of(point.study, chosen), until_s)
    last_s = float(np.max(result.segments["end_s"], initial=0.0))
    if last_s < start_s:
        raise ValueError(f"--from {start_s:g}: the last step ends at {last_s:.4g} s")
    about = f"point {point.number} ({Setting(point.values, {}).label()}), seed {chosen}"
    with out.open("x", encoding="utf-8", newline="\n") as file:
        try:
            return write_trace(result, start_s, stop_s, about, file)
        except BaseException:
            out.unlink()  # half of a trace is none
            raise
