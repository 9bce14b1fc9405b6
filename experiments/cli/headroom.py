"""``headroom COMMAND``: every command of this project by one name; ``python -m experiments``, too.

Nothing of a command is imported before it is asked for.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from experiments.cli.command import Parser, fail, missing, run_command, start

COMMANDS = {
    "run": "run a study: simulate every point, leave tables, pictures and a report",
    "plan": "the cheapest deployment that keeps the SLO at a risk, and why not the others",
    "capacity": "the highest rate (users, lengths, any key) that keeps the SLO, with its interval",
    "compare": "compare two results, paired by seed and request",
    "trace": "write a stretch of a run as a Chrome trace, for Perfetto",
    "explore": "a live page on this machine: turn knobs, see what becomes of it",
    "gallery": "run the studies that come with headroom, and write a page of their reports",
    "list": "list the studies that come with headroom",
    "schema": "print the JSON Schema of a study file, for editors",
    "validate": "predict measured runs of real engines, and compare",
    "calibrate": "measure a real decoder, or fit tables of kernel times, for prices",
    "fit": "fit the constants of an engine to measured runs",
    "check": "check schedulers, orders and routers of your own against the rules",
    "witness": "lay vLLM's own scheduler beside ours, release by release",
    "reference": "write the pages of docs/ that repeat what the code says",
}
"""Command to what it does; each is the ``main`` of a module of this package."""

MODULES = {"list": "listing", "schema": "study_schema"}
"""Where a module is not named as its command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names, and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words and words[0] in COMMANDS:
        try:
            module = import_module(f"experiments.cli.{MODULES.get(words[0], words[0])}")
        except ModuleNotFoundError as error:
            return missing(error)
        status: int = module.main(words[1:])
        return status
    if words and not words[0].startswith("-"):
        return _unknown(words[0])
    return run_command(_command, _parser(), words, "nothing was done")


def begin(*command: str) -> NoReturn:
    """Be the whole of this process; ``command`` goes before the words of its command line."""
    start(lambda: main([*command, *sys.argv[1:]]))


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<11}{about}" for name, about in COMMANDS.items())
    parser = Parser(
        prog="headroom",
        description="Simulates LLM serving: how many GPUs, which, and with what settings.",
        epilog=f"commands:\n{listed}\n\nheadroom COMMAND --help shows the options of a command",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="one of those below")
    parser.add_argument(
        "--version", action="store_true", help="print versions, and whether the engine is compiled"
    )
    return parser


def _command(options: argparse.Namespace) -> int:
    if options.version:
        print(_versions())
        return 0
    _parser().print_help()
    return 0


def _unknown(word: str) -> int:
    from experiments.study.errors import show
    from model.errors import one_of

    return fail(f"command {show(word)}: {one_of(word, tuple(COMMANDS))}")


def _versions() -> str:
    from experiments.running.versions import machine, versions

    found = versions()
    own = f"headroom {found.pop('headroom')}, engine: {machine()['engine']}"
    return "\n".join((own, ", ".join(f"{name} {version}" for name, version in found.items())))
