"""``python -m experiments.run STUDY``: check a study, run it, leave a results folder behind.

Results go to stdout, everything else to stderr. Exit status 0: done; 2: something is wrong with the
study, an option or the machine, said in one message; 130: interrupted, finished runs are kept.
"""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from experiments.plan import Plan
    from experiments.results import Outcome, Progress
    from experiments.study import Loaded
    from experiments.sweep import Executor

EXAMPLES = """examples:
  python -m experiments.run batching_sweep
  python -m experiments.run batching_sweep --dry-run
  python -m experiments.run batching_sweep --set engine.block_size=32 --out results/blocks
  python -m experiments.run batching_sweep --set workload.trace=trace.csv --out results/trace
  python -m experiments.run my_study.yaml --jobs 8 --seeds 5 --out results/more
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    if options.study is None and not options.list:
        return _fail("expected a study: a path, or a name that --list shows")
    if fault := _executor_fault(options):
        return _fail(fault)
    try:
        return _list() if options.list else _run(options)
    except KeyboardInterrupt:
        print("interrupted; finished runs are kept, run the same command to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away, which is its right
        return 141


def _executor_fault(options: argparse.Namespace) -> str:
    """What is wrong with the options that say where runs go; nothing is an empty text."""
    if options.executor == "local":
        given = options.scheduler_address
        return f"--scheduler-address {given} is for --executor dask" if given else ""
    if not options.scheduler_address:
        return "--executor dask needs --scheduler-address HOST:PORT, as dask scheduler prints it"
    if options.jobs:
        return f"--jobs {options.jobs} is for --executor local; on a cluster its workers decide"
    return ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; --help shows the options\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m experiments.run",
        description="Simulate LLM serving: run every point of a study and tabulate the results.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("study", nargs="?", metavar="STUDY", help="a YAML file, or a bundled study")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="set a dotted key to a YAML value; a key that is set is not swept",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="results folder (default: results/NAME)")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace results of ours that are of other settings; files of yours never are",
    )  # fmt: skip
    parser.add_argument("--jobs", type=_count, metavar="N", help="processes (default: all cores)")
    parser.add_argument(
        "--executor", choices=("local", "dask"), default="local",
        help="who simulates: this machine, or a dask.distributed cluster (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler-address", metavar="HOST:PORT", help="the scheduler of --executor dask"
    )
    parser.add_argument("--seeds", type=_count, metavar="N", help="runs of every point")
    parser.add_argument("--list", action="store_true", help="list the bundled studies and stop")
    parser.add_argument(
        "--dry-run", action="store_true",
        help="check everything, print points, memory and ceilings, simulate nothing",
    )  # fmt: skip
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number of at least 1")
    return int(text)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _list() -> int:
    from experiments.bundled import bundled_studies
    from experiments.yaml_source import parse_yaml

    for name, path in bundled_studies().items():
        data = parse_yaml(path.read_text(encoding="utf-8"), path.name).data
        about = data.get("description", "") if isinstance(data, dict) else ""
        print(f"{name:<28} {' '.join(str(about).split())}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from experiments.errors import RunError, StudyError
    from experiments.kinds import kind_of, run_other

    try:
        loaded = _read(options)
        if kind_of(loaded) != "serving":
            if options.executor != "local":
                return _fail(f"--executor {options.executor} is for studies of kind serving")
            return run_other(loaded, options.out, options.dry_run, options.overwrite)
        plan = _plan(loaded)
        _say(plan.notes)
        if options.dry_run:
            return _dry_run(plan)
        return _simulate(plan, options)
    except StudyError as error:
        return _fail(str(error))
    except RunError as error:
        return _fail(f"{error}; finished runs are kept, run the same command to go on")


def _read(options: argparse.Namespace) -> "Loaded":
    from experiments.overrides import parse_overrides
    from experiments.study import read_raw

    settings = [*options.settings]
    if options.seeds is not None:
        settings.append(f"seeds={options.seeds}")
    return read_raw(options.study, parse_overrides(settings))


def _plan(loaded: "Loaded") -> "Plan":
    from experiments.plan import prepare

    return prepare(loaded)


def _dry_run(plan: "Plan") -> int:
    from experiments import table

    to = table.console(sys.stdout)
    table.print_points(plan, to)
    table.print_ledgers(plan, to)
    table.print_ceilings(plan, to)
    return 0


def _simulate(plan: "Plan", options: argparse.Namespace) -> int:
    from experiments import table
    from experiments.folder import chosen_folder
    from experiments.results import run_plan

    out = chosen_folder(options.out, plan.study.name)
    to = table.console(sys.stdout)
    with _executor(options) as executor:
        outcome = run_plan(
            plan, out, executor=executor, progress=_progress(),
            before=lambda: table.print_ceilings(plan, to), overwrite=options.overwrite,
        )  # fmt: skip
    table.print_summary(plan, outcome.summary, to)
    _say([_ending(plan, outcome, out)])
    return 0


@contextmanager
def _executor(options: argparse.Namespace) -> "Iterator[Executor]":
    """Who simulates, as the options say."""
    if options.executor == "dask":
        from experiments.cluster import connected

        with connected(options.scheduler_address) as cluster:
            yield cluster
    else:
        from experiments.local import Local, default_jobs

        yield Local(options.jobs or default_jobs())


def _ending(plan: "Plan", outcome: "Outcome", out: Path) -> str:
    resumed = f", {outcome.resumed} of them from an interrupted call" if outcome.resumed else ""
    return f"{plan.runs} runs{resumed}, {outcome.wall_s:.1f} s; results are in {out}"


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _progress() -> "Progress":
    """A bar on stderr when a person watches, one line per call otherwise."""
    from experiments.progress import Bar, Lines

    return Bar() if sys.stderr.isatty() else Lines()


def _one_thread_per_process() -> None:
    """Keep linear algebra to one thread, before numpy is loaded.

    The cores are busy with runs already; and a sum that is split over threads is rounded
    differently for every number of them, so tables would depend on the machine.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


if __name__ == "__main__":
    # What modules make while they load stays. To look through it for garbage again and again, and
    # once more at the end, takes a third of a short study.
    gc.set_threshold(100_000, 20, 20)
    _one_thread_per_process()
    status = main()
    gc.freeze()
    sys.exit(status)
