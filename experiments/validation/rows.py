"""A table of measured runs: one typed row per run, and the runs that share one simulation.

Cells are read leniently (``experiments.validation.cells``); what cannot be read is a reason not to
predict that row, never a reason to stop or to guess.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.study.errors import StudyError, nearest
from experiments.validation import cells as said
from experiments.validation.attention_ranks import with_ranks
from experiments.validation.generated import with_generated
from experiments.validation.plausible import strange
from experiments.validation.remarks import cache_in, limit_in
from experiments.validation.table_files import EXTRA, read_lines
from model.dataclass import dataclass

LATENCY_METRICS = tuple(
    f"{latency}_{statistic}_ms"
    for latency in ("ttft", "tpot", "itl", "e2e")
    for statistic in ("mean", "p50", "p90", "p95", "p99")
)
METRICS = (*LATENCY_METRICS, "out_tok_s", "req_s")
"""Columns that hold measurements, and so names of predictions."""

REQUIRED = ("model", "gpu")
"""Columns without which nothing can be predicted."""

_STAGE = re.compile(r"(?P<run>.+)/(?:all|stage(?P<number>\d+))")
ALL_AT_ONCE = "all at once"
"""Arrival process of an infinite request rate."""


class RunRow(BaseModel):
    """What is known of one measured run; None where the cell is empty."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, defer_build=True)

    run_id: str
    """Name of the row; ``/all`` and ``/stageN`` at its end name parts of one run."""
    dataset: str = ""
    """Who measured it."""
    tier: str = ""
    """How much was published."""
    engine: str = "vllm"
    """What served."""
    engine_version: str | None = None
    """Its version, as text."""
    model: str
    """Name on huggingface.co, or in the catalogue."""
    precision: str | None = None
    """Of the weights: bf16, fp16, fp8, fp4, int8, int4."""
    kv_cache_dtype: str | None = None
    """Of the KV cache; empty follows the weights' activations."""
    gpu: str
    """What it ran on."""
    n_gpus: int | None = Field(default=None, ge=1)
    """GPUs of all replicas."""
    tp: int | None = Field(default=None, ge=1)
    """Tensor-parallel size."""
    pp: int | None = Field(default=None, ge=1)
    """Pipeline-parallel size."""
    dp_replicas: int | None = Field(default=None, ge=1)
    """Replicas behind one address."""
    data_parallel_size: int | None = Field(default=None, ge=1)
    """Ranks of an engine that compute attention each for its own requests."""
    ep: int | None = Field(default=None, ge=1)
    """Expert-parallel size."""
    mode: str | None = None
    """agg, or disagg: prefill and decoding on different engines."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Most sequences of a step."""
    max_num_batched_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a step."""
    chunked_prefill: str | None = None
    """on, off, or a remark."""
    prefix_caching: str | None = None
    """on, off, or a remark."""
    cpu_offload: str | None = None
    """Memory of the host as more KV cache."""
    gpu_mem_util: float | None = Field(default=None, gt=0, le=1)
    """Share of the memory that the engine takes."""
    kv_blocks: int | None = Field(default=None, ge=1)
    """KV blocks as the engine logged them."""
    block_size: int | None = Field(default=None, ge=1)
    """Tokens of a KV block."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt plus output."""
    enforce_eager: str | None = None
    """True: no CUDA graphs."""
    cudagraph_mode: str | None = None
    """Which steps CUDA graphs replay, under vLLM's names."""
    async_scheduling: str | None = None
    """on, off, or a remark: whether a step is planned while the one before is computed."""
    first_request_s: float | None = Field(default=None, ge=0, le=3600)
    """What the first step of a cold server takes besides; None: it was warm."""
    api_server_count: int | None = Field(default=None, ge=1, le=1000)
    """API processes of a replica."""
    sampling: str | None = None
    """How tokens were drawn: greedy, temperature, top_p, or values of them."""
    speculative: str | None = None
    """Whether drafts were verified, and which."""
    lora: str | None = None
    """Whether adapters were in play."""
    arrival_process: str | None = None
    """poisson, gamma, constant, closed loop, trace replay, or a remark."""
    request_rate_rps: float | None = Field(default=None, gt=0)
    """Requests per second that were offered."""
    burstiness: float | None = Field(default=None, gt=0)
    """Shape of gamma gaps: 1 is Poisson, less is burstier."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """The client's cap on requests in flight."""
    duration_s: float | None = Field(default=None, gt=0)
    """How long requests were sent."""
    n_requests: int | None = Field(default=None, ge=1, le=10**7)
    """How many were sent."""
    n_failed: int | None = Field(default=None, ge=0)
    """How many of them got no answer."""
    workload: str = ""
    """What was asked."""
    isl_spec: str | None = None
    """Prompt lengths, in words."""
    osl_spec: str | None = None
    """Output lengths, in words."""
    isl_mean: float | None = Field(default=None, gt=0)
    """Mean prompt, tokens."""
    osl_mean: float | None = Field(default=None, gt=0)
    """Mean output, tokens."""
    per_request_file: str | None = None
    """Requests of the run, relative to the table's folder."""
    notes: str = ""
    """Remarks."""
    measured: dict[str, float] = {}
    """Measurements by column, without the empty ones."""

    @property
    def run(self) -> str:
        """Name of the run that the row is a part of."""
        found = _STAGE.fullmatch(self.run_id)
        return found["run"] if found else self.run_id

    @property
    def stage(self) -> int | None:
        """Number of the load stage; None for a whole run."""
        found = _STAGE.fullmatch(self.run_id)
        return int(found["number"]) if found and found["number"] is not None else None

    @property
    def closed_loop(self) -> bool:
        """Whether clients wait for an answer before they ask again."""
        capped = self.max_concurrency is not None
        told = (self.request_rate_rps, self.per_request_file, self.arrival_process)
        nothing = all(cell is None for cell in told)
        closed = said.process_of(self.arrival_process) == "closed loop"
        return closed or (capped and (nothing or self.all_at_once))

    @property
    def measured_inside(self) -> bool:
        """Whether the engine measured itself, so that API and network are not in its latencies."""
        return said.measured_inside(self.notes)

    @property
    def all_at_once(self) -> bool:
        """Whether every request is there from the start."""
        return said.process_of(self.arrival_process) == ALL_AT_ONCE


_NUMBERS = {
    name
    for name, field in RunRow.model_fields.items()
    if any(kind in str(field.annotation) for kind in ("int", "float")) and name != "measured"
}
"""Columns that hold one number."""


COLUMNS = (*(name for name in RunRow.model_fields if name != "measured"), *METRICS)
"""All that a table may have."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that could not be predicted, and why."""

    run_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Run:
    """The rows that one simulation predicts: the whole run, and its stages."""

    name: str
    rows: tuple[RunRow, ...]

    @property
    def base(self) -> RunRow:
        """The row of the whole run, or the first stage when there is none."""
        return next((row for row in self.rows if row.stage is None), self.rows[0])

    @property
    def stages(self) -> tuple[RunRow, ...]:
        """Rows of the stages, in their order; the whole run when it has none."""
        staged = [row for row in self.rows if row.stage is not None]
        return tuple(sorted(staged, key=lambda row: row.stage or 0)) or (self.base,)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that a table of runs says."""

    folder: Path
    """Where relative paths start."""
    runs: tuple[Run, ...]
    unreadable: tuple[Skipped, ...]
    """Rows with cells that mean nothing."""
    unread: tuple[str, ...] = ()
    """Columns of the file that mean nothing here."""


def read_table(path: Path, given: Mapping[str, str] | None = None) -> Table:
    """Read a table of runs, or results of benchmark clients.

    Args:
        path: see ``experiments.validation.table_files.read_lines``.
        given: cells of every row, by column: they go before the row's own.

    Raises:
        StudyError: it cannot be read, a missing column, no row, or one ``run_id`` twice.
    """
    lines = read_lines(path, COLUMNS)
    cells = [{**line, **(given or {})} for line in lines.cells]
    columns = [*lines.columns, *(given or {})]
    if not lines.columns:
        found = ", ".join(lines.unread[:6])
        text = f"no column is known ({found}), expected {', '.join(REQUIRED)} and what was measured"
        raise StudyError.of(f"{text}; of a client the JSON result, not its CSV", str(path))
    for column in REQUIRED:
        if column not in columns:
            hint = nearest(column, [*columns, *lines.unread])
            text = (
                f"column {column} is missing, expected at least {', '.join(REQUIRED)}{hint}; "
                f"--set {column}=... gives it to every row"
            )
            raise StudyError.of(text, str(path))
    if not cells:
        raise StudyError.of("no run, expected one row per run", str(path))
    rows, unreadable = [], []
    for number, line in enumerate(cells, start=2):
        name = (line.get("run_id") or "").strip() or f"line {number}"
        line["run_id"] = name
        if EXTRA in line:
            reason = f"cells right of the last column: {line[EXTRA]}"
            unreadable.append(Skipped(name, reason))
            continue
        try:
            rows.append(row_of(line))
        except ValidationError as error:
            unreadable.append(Skipped(name, "; ".join(_faults(error))))
            continue
        if wrong := strange(rows[-1].measured):
            unreadable.append(Skipped(name, wrong))
            rows.pop()
    names = Counter(row.run_id for row in rows)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise StudyError.of(f"run_id {twice!r} stands twice, expected once", str(path))
    folder = path if path.is_dir() else path.parent
    return Table(folder, runs_of(rows), tuple(unreadable), lines.unread)


def row_of(cells: dict[str, Any]) -> RunRow:
    """Turn the cells of one line into a row. Raises ValidationError."""
    given = {
        key: text
        for key, value in cells.items()
        if key is not None and isinstance(value, str) and not said.is_empty(text := value.strip())
    }
    data: dict[str, Any] = {
        key: _figure(key, text) if key in _NUMBERS else text
        for key, text in given.items()
        if key not in METRICS and not (key in _NUMBERS and said.ENGINES_OWN.fullmatch(text.lower()))
    }
    for name in said.SIZES:
        if name in data:
            data[name] = said.group_size(name, given[name])
    if not data.get("tp") and not data.get("n_gpus") and "gpu" in data:
        data["n_gpus"] = said.gpu_count(data["gpu"])
    if said.switched_on(data.get("ep")) and data["ep"] != "1":  # as many as there are
        data["ep"] = data.get("tp") or data.get("n_gpus") or given["ep"]
    for name in ("request_rate_rps", "max_concurrency"):
        if str(data.get(name, "")).lower() in said.UNLIMITED:
            del data[name]
            if name == "request_rate_rps":
                data["arrival_process"] = ALL_AT_ONCE
    cap, others = said.cap_in(data.get("arrival_process"))
    if cap is not None:
        data.setdefault("max_concurrency", cap)
        data["arrival_process"] = others or None
    users = said.users_in(data.get("arrival_process"))
    if users is not None:
        data.setdefault("max_concurrency", users)
    if "engine" in data and "engine_version" not in data:
        data |= said.version_in(data["engine"])
    if "gpu" in data:
        limit = limit_in(data["gpu"])
        data["notes"] = ". ".join(filter(None, (data.get("notes"), limit)))
        data["gpu"] = said.gpu_name(data["gpu"])
    if "precision" in data:
        cache, data["precision"] = cache_in(data["precision"])
        if cache is not None:
            data.setdefault("kv_cache_dtype", cache)
    if "mode" in data:
        data["mode"] = said.without_remark(data["mode"])
    data["measured"] = {key: said.number(key, given[key]) for key in METRICS if key in given}
    return RunRow.model_validate(with_generated(with_ranks(data)))


def _figure(column: str, text: str) -> str:
    """A cell's number, or a text that is none where it could be one of two."""
    if said.two_readings(column, text):
        return f"{text} (a thousand times as much?)"
    return said.number(column, text)


def runs_of(rows: Iterable[RunRow]) -> tuple[Run, ...]:
    """Gather rows into runs, in the order of their first rows."""
    groups: dict[str, list[RunRow]] = {}
    for row in rows:
        groups.setdefault(row.run, []).append(row)
    return tuple(Run(name, tuple(group)) for name, group in groups.items())


def _faults(error: ValidationError) -> list[str]:
    found = []
    for item in error.errors(include_url=False):
        column = ".".join(str(part) for part in item["loc"]).removeprefix("measured.")
        expected = str(item["msg"]).replace("Input should be ", "expected ", 1)
        value = "" if item["type"] == "missing" else f" = {item['input']!r}"
        found.append(f"column {column}{value}: {expected}")
    return found
