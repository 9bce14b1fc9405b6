"""Where text leaves for a terminal, a pipe or nowhere: the only place that writes to any of them.

What a user's file calls a GPU may hold control characters, the encoding may be ASCII, the stream
may be closed, its reader gone or its disk full. Commands write with ``print`` all the same, inside
``guarded``; tables go to a ``screen``, bars to a ``console``.
"""

import codecs
import gc
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from experiments.reporting.signs import SPELT, printable

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.reporting.grid import Grid

PIPED_WIDTH = 10_000
"""Columns of a console that is no terminal: nothing is cut or wrapped."""
NARROWEST = 20
"""Columns below which a table is no longer one; a terminal that says less is not believed."""
PLAINER = "headroom.plainer"
"""Name of the way to write what an encoding lacks."""


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Replace a sign that an encoding lacks: by one that says the same, or by its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    return SPELT.get(sign) or sign.encode("ascii", "backslashreplace").decode(), error.start + 1


codecs.register_error(PLAINER, _plainer)


class Stream:
    """A text stream that can always be written to."""

    def __init__(self, inner: TextIO | None, *, filtered: bool = True) -> None:
        self.inner = inner
        self.filtered = filtered
        self.failure: OSError | None = None
        self.told: Stream | None = None
        """Who has to know of a failure, too."""

    @property
    def encoding(self) -> str:
        """Of what is written."""
        return getattr(self.inner, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person may be looking."""
        with suppress(ValueError):
            return self.inner is not None and self.inner.isatty()
        return False

    def write(self, text: str) -> int:
        """Write what the stream can hold; nothing more once it has failed."""
        shown = printable(text) if self.filtered else text
        try:
            shown.encode(self.encoding)
        except UnicodeEncodeError:
            shown = shown.encode(self.encoding, PLAINER).decode(self.encoding)
        self._try(lambda inner: inner.write(shown))
        return len(text)

    def flush(self) -> None:
        """Hand on what is held back."""
        self._try(lambda inner: inner.flush())

    def unfiltered(self) -> "Stream":
        """Return the same stream for somebody who has to steer the terminal."""
        plain = Stream(self.inner, filtered=False)
        plain.told = self
        return plain

    def _try(self, do: Callable[[TextIO], object]) -> None:
        if self.inner is None or self.failure is not None:
            return
        try:
            do(self.inner)
        except ValueError:  # closed
            self.inner = None
        except OSError as error:
            self.failure = error
            if self.told is not None:
                self.told.failure = error
            _discard(self.inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _discard(stream: TextIO) -> None:
    """Send what a stream still holds nowhere: it would fail again when the process ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def guarded() -> Iterator[None]:
    """Let ``print`` inside the block succeed, whatever became of stdout and stderr.

    A reader that has gone away (``| head``) is no fault. Any other failure is raised at the end,
    when everything else has been done.

    Raises:
        OSError: stdout could not be written to.
    """
    before = sys.stdout, sys.stderr
    out, err = Stream(before[0]), Stream(before[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
    if out.failure is not None and not isinstance(out.failure, BrokenPipeError):
        raise out.failure


class Screen(Protocol):
    """Shows texts and tables."""

    @property
    def width(self) -> int:
        """How many characters have room in a line."""

    def print(self, what: "str | Grid", /) -> None:
        """Show a text or a table."""


class Pipe:
    """A screen that is no terminal: nothing is cut, wrapped or coloured."""

    width = PIPED_WIDTH

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def print(self, what: "str | Grid", /) -> None:
        """Write a text or a table."""
        if not isinstance(what, str):
            from experiments.reporting.grid import ASCII, HEAVY_HEAD

            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            box = HEAVY_HEAD if encoding.lower().startswith("utf") else ASCII
            what = "\n".join(what.lines(box))
        self._stream.write(printable(what) + "\n")
        self._stream.flush()


def screen(stream: TextIO) -> Screen:
    """Return what shows texts and tables: a rich console if a person may be looking."""
    return console(stream) if stream.isatty() else Pipe(stream)


def console(stream: TextIO, **options: Any) -> "Console":
    """Return a rich console: as wide as the terminal, or wide enough for anything in a pipe."""
    from rich.console import Console

    class Printable(Console):
        def render_str(self, text: str, **more: Any) -> Any:
            return super().render_str(printable(text), **more)

    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
    inner: Any = stream.unfiltered() if isinstance(stream, Stream) else stream
    if not stream.isatty():
        return Printable(file=inner, width=PIPED_WIDTH, color_system=None, **plain, **options)
    made = Printable(file=inner, **plain, **options)
    if made.width < NARROWEST:
        made.width = NARROWEST
    return made


def wrapped(text: str, stream: TextIO, indent: int = 0) -> str:
    """Return a line as it fits a terminal: broken between words, what follows indented.

    For a pipe or a file it stays one line. A word that is longer than the terminal is not cut.
    """
    if not stream.isatty():
        return text
    return textwrap.fill(
        text, console(stream).width, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def prepare_process() -> None:
    """Make this process one that runs a command, before anything else is loaded.

    Linear algebra keeps to one thread: the cores are busy with runs already, and a sum that is
    split over threads is rounded differently for every number of them, so that tables would depend
    on the machine. Figures are drawn into files, whatever display the user prefers. No plug-in of
    pydantic is looked for among all packages of the environment: what a study says is checked by
    this code alone.

    What modules make while they load stays: 240,000 objects, pictures included. To look through
    them for garbage again and again takes a tenth of a short study.
    """
    gc.set_threshold(300_000, 20, 20)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    os.environ["MPLBACKEND"] = "agg"  # a name that it does not know would end matplotlib
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
