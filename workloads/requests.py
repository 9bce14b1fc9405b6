"""The columns of a workload: one row per request, in order of arrival."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A generated or replayed workload.

    Open workloads carry ``arrival_s``, sorted, in seconds from the start. A closed loop cannot
    know its arrivals beforehand: ``users`` is then set, ``arrival_s`` is all NaN, and row ``i`` is
    issued by the next user who becomes free, ``think_s[i]`` seconds after becoming free.

    Raises:
        ValueError: columns of different lengths, unsorted arrivals, lengths below one token.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    priority: Ints
    """Lower goes first, as in vLLM; all zero when the workload has no classes."""
    users: int | None = None
    think_s: Floats | None = None
    block_hashes: tuple[Ints, Ints] | None = None
    """Ragged prefix ids ``(offsets, ids)``: row ``i`` owns ``ids[offsets[i]:offsets[i+1]]``."""
    hash_block_tokens: int = 0
    """How many prompt tokens one prefix identity stands for."""

    def __post_init__(self) -> None:
        rows = len(self.arrival_s)
        for name in ("prompt_tokens", "output_tokens", "priority"):
            if len(getattr(self, name)) != rows:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} rows, expected {rows} as in arrival_s"
                )
        if self.users is None and rows and not np.all(np.diff(self.arrival_s) >= 0):
            raise ValueError("arrival_s must be sorted and must not hold NaN")
        if self.users is not None and (self.think_s is None or len(self.think_s) != rows):
            raise ValueError("a closed loop needs think_s, one row per request")
        for name in ("prompt_tokens", "output_tokens"):
            column = getattr(self, name)
            if rows and column.min() < 1:
                row = int(column.argmin())
                raise ValueError(f"{name}[{row}] = {column[row]}, expected at least 1 token")

    def __len__(self) -> int:
        return len(self.arrival_s)
