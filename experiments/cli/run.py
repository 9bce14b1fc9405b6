"""``headroom run STUDY``: check a study, run it, leave a results folder behind.

Results go to stdout, everything else to stderr. Exit status 0: done; 1: --fail-on-slo, and a point
does not keep it; 2: something is wrong with the study, an option or the machine, said in one
message; 130: interrupted, finished runs are kept.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, called, fail, run_command, whole_number
from experiments.cli.executors import add_run_options, executor_fault, executor_of
from experiments.cli.listing import print_studies
from experiments.reporting.formats import FORMATS, written

if TYPE_CHECKING:
    from experiments.running.results import Outcome, Progress
    from experiments.study.document import Loaded
    from experiments.study.points import Plan

EXAMPLES = """examples:
  %(prog)s batching_sweep
  %(prog)s batching_sweep --dry-run
  %(prog)s batching_sweep --set engine.block_size=32 --out results/blocks
  %(prog)s batching_sweep --set workload.trace=trace.csv --out results/trace
  %(prog)s my_study.yaml --jobs 8 --seeds 5 --out results/more
  %(prog)s my_study.yaml --plugin my_policy.py
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    kept = "finished runs are kept, run the same command to go on"
    return run_command(_command, _parser(), argv, kept)


def _command(options: argparse.Namespace) -> int:
    if options.list:
        return print_studies()
    if options.study is None:
        return fail("expected a study: a path, or a name that --list shows")
    if fault := executor_fault(options):
        return fail(fault)
    return _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=called("run"),
        description="Simulate LLM serving: run every point of a study and tabulate the results.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a YAML file, or a bundled study")
    add_run_options(parser)
    parser.add_argument("--seeds", type=whole_number, metavar="N", help="runs of every point")
    parser.add_argument("--list", action="store_true", help="list the bundled studies and stop")
    parser.add_argument(
        "--no-figures", action="store_true",
        help="write tables and report, draw no pictures",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=FORMATS, default="table",
        help="of what is printed: a table for people, or all of summary.csv for programs",
    )  # fmt: skip
    parser.add_argument(
        "--why", action="store_true",
        help="print what the p99 of TTFT and E2E is made of, and what limits the engine",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on-slo", action="store_true",
        help="exit status 1 unless every point keeps the slo; undecided is not kept",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="check everything, print points, memory and ceilings, simulate nothing",
    )  # fmt: skip
    return parser


def _run(options: argparse.Namespace) -> int:
    from experiments.study.errors import RunError, StudyError
    from experiments.study.plugins import allowed, read_plugins

    try:
        with allowed(read_plugins(options.plugins)):
            return _run_study(options)
    except StudyError as error:
        return fail(str(error))
    except RunError as error:
        return fail(f"{error}; finished runs are kept, run the same command to go on")


def _run_study(options: argparse.Namespace) -> int:
    from experiments.cli.kinds import run_other
    from experiments.cli.search import run_search
    from experiments.study.kinds import SEARCHES, kind_of

    loaded = _read(options)
    kind = kind_of(loaded)
    if kind != "serving" and options.why:
        return fail(f"--why is for studies of kind serving, this one is of kind {kind}")
    if kind in SEARCHES:
        return run_search(loaded, options)
    if kind != "serving":
        if options.executor != "local":
            return fail(f"--executor {options.executor} is for studies of kind serving")
        for option in ("format", "fail_on_slo"):
            if getattr(options, option) not in ("table", False):
                return fail(
                    f"--{option.replace('_', '-')} is for studies of kind serving, plan and "
                    f"capacity, this one is of kind {kind}"
                )
        return run_other(loaded, options.out, options.dry_run, options.overwrite)
    plan = _plan(loaded)
    if options.fail_on_slo and any(point.study.slo is None for point in plan.points):
        return fail("--fail-on-slo needs an slo at every point")
    _say(plan.notes)
    if options.dry_run:
        return _dry_run(plan)
    return _simulate(plan, options)


def _read(options: argparse.Namespace) -> "Loaded":
    from experiments.study.document import read_raw
    from experiments.study.overrides import parse_overrides

    settings = [*options.settings]
    if options.seeds is not None:
        settings.append(f"seeds={options.seeds}")
    return read_raw(options.study, parse_overrides(settings))


def _plan(loaded: "Loaded") -> "Plan":
    from experiments.study.points import prepare

    return prepare(loaded)


def _dry_run(plan: "Plan") -> int:
    from experiments.reporting import table
    from experiments.reporting.terminal import screen

    to = screen(sys.stdout)
    table.print_points(plan, to)
    table.print_settings(plan, to)
    table.print_ledgers(plan, to)
    table.print_ceilings(plan, to)
    table.print_price_notes(plan, to)
    return 0


def _simulate(plan: "Plan", options: argparse.Namespace) -> int:
    from experiments.reporting import table
    from experiments.reporting.difference_table import print_differences
    from experiments.reporting.terminal import screen
    from experiments.reporting.why import why_lines
    from experiments.running.folder import chosen_folder
    from experiments.running.results import run_plan

    out = chosen_folder(options.out, plan.study.name)
    to = screen(sys.stdout)
    for_people = options.format == "table"
    with executor_of(options) as executor:
        outcome = run_plan(
            plan, out, executor=executor, progress=_progress(),
            before=partial(table.print_ceilings, plan, to) if for_people else None,
            overwrite=options.overwrite, figures=not options.no_figures,
        )  # fmt: skip
    if for_people:
        table.print_summary(plan, outcome.tables.summary, to)
        if outcome.tables.pools is not None:
            from experiments.reporting.pool_table import print_pools

            print_pools(plan, outcome.tables.pools, to)
        print_differences(plan, outcome.tables.differences, outcome.tables.summary, to)
    else:
        print(written(outcome.tables.summary, options.format), end="")
    if options.why:
        lines = why_lines(outcome.tables.parts, outcome.tables.summary)
        to.print("\n".join(lines)) if for_people else _say(lines)
    _say([_ending(plan, outcome, out)])
    return _status(outcome) if options.fail_on_slo else 0


def _status(outcome: "Outcome") -> int:
    """Exit status of --fail-on-slo, and which points are to blame."""
    from experiments.reporting.verdict import MISSED, UNDECIDED
    from experiments.reporting.words import points_text

    verdicts = dict(
        zip(outcome.tables.summary["point"], outcome.tables.summary["slo_verdict"], strict=True)
    )
    status = 0
    for word in (MISSED, UNDECIDED):
        points = [number for number, verdict in verdicts.items() if verdict == word]
        if points:
            status = 1
            _say([f"slo: {word} at {points_text(points)}"])
    return status


def _ending(plan: "Plan", outcome: "Outcome", out: Path) -> str:
    from model.counts import count_of

    resumed = f", {outcome.resumed} of them from an interrupted call" if outcome.resumed else ""
    return f"{count_of(plan.runs, 'run')}{resumed}, {outcome.wall_s:.1f} s; results are in {out}"


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _progress() -> "Progress":
    """A bar on stderr when a person watches, one line per call otherwise."""
    if sys.stderr.isatty():
        from experiments.running.progress_bar import Bar

        return Bar()
    from experiments.running.progress import Lines

    return Lines()
