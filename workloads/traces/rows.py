"""From a file's rows to columns: fast when all of them are sound, exact about the row when not."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.traces.blocks import Id, Ids
from workloads.traces.errors import TraceError, shown
from workloads.traces.fields import LARGE, Array, Field, Real, Whole
from workloads.traces.format import TraceFormat
from workloads.traces.source import Row, Source, UnsoundError

MOST_ROWS = 30_000_000
"""Requests of a file; a week of Azure's busiest service has 27 million."""
AT_ONCE = 4096
"""Rows that are looked at together, where columns cannot be read as such."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The columns of the requests that count, in the file's order."""

    values: list[Array]
    """One for each field that was asked for."""
    ids: list[list[Id]] | None
    """Identities of each prompt's blocks or tokens, if the file has them and they are wanted."""
    left_out: dict[str, int]
    """How many rows do not count, by reason."""
    links: dict[str, list[object]]
    """What further columns hold, as it is; None where a row has it not."""


def read_rows(
    source: Source,
    form: TraceFormat,
    fields: Sequence[Field],
    ids: str | None,
    links: Sequence[str] = (),
) -> Rows:
    """Read the fields of every request, and the identities under the key ``ids`` if it is one.

    ``links`` are further columns, whose values are kept as they are.

    Raises:
        TraceError: a malformed row, as 'FILE:LINE: ...', too many rows, or none.
    """
    slow = ids or links or form.failures or form.without_lengths
    rows = None if slow else _fast(source, form, fields)
    rows = rows or _thorough(source, form, fields, ids, links)
    if not len(rows.values[0]):
        if not rows.left_out:
            raise TraceError(f"{source.path}: holds no rows")
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.left_out.items())
        raise TraceError(f"{source.path}: every row is left out: {reasons}")
    return rows


def place_of(source: Source, form: TraceFormat, fields: Sequence[Field], index: int) -> str:
    """Return FILE:LINE of the request at ``index``, counted without those left out."""
    for number, (place, _) in enumerate(_requests(source, form, fields, (), Counter())):
        if number == index:
            return source.where(place)
    return str(source.path)


def _fast(source: Source, form: TraceFormat, fields: Sequence[Field]) -> Rows | None:
    """Read whole columns; None when a row is in need of a closer look."""
    output = form.named(form.output)
    at_output = next(place for place, field in enumerate(fields) if field.name == output)
    parts: list[list[Array]] = []
    count, left_out = 0, 0
    try:
        for columns in source.columns(_lenient(form, fields)):
            served: slice | npt.NDArray[np.bool_] = slice(None)
            if form.zero_output:
                kept = columns[at_output] > 0
                left_out += len(kept) - int(kept.sum())
                served = kept
            part = [column[served] for column in columns]
            if not all(_sound(field, column) for field, column in zip(fields, part, strict=True)):
                return None
            if form.zero_output and columns[at_output].min(initial=0) < 0:
                return None
            count += len(part[0])
            _check_count(source, count)
            parts.append(part)
    except UnsoundError:
        return None
    values = [np.concatenate(column) for column in zip(*parts, strict=True)]
    empty: list[Array] = [np.empty(0, dtype=np.int64) for _ in fields]
    return Rows(values or empty, None, {form.zero_output: left_out} if left_out else {}, {})


def _sound(field: Field, values: Array) -> bool:
    if isinstance(field, Whole):
        return not len(values) or bool(
            values.min() >= field.smallest and values.max() <= field.largest
        )
    return values.dtype != np.float64 or bool(np.all((values >= 0) & (values < np.inf)))


def _lenient(form: TraceFormat, fields: Sequence[Field]) -> list[Field]:
    """Let outputs be zero where that means something."""
    output = form.named(form.output) if form.zero_output else None
    return [Whole(field.name, smallest=0) if field.name == output else field for field in fields]


def _thorough(
    source: Source,
    form: TraceFormat,
    fields: Sequence[Field],
    ids: str | None,
    links: Sequence[str],
) -> Rows:
    """Read row by row, or many at once where they are sound: the first malformed row is named.

    Raises:
        TraceError: that row.
    """
    told: dict[str, list[object]] = {name: [] for name in links}
    arrays: list[Any] = [array(field.code) for field in fields]
    lists: list[list[Id]] = []
    left_out: Counter[str] = Counter()
    more = (*links, *(() if ids is None else (ids,)))
    identities, count = Ids(ids or ""), 0
    for rows, fault in _batches(_requests(source, form, fields, more, left_out)):
        plain = _plain(fields, [row for _, row in rows])
        for number, (place, row) in enumerate(rows, start=count):
            for field, values in zip(fields, arrays, strict=True) if plain is None else ():
                values.append(_parsed(source, place, row, field))
            if ids is not None and (ids in row or lists):
                if ids not in row or len(lists) != number:
                    raise TraceError(
                        f"{source.where(place)}: {ids} must be in every row or in none"
                    )
                lists.append(_parsed(source, place, row, identities))
        for values, column in zip(arrays, plain or (), strict=plain is not None):
            values.extend(column)
        for name, further in told.items():
            further.extend(row.get(name) for _, row in rows)
        count += len(rows)
        _check_count(source, count)
        if fault is not None:
            raise fault
    columns: list[Array] = [_as_numpy(one) for one in arrays]
    return Rows(columns, lists or None, dict(left_out), told)


def _batches(
    rows: Iterator[tuple[int, Row]],
) -> Iterator[tuple[list[tuple[int, Row]], TraceError | None]]:
    """Give rows many at a time, and what ended them early: rows before it go first."""
    fault: TraceError | None = None
    while fault is None:
        batch: list[tuple[int, Row]] = []
        try:
            for row in islice(rows, AT_ONCE):
                batch.append(row)
        except TraceError as error:
            fault = error
        if not batch and fault is None:
            return
        yield batch, fault


def _plain(fields: Sequence[Field], rows: Sequence[Row]) -> list[list[Any]] | None:
    """Return the values of each field where all are numbers as they should be; None otherwise."""
    columns = []
    for field in fields:
        values: list[Any] = [row.get(field.name) for row in rows]
        kinds = set(map(type, values))
        if isinstance(field, Whole):
            sound = kinds == {int} and all(
                field.smallest <= value <= field.largest for value in values
            )
        else:
            sound = isinstance(field, Real) and kinds <= {int, float}
            sound = sound and all(0 <= value < LARGE for value in values)
        if not sound:
            return None
        columns.append(values)
    return columns


def _as_numpy(values: Any) -> Array:
    if values.typecode == "q":
        return np.frombuffer(values, dtype=np.int64)
    return np.frombuffer(values, dtype=np.float64)


def _requests(
    source: Source,
    form: TraceFormat,
    fields: Sequence[Field],
    more: Sequence[str],
    left_out: "Counter[str]",
) -> Iterator[tuple[int, Row]]:
    """Yield place and values of every row that counts; count the others by reason."""
    prompt, output = form.named(form.prompt), form.named(form.output)
    failures = [(one, form.named(one.column)) for one in form.failures]
    failures = [(one, name) for one, name in failures if name in source.names]
    names = dict.fromkeys([field.name for field in fields] + [name for _, name in failures])
    zero = Whole(output, smallest=0)
    for place, row in source.rows([*names, *more]):
        failed = next((one for one, name in failures if _fails(one.sound, row.get(name))), None)
        if failed is not None:
            left_out[failed.reason] += 1
        elif form.without_lengths and row.get(prompt) is None and row.get(output) is None:
            left_out[form.without_lengths] += 1
        elif form.zero_output and _parsed(source, place, row, zero) == 0:
            left_out[form.zero_output] += 1
        else:
            yield place, row


def _fails(sound: tuple[object, ...], value: object) -> bool:
    return value is not None and value != "" and value not in sound


def _parsed(source: Source, place: int, row: Row, field: Field | Ids) -> Any:
    try:
        return field.parse(row[field.name])
    except KeyError:
        what = f"{field.name} is missing, expected {field.expected}"
    except ValueError as error:
        what = f"{field.name} = {shown(row[field.name])}, expected {error}"
    raise TraceError(f"{source.where(place)}: {what}")


def _check_count(source: Source, count: int) -> None:
    if count > MOST_ROWS:
        raise TraceError(f"{source.path}: holds more than {MOST_ROWS:,} rows, expected less")
