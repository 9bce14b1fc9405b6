"""The trace formats that are known, and how a file's header tells which one it is.

What a zero means, per format: only BurstGPT records failed requests (zero response tokens; its
README), and those rows are left out. Anywhere else zero prompt or output tokens are malformed.

Sources of the columns: Azure/AzurePublicDataset (AzureLLMInferenceDataset2023.md and 2024.md),
HPMLL/BurstGPT README, kvcache-ai/Mooncake FAST25-release README, Mutinifni/splitwise-sim traces,
microsoft/vidur data/processed_traces.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workloads.files import TraceError


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """Which columns of a CSV (keys of a JSON line) hold what."""

    name: str
    time: str | None
    """The column of arrival times; None when the file holds lengths only."""
    prompt: str
    output: str
    time_unit: str = "s"
    """"s", "ms", or "date" (a date with time of day, with or without a zone)."""
    zero_output_failed: bool = False
    """Whether zero output tokens mark a failed request, which is left out."""
    always_one: str | None = None
    """A column that must be 1 throughout."""
    json_lines: bool = False
    identities: tuple[str, ...] = ()
    """Columns that may be there, and then say which prompts begin alike."""

    def columns(self) -> tuple[str, ...]:
        """Return the names that a file of this format must have."""
        optional = (self.time, self.always_one)
        return (*(name for name in optional if name), self.prompt, self.output)


FORMATS = (
    TraceFormat(
        "headroom",
        "arrival_s",
        "prompt_tokens",
        "output_tokens",
        identities=("prompt_id", "prefix_id", "prefix_tokens"),
    ),
    TraceFormat("azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", time_unit="date"),
    TraceFormat(
        "burstgpt", "Timestamp", "Request tokens", "Response tokens", zero_output_failed=True
    ),
    TraceFormat(
        "mooncake", "timestamp", "input_length", "output_length", time_unit="ms", json_lines=True
    ),
    TraceFormat(
        "splitwise", "arrival_timestamp", "prompt_size", "token_size", always_one="batch_size"
    ),
    TraceFormat("vidur", "arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    TraceFormat("headroom_lengths", None, "prompt_tokens", "output_tokens"),
    TraceFormat("vidur_lengths", None, "num_prefill_tokens", "num_decode_tokens"),
)
FORMAT_NAMES = tuple(form.name for form in FORMATS)


def find_format(path: Path, header: Sequence[str], json_lines: bool, name: str) -> TraceFormat:
    """Return the format called ``name``, or for "auto" the one that ``header`` belongs to.

    ``header`` holds a CSV's column names, or the keys of the first of JSON lines. Further columns
    are allowed and ignored. Where two formats would do, the one with arrival times is meant.

    Raises:
        TraceError: ``name`` or the header is unknown, or the header lacks columns of ``name``.
    """
    fitting = [form for form in FORMATS if form.json_lines == json_lines]
    if name == "auto":
        for form in fitting:
            if set(form.columns()) <= set(header):
                return form
        raise TraceError(f"{path}:1: {_unknown(header, fitting)}")
    for form in FORMATS:
        if form.name == name:
            missing = [column for column in form.columns() if column not in header]
            if missing or form not in fitting:
                raise TraceError(
                    f"{path}:1: format {name} needs {_shown(form)}; missing: {', '.join(missing)}"
                )
            return form
    near = difflib.get_close_matches(name, FORMAT_NAMES, n=1, cutoff=0.0)[0]
    raise TraceError(
        f"format {name!r} is unknown, expected auto or one of {', '.join(FORMAT_NAMES)}; "
        f"nearest: {near}"
    )


def _unknown(header: Sequence[str], fitting: Sequence[TraceFormat]) -> str:
    """Say that no format has this header, what the formats are, and which comes nearest."""

    def likeness(form: TraceFormat) -> tuple[int, float]:
        common = len(set(form.columns()) & set(header))
        ratio = difflib.SequenceMatcher(None, ",".join(header), ",".join(form.columns())).ratio()
        return common, ratio

    nearest = max(fitting, key=likeness)
    missing = [column for column in nearest.columns() if column not in header]
    known = "; ".join(f"{form.name}: {_shown(form)}" for form in FORMATS)
    return (
        f"header {','.join(header)[:200]!r} is of no known trace format; nearest: {nearest.name}, "
        f"lacking {', '.join(missing)}. Known: {known}"
    )


def _shown(form: TraceFormat) -> str:
    kind = "JSON lines with " if form.json_lines else ""
    return kind + ",".join(form.columns())
