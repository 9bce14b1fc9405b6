"""What a trace format is: which columns of a table, or keys of a JSON record, hold what."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

TimeUnit = Literal["s", "ms", "us", "ns", "date", "date or s", "date or given"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A column that tells which requests had no answer; those rows are left out."""

    column: str
    sound: tuple[object, ...]
    """Values of an answered request; a missing column or null is one as well."""
    reason: str = "failed requests"


@dataclass(frozen=True, slots=True)
class Linked:
    """Columns that may be there, and then say which requests are turns of a session.

    Either every row names its session, whose rows follow each other; or rows have names, and say
    after which others they come.
    """

    session: str | None = None
    own: str | None = None
    """A name of the row."""
    before: str | None = None
    """Names of the rows that it waits for: one, or several."""
    gap: str | None = None
    """Time between the last of their answers and this request."""
    gap_unit: TimeUnit = "s"
    took: str | None = None
    """Time that the answer took, from its request."""
    took_unit: TimeUnit = "s"
    adds: bool = False
    """Whether a turn's prompt tokens are those that it adds to all that was said before it."""

    def columns(self) -> tuple[str, ...]:
        """Return all of their names."""
        names = (self.session, self.own, self.before, self.gap, self.took)
        return tuple(name for name in names if name is not None)

    def told_by(self, names: Collection[str]) -> bool:
        """Tell whether a file with such names says who follows whom."""
        whole = self.own is not None and {self.own, self.before} <= set(names)
        return whole or (self.session is not None and self.session in names)


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """One layout of a format; a format may have several. Nested keys are joined by dots."""

    name: str
    time: str | None
    """The column of arrival times; None when the file holds lengths only."""
    prompt: str
    output: str
    source: str
    """Who writes it, for the documentation."""
    time_unit: TimeUnit = "s"
    """A date has a time of day, with or without a zone. "given": numbers need trace_time_unit."""
    marks: tuple[str, ...] = ()
    """Further columns that must be there and tell it from its like."""
    zero_output: str = ""
    """What zero output tokens mean, if rows with them are left out; else they are malformed."""
    failures: tuple[Failure, ...] = ()
    without_lengths: str = ""
    """What rows without both lengths are, if they are left out; else they are malformed."""
    always_one: str | None = None
    """A column that must be 1 throughout."""
    identities: tuple[str, ...] = ()
    """Columns that may be there, and then say which prompts begin alike."""
    blocks: str | None = None
    """The key of the identities of a prompt's blocks, which may be absent from a whole file."""
    block_tokens: int = 512
    """Tokens of such a block, unless the lengths say otherwise."""
    token_ids: str | None = None
    """The key of a prompt's tokens, which may be absent."""
    linked: Linked = Linked()
    """Columns that say which requests follow which."""
    images: str | None = None
    """A column of image counts, which are not modelled."""
    aliases: dict[str, str] = field(default_factory=dict)
    """The format's own names, to those of the file at hand; empty before a file is looked at."""

    def columns(self) -> tuple[str, ...]:
        """Return the names that a file of this format must have."""
        optional = (self.time, *self.marks, self.always_one)
        return (*(name for name in optional if name), self.prompt, self.output)

    def named(self, column: str) -> str:
        """Return what the file at hand calls a column."""
        return self.aliases.get(column, column)
