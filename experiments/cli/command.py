"""What every command has in common: how it ends when something is wrong.

Exit status 0: done; 2: something is wrong with the input, an option or the machine, said in one
message; 130: interrupted.
"""

import argparse
import atexit
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from experiments.reporting.terminal import guarded, prepare_process

MOST_PROCESSES = 1024
"""That one command starts on one machine."""
OPTIONAL = {"torch": "torch", "safetensors": "torch", "distributed": "dask"}
"""Packages that a plain installation leaves out, and the extra that brings each."""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, and whose help has no marks of docstrings."""

    def format_help(self) -> str:
        """Return what ``--help`` prints."""
        return super().format_help().replace("``", "")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with an option, and end with status 2."""
        if unknown := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            from model.nearest import closest

            near = closest(unknown[1], self._option_string_actions)
            message += f"; did you mean {near}?" if near else ""
        self.exit(2, f"error: {message}; --help shows the options\n")


class MixedParser(Parser):
    """A parser whose options may stand before, between and behind its words."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Read a command line."""
        return self.parse_intermixed_args(args, namespace)


def called(command: str) -> str:
    """Return how this process is told to do what a command does, for its help."""
    own = Path(sys.argv[0]).stem
    return f"headroom {command}" if own == "headroom" else f"python -m experiments {command}"


def whole_number(text: str, least: int = 1, most: int = 10**9) -> int:
    """Read an option that counts something. Raises ArgumentTypeError."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if number < least:
        raise argparse.ArgumentTypeError(
            f"{_cut(text)!r}, expected a whole number of at least {least}"
        )
    if number > most:
        raise argparse.ArgumentTypeError(f"{_cut(text)!r}, expected at most {most}")
    return number


def between(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number within bounds, both included."""
    return lambda text: whole_number(text, least, most)


def processes(text: str) -> int:
    """Read how many processes may be used. Raises ArgumentTypeError."""
    return whole_number(text, 1, MOST_PROCESSES)


def seconds(text: str) -> float:
    """Read a time above 0, of a day at most. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(
            f"{_cut(text)!r}, expected seconds: more than 0, at most 86,400"
        )
    return value


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def run_command(
    body: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    interrupted: str,
) -> int:
    """Read the options, do what a command does, and return its exit status.

    Args:
        body: gets the options; it answers for what is wrong with them and their files. Memory that
            runs out, files and folders that fail on the way, and Ctrl-C are one message here.
        parser: of the options.
        argv: words of the command line; None for those of the process.
        interrupted: what becomes of the work when somebody presses Ctrl-C.
    """
    try:
        with guarded():
            return _ended(body, parser, argv, interrupted)
    except OSError as error:
        return fail(f"standard output cannot be written: {error.strerror}")


def _ended(
    body: Callable[[argparse.Namespace], int],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    interrupted: str,
) -> int:
    try:
        return body(parser.parse_args(argv))
    except SystemExit as stop:  # of the parser
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print(f"interrupted; {interrupted}", file=sys.stderr)
        return 130
    except MemoryError:
        pass
    except ModuleNotFoundError as error:
        return missing(error)
    except (ImportError, RuntimeError) as error:
        if not _for_want_of_memory(error):
            raise
    except OSError as error:
        return fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    # Only now is what the traceback held free again.
    return fail(
        "out of memory: make the study smaller (workload.num_requests or duration_s, the trace, "
        "engine.max_num_batched_tokens, cluster.replicas), or run fewer at a time with --jobs"
    )


def missing(error: ModuleNotFoundError) -> int:
    """Say how to get a package that is not installed; return the exit status for it.

    Raises:
        ModuleNotFoundError: the same, where a module of this project is meant.
    """
    package = (error.name or "").partition(".")[0]
    if not package or (Path(__file__).parents[2] / package).is_dir():
        raise error
    if extra := OPTIONAL.get(package):
        return fail(f"this needs {package}: pip install -e '.[{extra}]' in a checkout")
    return fail(
        f"{package} is not installed for {sys.executable}: use the .venv that make quick makes "
        "(source .venv/bin/activate), or pip install . in the checkout"
    )


def _for_want_of_memory(error: Exception) -> bool:
    """Whether a library says in its own way that memory ran out."""
    text = str(error).lower()
    return any(words in text for words in ("failed to map", "allocate memory", "out of memory"))


def fail(message: str) -> int:
    """Say what is wrong; return the exit status for it."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def start(main: Callable[[], int]) -> NoReturn:
    """Run a command as the whole of this process, and end with its exit status.

    What Python does at the very end is left out: to take apart every module and all that was made,
    whose memory is free in a moment anyway.
    """
    ended: list[int] = []
    atexit.register(_leave, ended)  # first here: the last that is called
    prepare_process()
    ended.append(main())
    sys.exit(ended[0])


def _leave(ended: list[int]) -> None:
    """Leave at once with the exit status that a command returned; whatever it raised is told."""
    if ended:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        os._exit(ended[0])
