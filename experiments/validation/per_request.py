"""The requests of a run as its client recorded them, in the columns of any of the known tools."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from experiments.study.errors import nearest
from model.dataclass import dataclass
from model.text_file import check_regular
from workloads.prefixes import prompt_prefixes
from workloads.requests import Prefixes
from workloads.traces.errors import TraceError
from workloads.traces.reading import read_recorded

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMNS = {
    "arrival": ("arrival_s", "arrived_at", "timestamp_s"),
    "prompt": ("input_tokens", "input_toks", "prompt_tokens", "prompt_toks", "num_prefill_tokens"),
    "output": (
        "output_tokens_true", "output_tokens", "output_toks", "completion_tokens",
        "num_decode_tokens",
    ),
    "identity": ("prompt_id",),
    "prefix": ("prefix_id",),
    "shared": ("prefix_tokens",),
    "e2e": ("e2e_s",),
    "ttft": ("ttft_s",),
    "failed": ("error", "status"),
}  # fmt: skip
"""What a column means, and its names; the first that a file has is read."""

NEEDED = ("arrival", "prompt", "output")
RECORDED = {".json", ".jsonl"}
"""Files that benchmark clients wrote: ``workloads.traces`` reads them."""
WELL = (
    "0", "0.0", "", "ok", "success", "succeeded", "successful", "false", "none", "nan", "null",
    "200", "200.0", "complete", "completed", "finished", "done", "stop", "length",
)  # fmt: skip
"""Values of `error` and `status` of an answered request."""

SAME_TIMEOUT = 0.02
"""Failed requests that all lasted equally long, within this share, ran into a timeout."""


class PerRequestError(ValueError):
    """A per-request file that is missing or does not hold requests."""


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """Requests in order of arrival."""

    arrival_s: Floats
    """From the first request's own clock zero."""
    prompt_tokens: Ints
    output_tokens: Ints
    identity: Ints | None
    """Equal for equal prompts; None when the file does not say."""
    prefixes: Prefixes | None
    """What prompts have in common, where the file tells more than equal ones."""
    timeout_s: float | None
    """After which the client gave up, if it ever did."""
    cold: str = ""
    """What tells that its first requests met a cold server, if anything does."""


def find_file(folder: Path, name: str) -> Path:
    """Return the per-request file, as written or by its own name in ``per_request/``.

    Raises:
        PerRequestError: there is none.
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    places = (folder / name, folder / "per_request" / base, folder / base)
    for place in places:
        if place.is_file():
            return place
    raise PerRequestError(f"per_request_file {name} does not exist in {folder}")


@lru_cache(maxsize=64)
def read_requests(path: Path) -> Recorded:
    """Read a per-request file: a table, gzipped or not, or what a benchmark client recorded.

    A length of 0 stands for a request that failed before its length was counted: it gets that of
    the same prompt, or the median.

    Raises:
        PerRequestError: not such a table, or no request in it.
    """
    import pandas as pd

    if {suffix.lower() for suffix in path.suffixes} & RECORDED:
        return _of_client(path)
    table = _table(path)
    columns = {
        meaning: next((name for name in names if name in table), None)
        for meaning, names in COLUMNS.items()
    }
    missing = next((meaning for meaning in NEEDED if columns[meaning] is None), None)
    if missing is not None:
        return _of_trace(path, table, missing)
    arrival = pd.to_numeric(table[columns["arrival"]], errors="coerce")
    table = table[arrival.notna()].assign(_arrival=arrival).sort_values("_arrival", kind="stable")
    if not len(table):
        raise PerRequestError(f"{path.name}: no request with an arrival")
    identity = None
    if columns["identity"] is not None:
        identity = pd.factorize(table[columns["identity"]], use_na_sentinel=False)[0]
        identity = identity.astype(np.int64)
    failed = np.zeros(len(table), dtype=np.bool_)
    if columns["failed"] is not None:
        words = table[columns["failed"]].astype(str).str.strip().str.lower()
        failed = ~words.isin(WELL).to_numpy()
    prompts = _lengths(table[columns["prompt"]], identity, path.name)
    return Recorded(
        arrival_s=table["_arrival"].to_numpy(dtype=np.float64),
        prompt_tokens=prompts,
        output_tokens=_lengths(table[columns["output"]], identity, path.name),
        identity=identity,
        prefixes=_prefixes(table, columns, prompts, identity, path.name),
        timeout_s=_timeout_s(table, columns["e2e"], failed),
        cold=_cold(table, columns["ttft"]),
    )


def _table(path: Path) -> "DataFrame":
    import pandas as pd

    try:
        check_regular(path)
        return pd.read_parquet(path) if path.suffix.lower() == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise PerRequestError(f"{path.name}: cannot be read: {error}") from None


def _of_trace(path: Path, table: "DataFrame", missing: str) -> Recorded:
    """A table of other columns, where it is a trace of any known format.

    Raises:
        PerRequestError: it is none, or tells failures, which traces do not have.
    """
    wanted = COLUMNS[missing]
    hint = nearest(wanted[0], list(map(str, table.columns)))
    expected = f"{path.name}: expected a column {' or '.join(wanted)}{hint}"
    told = next((name for name in COLUMNS["failed"] if name in table), None)
    if told is not None:
        raise PerRequestError(f"{expected}, beside {told}")
    try:
        return _of_client(path)
    except PerRequestError as error:
        raise PerRequestError(f"{expected}; or a trace, but {error}") from None


def _of_client(path: Path) -> Recorded:
    try:
        found = read_recorded(path)
    except TraceError as error:
        raise PerRequestError(str(error)) from None
    if found.time_s is None:
        raise PerRequestError(f"{path.name}: no times of the requests")
    return Recorded(
        arrival_s=found.time_s,
        prompt_tokens=found.prompt_tokens,
        output_tokens=found.output_tokens,
        identity=None,
        prefixes=found.prefixes,
        timeout_s=None,
    )


def _prefixes(
    table: "DataFrame",
    columns: dict[str, str | None],
    prompts: Ints,
    identity: Ints | None,
    file: str,
) -> Prefixes | None:
    """Groups whose prompts begin alike; None where the file has no such columns."""
    import pandas as pd

    prefix, shared = columns["prefix"], columns["shared"]
    if prefix is None and shared is None:
        return None
    if prefix is None or shared is None:
        raise PerRequestError(f"{file}: prefix_id and prefix_tokens, expected both or neither")
    tokens = pd.to_numeric(table[shared], errors="coerce").fillna(0).to_numpy(dtype=np.float64)
    group = pd.factorize(table[prefix], use_na_sentinel=True)[0].astype(np.int64)
    # A prompt of no group begins like no other.
    alone = np.where(group < 0, group.max(initial=-1) + 1 + np.arange(len(group)), group)
    return prompt_prefixes(
        prompts,
        prompt_id=identity,
        prefix_id=alone,
        prefix_tokens=np.minimum(np.where(group < 0, 0, tokens).astype(np.int64), prompts),
    )


def _lengths(column: "object", identity: Ints | None, file: str) -> Ints:
    import pandas as pd

    lengths = pd.to_numeric(pd.Series(column), errors="coerce").to_numpy(dtype=np.float64)
    known = lengths >= 1
    if not known.any():
        raise PerRequestError(f"{file}: no request of at least one token")
    filled = np.where(known, lengths, np.median(lengths[known]))
    if identity is not None:
        same = pd.Series(np.where(known, lengths, np.nan)).groupby(identity).transform("median")
        filled = np.where(known, lengths, same.fillna(pd.Series(filled)).to_numpy())
    rounded: Ints = np.rint(filled).astype(np.int64)
    return rounded


COLD_REQUESTS, COLD_TIMES = 5, 3.0
"""Of a cold server one of so many first requests waits so many times as long as those behind."""


def _cold(table: "DataFrame", column: str | None) -> str:
    """Say that the first requests waited far longer than those that met as much load later."""
    import pandas as pd

    if column is None:
        return ""
    ttft_s = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    first, rest = ttft_s[:COLD_REQUESTS], ttft_s[COLD_REQUESTS:]
    if np.isnan(first).all() or np.isnan(rest).all():
        return ""
    longest_s, usual_s = float(np.nanmax(first)), float(np.nanmedian(rest))
    # Where the queue grows, those behind wait longer; where it does not, the first meet nobody.
    if longest_s <= COLD_TIMES * usual_s:
        return ""
    return f"TTFT of up to {1e3 * longest_s:.0f} ms against a median of {1e3 * usual_s:.0f} ms"


def _timeout_s(
    table: "DataFrame", column: str | None, failed: npt.NDArray[np.bool_]
) -> float | None:
    if column is None or not failed.any():
        return None
    lasted = np.asarray(table[column], dtype=np.float64)[failed]
    lasted = lasted[~np.isnan(lasted)]
    if not len(lasted) or lasted.max() > lasted.min() * (1 + SAME_TIMEOUT):
        return None
    return float(lasted.min())
