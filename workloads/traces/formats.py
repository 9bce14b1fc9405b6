"""The registry of trace formats, and how the names in a file tell which one it is.

Names are compared as they are, then without case, blanks, ``_`` and ``-``. Further columns are
allowed and ignored. Where two formats would do, the one with arrival times is meant.
"""

import difflib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from workloads.traces import agents, clients, clouds, logs, simulators, tables, usual
from workloads.traces.errors import TraceError, listed
from workloads.traces.format import TraceFormat
from workloads.traces.usual import plain

FORMATS: tuple[TraceFormat, ...] = (
    *tables.FORMATS,
    *clouds.FORMATS,
    *agents.FORMATS,
    *simulators.FORMATS,
    *clients.FORMATS,
    *logs.FORMATS,
    *tables.LENGTHS,
    *clouds.LENGTHS,
    *simulators.LENGTHS,
    *clients.LENGTHS,
)
NEAR = 0.8
"""Likeness (of difflib) from which on a column is a misspelt other one."""
USUAL = (usual.TABLE, usual.LENGTHS)
"""What has none of these, and columns of usual names."""
FORMAT_NAMES = tuple(dict.fromkeys(form.name for form in (*FORMATS, *USUAL)))
TEXTS = "text, whose length in tokens only a tokenizer knows"
UNREAD: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"conversations"}), f"conversations of ShareGPT hold {TEXTS}"),
    (frozenset({"messages"}), f"messages hold {TEXTS}"),
    (frozenset({"prompt"}), f"prompts hold {TEXTS}"),
    (frozenset({"text_input"}), f"text_input holds {TEXTS}"),
)
"""Keys of files that are known and cannot be replayed, and why."""
WINDOWS = (
    "holds windows of a ServeGen client (start, rate, cv, ...) or values without names, expected "
    "a header; of a folder of clients workload.clients: {path: FOLDER} draws the requests"
)


def find_format(names: Sequence[str], name: str = "auto") -> TraceFormat:
    """Return the format called ``name``, or for "auto" the one that a file's ``names`` belong to.

    Raises:
        TraceError: ``name`` or the names are unknown, or lack columns of ``name``.
    """
    if name == "auto":
        known = [form for form in (recognised(names), usual.usual_format(names)) if form]
        if not known:
            raise TraceError(_unknown(names))
        return next((form for form in known if form.time is not None), known[0])
    if name not in FORMAT_NAMES:
        near = difflib.get_close_matches(name, FORMAT_NAMES, n=1)
        hint = f"; nearest: {near[0]}" if near else ""
        raise TraceError(
            f"format {name!r} is unknown, expected auto or one of {', '.join(FORMAT_NAMES)}{hint}"
        )
    layouts = [form for form in (*FORMATS, *USUAL) if form.name == name]
    found = recognised(names, layouts)
    if layouts[0] in USUAL:
        found = usual.usual_format(names)
    if found is None:
        if layouts[0] in USUAL and (twice := usual.said_twice(names)):
            raise TraceError(f"format {name}: {twice}")
        form = min(layouts, key=lambda one: len(_missing(one, names)))
        raise TraceError(
            f"format {name} needs {', '.join(form.columns())}; "
            f"missing: {', '.join(_missing(form, names))}"
        )
    return found


def recognised(
    names: Sequence[str], formats: Sequence[TraceFormat] = FORMATS
) -> TraceFormat | None:
    """Return the format that names belong to, with what the file calls its columns; or none."""
    exact = set(names)
    for form in formats:
        if exact.issuperset(form.columns()):
            return replace(form, aliases=_aliases(form, {name: name for name in names}))
    known = {plain(name): name for name in reversed(names)}
    for form in formats:
        if known.keys() >= {plain(column) for column in form.columns()}:
            return replace(form, aliases=_aliases(form, known))
    return None


def unread(names: Collection[str]) -> str | None:
    """Return why files with these keys are known and cannot be replayed; None for all others."""
    return next((words for keys, words in UNREAD if keys <= set(names)), None)


def check_once(form: TraceFormat, names: Sequence[str]) -> None:
    """Refuse a file that has a needed column twice. Raises TraceError."""
    counts = Counter(map(plain, names))
    for column in form.aliases:
        if counts[plain(column)] > 1:
            raise TraceError(f"column {form.named(column)!r} must be in the header once")


def _aliases(form: TraceFormat, names: dict[str, str]) -> dict[str, str]:
    optional = (form.blocks, form.token_ids, form.images)
    columns = (
        *form.columns(),
        *form.identities,
        *(one.column for one in form.failures),
        *(name for name in optional if name),
    )
    found = {column: names.get(column) or names.get(plain(column)) for column in columns}
    return {column: name for column, name in found.items() if name is not None}


def _missing(form: TraceFormat, names: Sequence[str]) -> list[str]:
    known = set(map(plain, names))
    return [column for column in form.columns() if plain(column) not in known]


def _unknown(names: Sequence[str]) -> str:
    """Say that no format has these columns, which there are, and which comes near."""
    if not names:
        return "holds no rows"
    if any(re.fullmatch(r"[0-9]+\.input_tokens", name) for name in names):
        return WINDOWS
    if words := unread(names):
        return f"{words}; or count tokens and write arrival_s, prompt_tokens, output_tokens"
    if sum(_is_value(name) for name in names) * 2 > len(names):
        return WINDOWS
    if twice := usual.said_twice(names):
        return twice
    there = listed(list(names))
    lacking = [(form, _slips(form, names)) for form in FORMATS]
    nearest, slips = min(lacking, key=lambda one: _share(one[1], one[0]))
    near = ""
    if len(nearest.columns()) - len(slips) >= 2 or all(slips.values()):
        told = (f"{name} (is it {slip}?)" if slip else name for name, slip in slips.items())
        near = f"; nearest: {nearest.name}, lacking {', '.join(told)}"
    return (
        f"columns of no known trace format: {there}{near}. Expected for example arrival_s, "
        "prompt_tokens, output_tokens; docs/traces.md lists every format"
    )


def _slips(form: TraceFormat, names: Sequence[str]) -> dict[str, str]:
    """Columns that a format needs and a file lacks, each with the file's that is spelt nearly so,
    or with nothing."""
    missing = _missing(form, names)
    others = [name for name in names if plain(name) not in map(plain, form.columns())]
    near = {name: difflib.get_close_matches(name, others, n=1, cutoff=NEAR) for name in missing}
    return {name: found[0] if found else "" for name, found in near.items()}


def _share(slips: dict[str, str], form: TraceFormat) -> tuple[float, int]:
    """How much of a format a file lacks but for slips, and of two alike which has more columns."""
    columns = len(form.columns())
    return sum(not slip for slip in slips.values()) / columns, -columns


def _is_value(name: str) -> bool:
    return not name or re.fullmatch(r"[-+0-9.eE:/ TZ{}]+", name) is not None
