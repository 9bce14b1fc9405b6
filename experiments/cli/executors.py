"""Options of every command that simulates: what to set, where results go, and who simulates."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from experiments.cli.command import processes

if TYPE_CHECKING:
    from experiments.running.sweep import Executor


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add them to a command's parser."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="set a dotted key to a YAML value; a key that is set is not swept",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", help="results folder (default: results/NAME)")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace results of ours that are of other settings; files of yours never are",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=processes, metavar="N", help="processes (default: all cores)"
    )
    parser.add_argument(
        "--executor", choices=("local", "dask"), default="local",
        help="who simulates: this machine, or a dask.distributed cluster (default: local)",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler-address", metavar="HOST:PORT", help="the scheduler of --executor dask"
    )
    add_plugins(parser)


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Add the option that names modules whose classes a study may name."""
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py|MODULE", dest="plugins",
        help="let the study name classes of this module, and run its code; may be repeated",
    )  # fmt: skip


def executor_fault(options: argparse.Namespace) -> str:
    """What is wrong with the options that say where runs go; nothing is an empty text."""
    if options.executor == "local":
        given = options.scheduler_address
        return f"--scheduler-address {given} is for --executor dask" if given else ""
    if not options.scheduler_address:
        return "--executor dask needs --scheduler-address HOST:PORT, as dask scheduler prints it"
    if options.jobs:
        return f"--jobs {options.jobs} is for --executor local; on a cluster its workers decide"
    return ""


@contextmanager
def executor_of(options: argparse.Namespace) -> "Iterator[Executor]":
    """Who simulates, as the options say."""
    if options.executor == "dask":
        from experiments.running.cluster import connected

        with connected(options.scheduler_address) as cluster:
            yield cluster
    else:
        from experiments.running.local import Local, default_jobs

        yield Local(options.jobs or default_jobs())
