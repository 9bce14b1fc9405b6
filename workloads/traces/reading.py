"""Reading a file of recorded requests: its columns, times from the earliest, and what is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.counts import count_of
from workloads.prefixes import prompt_prefixes
from workloads.requests import Floats, Ints, Prefixes
from workloads.traces.account import Account, account_of
from workloads.traces.arrow_files import ArrowFile
from workloads.traces.blocks import BlocksError, prefixes_of_blocks, prefixes_of_tokens
from workloads.traces.containers import BINARY_COLUMNS, opened
from workloads.traces.csv_files import CsvFile
from workloads.traces.errors import TraceError, shown
from workloads.traces.fields import (
    MOST_TOKENS,
    Array,
    Field,
    Whole,
    is_number,
    time_field,
)
from workloads.traces.format import TraceFormat
from workloads.traces.formats import check_once, find_format
from workloads.traces.json_files import JsonFile
from workloads.traces.links import Links, links_of
from workloads.traces.rows import Rows, place_of, read_rows
from workloads.traces.session_documents import UNTIMED
from workloads.traces.source import Source
from workloads.traces.units import UNITS_PER_S, Unit

LONGEST_SPAN_S = 10 * 365.25 * 86400
"""Ten years: a trace that spans more has another unit of time, or a damaged row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The requests of a file, in its order or that of their times."""

    time_s: Floats | None
    """Seconds from the earliest."""
    prompt_tokens: Ints
    output_tokens: Ints
    prefixes: Prefixes | None
    links: Links | None
    """None where nothing is asked, or told."""
    format: TraceFormat
    account: Account


def look_into(path: Path) -> Source:
    """Tell a file's shape from its bytes, and read its names.

    Raises:
        TraceError: no such file, or it cannot be read.
    """
    with opened(path) as (reader, _):
        head = reader.peek(64)
        text = head.lstrip()[:1]
        while not text and reader.read(len(head)):  # blank lines
            head = reader.peek(64)
            text = head.lstrip()[:1]
    kind = next((name for magic, name in BINARY_COLUMNS if head.startswith(magic)), None)
    if kind == "Feather 1":
        raise TraceError(f"{path}: is Feather 1, expected Feather 2 (Arrow) or Parquet")
    if kind is not None:
        return ArrowFile(path, kind)
    return JsonFile(path) if text in (b"{", b"[") else CsvFile(path)


def read_recorded(
    path: Path,
    *,
    format: str = "auto",
    time_unit: Unit | None = None,
    block_tokens: int | None = None,
    prefixes: bool = True,
    links: bool = False,
    by_time: bool = True,
) -> Recorded:
    """Read every request of a file.

    Args:
        path: the file.
        format: a name of the registry; "auto" finds it.
        time_unit: of times that are numbers, instead of the format's.
        block_tokens: tokens of the blocks that have identities, instead of the format's.
        prefixes: whether identities of prompts, blocks and tokens are looked at.
        links: whether it is looked at which requests wait for which; with ``by_time`` only.
        by_time: whether rows are sorted by time, where they have one.

    Raises:
        TraceError: the file is missing, of no known format, malformed (with its line), or empty.
    """
    source = look_into(path)
    try:
        form = find_format(source.names, format)
        check_once(form, source.names)
    except TraceError as error:
        raise TraceError(f"{source.names_at}: {error}") from None
    unit = _unit(source, form, time_unit)
    ids = _ids_key(source, form) if prefixes else None
    names = _identity_names(source, form)
    fields = _fields(source, form, unit, names)
    further = _links(source, form, links, by_time)
    rows = read_rows(source, form, fields, ids, further)
    return _Reading(source, form, unit, fields, rows, names).recorded(ids, block_tokens, by_time)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a file held, on its way to requests."""

    source: Source
    form: TraceFormat
    unit: str
    fields: Sequence[Field]
    rows: Rows
    identities: dict[str, str]

    def recorded(self, ids: str | None, block_tokens: int | None, by_time: bool) -> Recorded:
        """Return the requests, and what has to be told of how they were read."""
        notes: list[str] = []
        prompts, outputs = (
            self._clipped(self.column(name), notes) for name in (self.form.prompt, self.form.output)
        )
        prefixes = self._prefixes(prompts, ids, block_tokens, notes)
        if self.form.images in self.form.aliases:
            _note_images(self.column(self.form.images or ""), notes)
        time_s, links = None, None
        if self.form.time is not None:
            time_s = self._from_first(self.column(self.form.time))
            late = int(np.count_nonzero(np.diff(time_s) < 0))
            if self.rows.links:
                order = np.argsort(time_s, kind="stable")
                links = links_of(self.form.linked, self.rows.links, order, self.fault)
            if late and by_time:
                order = np.argsort(time_s, kind="stable")
                time_s, prompts, outputs = time_s[order], prompts[order], outputs[order]
                prefixes = prefixes and prefixes.taken(order)
                notes.append(f"sorted by time: {count_of(late, 'row')} earlier than the one before")
        return Recorded(
            time_s=time_s,
            prompt_tokens=prompts,
            output_tokens=outputs,
            prefixes=prefixes,
            links=links,
            format=self.form,
            account=account_of(
                self.source.path, self.source.shape, self.form, time_unit=self.unit,
                time_s=time_s, lengths=(prompts, outputs), left_out=self.rows.left_out, notes=notes,
            ),
        )  # fmt: skip

    def column(self, name: str) -> Array:
        """Return the values under one of the format's names."""
        named = self.form.named(name)
        place = next(at for at, field in enumerate(self.fields) if field.name == named)
        return self.rows.values[place]

    def fault(self, row: int, text: str) -> TraceError:
        """Return the error of a row, with its place."""
        return TraceError(f"{place_of(self.source, self.form, self.fields, row)}: {text}")

    def _clipped(self, tokens: Array, notes: list[str]) -> Ints:
        endless = int(np.count_nonzero(tokens > MOST_TOKENS))
        if not endless:
            return tokens.astype(np.int64, copy=False)
        notes.append(f"read as 2^53 tokens: {count_of(endless, 'length')} beyond that")
        return np.minimum(tokens, MOST_TOKENS).astype(np.int64)

    def _from_first(self, times: Array) -> Floats:
        """Seconds since the earliest time; whole nanoseconds are subtracted as such."""
        with np.errstate(over="ignore"):  # infinity is far, too
            since: Floats = (times - times.min()) / UNITS_PER_S[self.unit]
        far = int(since.argmax())
        if not since[far] <= LONGEST_SPAN_S or (self.unit in ("ns", "date") and since.min() < 0):
            time = times[far]
            value = shown(np.datetime64(int(time), "ns") if self.unit == "date" else time)
            raise self.fault(
                far,
                f"{self.form.named(self.form.time or '')} = {value} is more than ten years after "
                f"the earliest, expected a trace of less; times were read as {self.unit}",
            )
        return since

    def _prefixes(
        self, prompts: Ints, ids: str | None, block_tokens: int | None, notes: list[str]
    ) -> Prefixes | None:
        if self.identities:
            columns = {name: self.column(name).astype(np.int64) for name in self.identities}
            self._check_identities(prompts, columns)
            return prompt_prefixes(prompts, **columns)
        if ids is None or self.rows.ids is None:
            if block_tokens is not None and ids is not None:
                notes.append("trace_block_tokens has no effect: no block has an identity")
            return None
        if self.form.blocks is None:
            return prefixes_of_tokens(self.rows.ids, prompts)
        try:
            prefixes, tokens = prefixes_of_blocks(
                self.rows.ids, prompts, self.form.block_tokens, block_tokens
            )
        except BlocksError as error:
            raise self.fault(
                error.row,
                f"{ids}: {error}; set workload.trace_block_tokens, or "
                "engine.enable_prefix_caching: false to do without",
            ) from None
        notes.append(f"{ids} of blocks of {tokens} tokens")
        return prefixes

    def _check_identities(self, prompts: Ints, columns: dict[str, Ints]) -> None:
        """Refuse prefixes longer than their prompts, and prompts of several lengths."""
        if "prefix_tokens" in columns:
            long = np.flatnonzero(columns["prefix_tokens"] > prompts)
            if len(long):
                row = int(long[0])
                raise self.fault(
                    row,
                    f"prefix_tokens = {columns['prefix_tokens'][row]}, expected at most the "
                    f"{prompts[row]} tokens of the prompt",
                )
        if "prompt_id" not in columns:
            return
        within = columns.get("prefix_id", np.zeros_like(prompts))
        pairs = np.stack((within, columns["prompt_id"]), axis=1)
        _, first, number = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
        before = first[number.reshape(-1)]
        other = np.flatnonzero(prompts != prompts[before])
        if len(other):
            row = int(other[0])
            raise self.fault(
                row,
                f"prompt_id = {columns['prompt_id'][row]} has {prompts[row]} prompt tokens here "
                f"and {prompts[before[row]]} in an earlier row, expected one length of one prompt",
            )


def _note_images(images: Array, notes: list[str]) -> None:
    total = int(images.sum())
    if total:
        notes.append(
            f"images are not modelled: {total:,} dropped from "
            f"{count_of(int(np.count_nonzero(images)), 'request')}, ContextTokens are replayed"
        )


def _unit(source: Source, form: TraceFormat, given: Unit | None) -> str:
    """Return the unit that times are read in."""
    if form.time is None:
        return "s"
    unit: str = form.time_unit
    if unit.startswith("date or "):
        name = form.named(form.time)
        first = next(source.rows([name]), (0, {}))[1].get(name)
        unit = unit.removeprefix("date or ") if is_number(first) else "date"
    if unit == "given" and given is None:
        raise TraceError(
            f"{source.path}: {form.named(form.time)} holds numbers, expected "
            "workload.trace_time_unit: s, ms, us or ns beside the trace"
        )
    if given is None:
        return unit
    if unit == "date":
        raise TraceError(
            f"{source.path}: trace_time_unit = {given!r}, but {form.named(form.time)} holds dates, "
            "expected numbers"
        )
    return given


def _ids_key(source: Source, form: TraceFormat) -> str | None:
    for key in (form.blocks, form.token_ids):
        if key is not None and form.named(key) in source.names:
            return form.named(key)
    return None


def _links(source: Source, form: TraceFormat, wanted: bool, by_time: bool) -> Sequence[str]:
    """Return the columns that say who waits for whom.

    Raises:
        TraceError: they are not wanted, and without them some rows have no time.
    """
    if not wanted:
        if by_time and UNTIMED in source.names:
            raise TraceError(
                f"{source.path}: its turns are asked after the answer before, expected "
                "trace_sessions: {} beside trace"
            )
        return ()
    linked = form.linked
    if not linked.told_by(source.names):
        return ()
    return [name for name in linked.columns() if name in source.names]


def _identity_names(source: Source, form: TraceFormat) -> dict[str, str]:
    """Return which of the format's columns of prompt identities a file has.

    Raises:
        TraceError: prefix_id or prefix_tokens stands alone.
    """
    names = {name: form.named(name) for name in form.identities if name in form.aliases}
    if ("prefix_id" in names) != ("prefix_tokens" in names):
        raise TraceError(
            f"{source.names_at}: prefix_id and prefix_tokens belong together, expected both"
        )
    return names


def _fields(
    source: Source, form: TraceFormat, unit: str, identities: dict[str, str]
) -> list[Field]:
    """Return what is to be read of every row."""
    fields: list[Field] = [Whole(form.named(form.prompt)), Whole(form.named(form.output))]
    if form.time is not None:
        fields.append(time_field(form.named(form.time), unit))
    if form.always_one is not None:
        fields.append(Whole(form.named(form.always_one), 1, 1))
    fields += [Whole(name, smallest=0) for name in identities.values()]
    if form.images in form.aliases:
        fields.append(Whole(form.named(form.images or ""), smallest=0))
    return fields
