"""What was read of a workload file, in words: what a reader of results has to know."""

from dataclasses import dataclass
from pathlib import Path

from workloads.counts import count_of
from workloads.requests import Floats, Ints
from workloads.traces.errors import printable
from workloads.traces.format import TraceFormat
from workloads.traces.units import UNIT_WORDS

HASTY_PER_S = 10.0
"""A mean rate above which times in ms may be seconds that were taken for ms."""


@dataclass(frozen=True, slots=True)
class Account:
    """What was read of one file, before any window or scale."""

    file: str
    shape: str
    format: str
    requests: int
    mean_prompt_tokens: float
    mean_output_tokens: float
    span_s: float | None
    """From the first arrival to the last; None without arrivals."""
    time_unit: str
    left_out: dict[str, int]
    notes: tuple[str, ...]

    @property
    def rate_per_s(self) -> float | None:
        """Mean rate of the arrivals after the first; None when they span no time."""
        if not self.span_s:
            return None
        return (self.requests - 1) / self.span_s

    def text(self) -> str:
        """Say all of it in one line."""
        parts = [f"{self.file}: format {self.format} ({self.shape})"]
        parts[0] += f", {count_of(self.requests, 'request')}"
        if self.span_s is not None:
            parts[0] += f" over {self.span_s:,.6g} s"
            if self.rate_per_s is not None:
                parts[0] += f" ({self.rate_per_s:,.4g} per second)"
        parts.append(
            f"mean prompt {self.mean_prompt_tokens:,.1f} and output "
            f"{self.mean_output_tokens:,.1f} tokens"
        )
        if self.span_s is not None:
            parts.append(f"times read as {UNIT_WORDS[self.time_unit]}{self._hint()}")
        parts += [f"left out: {count:,} {reason}" for reason, count in self.left_out.items()]
        return "; ".join([*parts, *self.notes])

    def _hint(self) -> str:
        rate = self.rate_per_s
        if self.time_unit != "ms" or rate is None or rate < HASTY_PER_S:
            return ""
        return " (if they are seconds, set workload.trace_time_unit: s)"


def account_of(
    path: Path,
    shape: str,
    form: TraceFormat,
    *,
    time_unit: str,
    time_s: Floats | None,
    lengths: tuple[Ints, Ints],
    left_out: dict[str, int],
    notes: list[str],
) -> Account:
    """Return what is told of a file; ``time_s`` counts from the earliest arrival."""
    prompts, outputs = lengths
    return Account(
        file=printable(path.name),
        shape=shape,
        format=form.name,
        requests=len(prompts),
        mean_prompt_tokens=float(prompts.mean(dtype="float64")),
        mean_output_tokens=float(outputs.mean(dtype="float64")),
        span_s=None if time_s is None else float(time_s.max()),
        time_unit=time_unit,
        left_out=left_out,
        notes=tuple(notes),
    )
