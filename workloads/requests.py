"""The columns of a workload: one row per request, in order of arrival."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Streams of text that requests begin with: see ``workloads.prefixes``.

    Row ``i`` owns the places ``offsets[i]:offsets[i+1]``: its tokens up to ``ends[place]`` are the
    first ones of stream ``streams[place]``. Ends do not fall within a row.

    Raises:
        ValueError: offsets that do not fit the places, negative streams, or falling ends.
    """

    offsets: Ints
    """Shape (rows + 1,), from 0."""
    streams: Ints
    ends: Ints
    """Tokens."""

    def __post_init__(self) -> None:
        offsets, places = self.offsets, len(self.streams)
        if not len(offsets) or offsets[0] or offsets[-1] != places or len(self.ends) != places:
            raise ValueError(
                f"prefixes: offsets end at {offsets[-1] if len(offsets) else 'nothing'}, there are "
                f"{places} streams and {len(self.ends)} ends, expected as many"
            )
        if places and self.streams.min() < 0:
            raise ValueError(f"prefixes: stream {self.streams.min()}, expected at least 0")
        within = np.ones(places, dtype=np.bool_)
        within[offsets[:-1][offsets[:-1] < places]] = False
        falling = np.flatnonzero(within[1:] & (np.diff(self.ends) < 0))
        if len(falling) or (places and self.ends.min() < 0):
            raise ValueError("prefixes: ends must not fall within a row, expected ascending tokens")

    def taken(self, rows: Ints) -> "Prefixes":
        """Return the same for the given rows, in their order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        places = np.repeat(self.offsets[:-1][rows], lengths) + within
        return Prefixes(offsets, self.streams[places], self.ends[places])


@dataclass(frozen=True, slots=True)
class After:
    """Answers that turns wait for: sessions that branch, and come together again.

    Row ``i`` is asked after the answers to the rows ``rows[offsets[i]:offsets[i+1]]``, earlier ones
    of its session: none for a first turn, one at least for every other.
    """

    offsets: Ints
    """Shape (rows + 1,), from 0."""
    rows: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A generated or replayed workload.

    Open workloads carry ``arrival_s``, sorted, in seconds from the start. A closed loop cannot
    know its arrivals beforehand: ``users`` is then set, ``arrival_s`` is all NaN, and row ``i`` is
    issued by the next user who becomes free, ``think_s[i]`` seconds after becoming free.

    With sessions (``session`` and ``turn``) rows lie session by session, and only the first of each
    is issued like that, or carries an ``arrival_s``; row ``i`` of the others, whose ``arrival_s``
    is NaN, is issued ``think_s[i]`` seconds after the answer to the row before is complete, or to
    all rows that ``after`` names, or never, if one of them has none.

    Raises:
        ValueError: columns of different lengths, unsorted arrivals, lengths below one token, turns
            out of order.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    priority: Ints
    """Lower goes first, as in vLLM; all zero when the workload has no classes."""
    users: int | None = None
    think_s: Floats | None = None
    prefixes: Prefixes | None = None
    """What prompts have in common; None: no two begin alike."""
    session: Ints | None = None
    """Number of each row's session, from 0; None: every request stands alone."""
    turn: Ints | None = None
    """Number of each row in its session, from 0."""
    after: After | None = None
    """Whose answers turns wait for; None: each for the row before."""
    notes: tuple[str, ...] = ()
    """What was read of a file, in words."""

    def __post_init__(self) -> None:
        rows = len(self.arrival_s)
        for name in ("prompt_tokens", "output_tokens", "priority"):
            if len(getattr(self, name)) != rows:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} rows, expected {rows} as in arrival_s"
                )
        self._check_turns(rows)
        if self.users is None and rows and not np.all(np.diff(self.known_arrival_s) >= 0):
            raise ValueError("arrival_s must be sorted and must not hold NaN")
        if self.waits and (self.think_s is None or len(self.think_s) != rows):
            what = "a closed loop needs" if self.session is None else "sessions need"
            raise ValueError(f"{what} think_s, one row per request")
        if self.prefixes is not None and len(self.prefixes.offsets) != rows + 1:
            raise ValueError(
                f"prefixes has {len(self.prefixes.offsets) - 1} rows, expected {rows} as in "
                "arrival_s"
            )
        for name in ("prompt_tokens", "output_tokens"):
            column = getattr(self, name)
            if rows and column.min() < 1:
                row = int(column.argmin())
                raise ValueError(f"{name}[{row}] = {column[row]}, expected at least 1 token")

    def _check_turns(self, rows: int) -> None:
        if self.session is None and self.turn is None:
            return
        if self.session is None or self.turn is None:
            raise ValueError("session and turn belong together, expected both or neither")
        if len(self.session) != rows or len(self.turn) != rows:
            raise ValueError(f"session and turn: expected {rows} rows as in arrival_s")
        first = self.turn == 0
        follows = self.turn[1:] == self.turn[:-1] + 1
        whole = not rows or bool(first[0])
        if not whole or not np.all(first[1:] | follows):
            raise ValueError("turn: expected 0, 1, 2, ... in each session, row by row")
        if not np.array_equal(self.session, np.cumsum(first) - 1):
            raise ValueError("session: expected 0, 1, 2, ..., one more at each turn 0")
        if self.after is not None:
            self._check_after(self.after, self.session, first)

    @staticmethod
    def _check_after(after: After, session: Ints, first: npt.NDArray[np.bool_]) -> None:
        offsets, rows = after.offsets, after.rows
        if len(offsets) != len(session) + 1 or offsets[0] or offsets[-1] != len(rows):
            raise ValueError(f"after: expected {len(session) + 1} offsets, from 0 to {len(rows)}")
        counts = np.diff(offsets)
        if not np.array_equal(counts == 0, first) or counts.min(initial=0) < 0:
            raise ValueError("after: expected nothing before a first turn, and a row before others")
        asked = np.repeat(np.arange(len(session)), counts)
        if np.any((rows < 0) | (rows >= asked)) or np.any(session[rows] != session[asked]):
            raise ValueError("after: expected earlier rows of the same session")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def waits(self) -> bool:
        """Whether some arrivals depend on when answers are complete."""
        return self.users is not None or self.session is not None

    @property
    def known_arrival_s(self) -> Floats:
        """The arrivals that do not, sorted, seconds: of an open workload all, or of each session
        the first; of a closed loop none."""
        if self.users is not None:
            return self.arrival_s[:0]
        return self.arrival_s if self.turn is None else self.arrival_s[self.turn == 0]
