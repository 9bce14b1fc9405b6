"""``headroom witness``: vLLM's own scheduler beside ours, on the same random scenarios.

Exit status 0: done, nothing differs; 1: something does; 2: something is wrong with an option, the
environment or a release, said in one message.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import Parser, called, fail, run_command
from experiments.study.errors import nearest
from experiments.witness import kept
from experiments.witness.comparison import Tally, blank, compare, name_of, running
from experiments.witness.environment import (
    PACKAGE,
    NoEnvironmentError,
    open_environment,
    set_up,
)
from experiments.witness.features import FEATURES
from experiments.witness.goldens import write
from experiments.witness.served.stages import OtherSettingError
from experiments.witness.table import markdown

NEWEST = "0.32.0"
PARTS = ("served", "cached", "curve")
"""Of what ``serve`` measures: names of files."""
FAULTS = (
    NoEnvironmentError, kept.OtherCodeError, OtherSettingError, OSError, RuntimeError,
    subprocess.CalledProcessError,
)  # fmt: skip
"""Of the user's, or of a release."""
SAVED_EVERY = 25
"""Scenarios after which --out is written: so many are done again after a stop, at most."""


def default_folder() -> Path:
    """Where the environment is, if nobody says otherwise."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "headroom" / "witness"


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    main = Parser(prog=called("witness"), description=__doc__, allow_abbrev=False)
    main.add_argument("--folder", type=Path, default=default_folder(), help="of the environment")
    commands = main.add_subparsers(dest="command", required=True)
    make = commands.add_parser("setup", help="install vLLM, and older releases beside it")
    make.add_argument("--newest", default=NEWEST)
    make.add_argument("others", nargs="*", metavar="VERSION")
    make.add_argument(
        "--package", default=PACKAGE, choices=(PACKAGE, "vllm"),
        help="where other releases come from: vllm has them first, built for GPUs",
    )  # fmt: skip
    lay = commands.add_parser("compare", help="lay schedules beside each other")
    lay.add_argument("versions", nargs="*", metavar="VERSION", help="default: all installed")
    lay.add_argument(
        "--feature", action="append", type=feature, metavar="FEATURE",
        help="such as 'async, prefix cache' (docs/witness.md), as often as wanted; default: all",
    )  # fmt: skip
    lay.add_argument("--first", type=int, default=0)
    lay.add_argument("--count", type=int, default=100, help="scenarios of each feature")
    lay.add_argument("--out", type=Path, help="folder for VERSION.json: what was found; goes on")
    keep = commands.add_parser("goldens", help="write what vLLM made of a few small scenarios")
    keep.add_argument("version", metavar="VERSION")
    keep.add_argument("--each", type=int, default=4, help="scenarios of each feature")
    keep.add_argument("--out", type=Path, required=True, help="folder for VERSION.jsonl")
    serve = commands.add_parser("serve", help="measure the whole server, with a small model")
    serve.add_argument("--out", type=Path, required=True, help="folder for what is measured")
    serve.add_argument(
        "--part", action="append", choices=PARTS,
        help="without a prefix cache, with it, or 1 to 512 streams; default: all",
    )  # fmt: skip
    serve.add_argument("--steps-s", type=float, default=35.0, help="to time steps for, each time")
    serve.add_argument("--run-s", type=float, default=14.0, help="of one run, or point")
    serve.add_argument("--pause", action="store_true", help="wait for Enter once all is started")
    served = commands.add_parser("served", help="what serve measured, beside its prediction")
    served.add_argument("results", type=Path, help="the folder")
    served.add_argument("--out", type=Path, help="CSV file for every figure")
    table = commands.add_parser("table", help="version x feature, of what compare --out wrote")
    table.add_argument("results", type=Path, help="the folder")
    return main


def feature(name: str) -> str:
    """The name, if scenarios can be drawn for it; an error with the nearest one otherwise."""
    if name not in FEATURES:
        expected = nearest(name, list(FEATURES)) or "; docs/witness.md has their names"
        raise argparse.ArgumentTypeError(f"{name!r}: no such feature{expected}")
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """Do it; 0 if nothing differs, 1 if something does, 2 for an error of the user's."""
    return run_command(_command, parser(), argv, "what was found so far is kept in --out")


def _command(options: argparse.Namespace) -> int:
    try:
        if options.command == "setup":
            made = set_up(options.folder, options.newest, options.others, options.package)
            print(f"{made.folder}: vLLM {', '.join(made.versions())}")
            return 0
        if options.command == "table":
            print(markdown(options.results))
            return 0
        if options.command in ("serve", "served"):
            return run_served(options)
        if options.command == "goldens":
            with running(open_environment(options.folder), options.version) as release:
                print(write(release, options.out, options.each))
            return 0
        return run_comparison(options)
    except FAULTS as error:
        return fail(str(error))


def run_served(options: argparse.Namespace) -> int:
    """Print what was measured of a server beside what is predicted; measure it first if asked."""
    if options.command == "served":
        from experiments.witness.served.comparing import pages, table

        print(pages(options.results))
        if options.out:
            table(options.results).to_csv(options.out, index=False, lineterminator="\n", mode="x")
        return 0
    for stop in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: vLLM's processes end with us
        signal.signal(stop, signal.default_int_handler)
    from experiments.witness.served.comparing import pages
    from experiments.witness.served.measuring import measure_curve, measure_server

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def ready() -> None:
        if options.pause:
            input("everything is started: Enter begins to measure")

    made = open_environment(options.folder)
    settings = {"steps_s": options.steps_s, "run_s": options.run_s, "ready": ready, "tell": say}
    for part in options.part or PARTS:
        say(f"{part}: vLLM starts")
        if part == "curve":
            say(str(measure_curve(made, options.out, **settings)))
        else:
            say(str(measure_server(made, options.out, part == "cached", **settings)))
    print(pages(options.out))
    return 0


def run_comparison(options: argparse.Namespace) -> int:
    """Compare versions one after the other, and print what each feature gave."""
    environment = open_environment(options.folder)
    features = options.feature or list(FEATURES)
    different = 0
    for version in options.versions or environment.versions():
        path = options.out and options.out / f"{version}.json"
        found = kept.read(path, options.first) if path else {}
        with running(environment, version) as release:
            for feature in features:
                tally = found.setdefault(feature, blank(release, feature))
                numbers = range(options.first + tally.compared, options.first + options.count)
                for start in range(0, max(len(numbers), 1), SAVED_EVERY):
                    compare(release, feature, numbers[start : start + SAVED_EVERY], tally)
                    if path:
                        kept.write(path, options.first, found)
                name = name_of(version, feature)
                print(f"{version} {feature}: {told(tally, name)}", flush=True)
                different += 0 if name else len(tally.different)
    return int(different > 0)


def told(tally: Tally, name: str) -> str:
    """What one feature gave, and the first scenarios that differ."""
    if tally.lacks:
        return f"no {tally.lacks} yet"
    lines = [
        f"{tally.compared} compared, {tally.preempted} with preemption, "
        f"{len(tally.different)} different{': ' * bool(name)}{name}",
        *tally.different[:5],
    ]
    return "\n    ".join(lines)
