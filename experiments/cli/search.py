"""What the commands of searches have in common: ``headroom capacity``, ``plan``, and ``run``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from experiments.cli.command import Parser, called, fail
from experiments.cli.executors import add_run_options, executor_fault, executor_of
from experiments.reporting.formats import FORMATS, written
from experiments.reporting.terminal import wrapped
from experiments.study.document import Loaded

if TYPE_CHECKING:
    from experiments.planning.progress import SearchProgress

NOTE = "note: "
Changes = Callable[[dict[str, Any]], Sequence[str]]

INDENT = len("answer   ")
"""Of what a narrow terminal moves to the next line: below what follows the word that begins it."""


def search_parser(kind: str, about: str, fails: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the study, and the options of every search.

    Args:
        kind: of the search, and the command's name.
        about: what it does.
        fails: when ``--fail-on-slo`` ends with status 1.
        examples: below the options.
    """
    parser = Parser(
        prog=called(kind), description=about, epilog=examples, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("study", metavar="STUDY", help="a YAML file, or a bundled study")
    add_run_options(parser)
    parser.add_argument(
        "--no-figures", action="store_true", help="write tables and report, draw no pictures"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table",
        help=f"of what is printed: sentences for people, or all of {kind}.csv for programs",
    )  # fmt: skip
    parser.add_argument("--fail-on-slo", action="store_true", help=fails)
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, say what it would cost, stop"
    )
    return parser


def search_command(options: argparse.Namespace, kind: str, changes: Changes) -> int:
    """Read a study, make it one of a kind, and search.

    Args:
        options: of ``search_parser``.
        kind: of the search; a study of serving becomes one.
        changes: puts what other options say into the raw study, and returns what a person should
            know of that.
    """
    from experiments.study.errors import RunError, StudyError
    from experiments.study.plugins import allowed, read_plugins

    if fault := executor_fault(options):
        return fail(fault)
    try:
        with allowed(read_plugins(options.plugins)):
            return _search(options, kind, changes)
    except StudyError as error:
        return fail(str(error))
    except RunError as error:
        return fail(f"{error}; finished runs are kept, run the same command to go on")


def _search(options: argparse.Namespace, kind: str, changes: Changes) -> int:
    from experiments.study.document import read_raw
    from experiments.study.kinds import kind_of
    from experiments.study.overrides import parse_overrides

    loaded = read_raw(options.study, parse_overrides(options.settings))
    found = kind_of(loaded)
    if found not in ("serving", kind):
        return fail(f"study {options.study} is of kind {found}, expected {kind} or serving")
    raw = {**loaded.raw, "kind": kind}
    if found == "serving":
        raw["name"] = f"{raw['name']}_{kind}"
    notes = [*loaded.notes, *changes(raw)]
    return run_search(replace(loaded, raw=raw, notes=notes), options)


def run_search(loaded: Loaded, options: argparse.Namespace) -> int:
    """Run a search of any kind; return the exit status.

    Raises:
        StudyError: a mistake in the study, or results that cannot be put in their folder.
        RunError: it ended early; finished runs are kept.
    """
    from experiments.planning.kinds import search_of
    from experiments.reporting.records import Records
    from experiments.running.folder import chosen_folder

    search = search_of(loaded)
    _say(search.notes)
    if options.dry_run:
        _tell(search.dry_run())
        return 0
    out = chosen_folder(options.out, search.name)
    with executor_of(options) as executor:
        found = search.run(
            out, executor=executor, progress=_progress(), overwrite=options.overwrite,
            figures=not options.no_figures,
        )  # fmt: skip
    if options.format == "table":
        _tell(found.answer)
    else:
        table = Records.of_frame(found.tables()[search.study.kind])
        print(written(table, options.format), end="")
        _say([line for line in found.answer if line.startswith(NOTE)])
    _say([*found.notes, f"results are in {out}"])
    return int(options.fail_on_slo and not found.is_kept)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        print(wrapped(line, sys.stdout, INDENT))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        print(wrapped(line, sys.stderr), file=sys.stderr)


def _progress() -> "SearchProgress":
    """A bar on stderr when a person watches, a line now and then otherwise."""
    from experiments.planning.progress import Bar, Lines

    return Bar() if sys.stderr.isatty() else Lines()
