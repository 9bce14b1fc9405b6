"""Wild inputs: what is valid, with a few things about it that are not."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from experiments.study.document import Study
from experiments.study.schema import all_keys

THOROUGH = settings.default is not None and settings.default.max_examples > 100
KINDS = 9
"""Tests that share the examples."""


def share() -> settings:
    """A test's part: of 200 examples, the same each time, or of the profile's number, new ones."""
    examples = settings.default.max_examples if THOROUGH and settings.default else 200
    return settings(
        max_examples=examples // KINDS, deadline=None, derandomize=not THOROUGH, database=None
    )


BASE: dict[str, Any] = {
    "name": "wild",
    "model": "gpt2",
    "cluster": {"gpu": "l4", "replicas": 2, "router": "random"},
    "engine": {"max_num_seqs": 4},
    "client": {"max_concurrency": 8},
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 20},
        "lengths": {
            "prompt": {"distribution": "uniform", "min": 5, "max": 50},
            "output": {"distribution": "lognormal", "mean": 8, "cv": 0.5, "max": 40},
        },
        "num_requests": 12,
    },
    "slo": {"ttft_s": 1.0},
    "seeds": 2,
    "sweep": {"engine.block_size": [16, 32]},
}

ARRIVALS: tuple[dict[str, Any], ...] = (
    {"process": "gamma", "rate_per_s": 5, "cv": 2},
    {"process": "deterministic", "rate_per_s": 5},
    {"process": "all_at_once"},
    {"process": "on_off", "rate_on_per_s": 9, "mean_on_s": 1, "mean_off_s": 2},
    {"process": "markov", "rates_per_s": [1, 9], "mean_dwell_s": [1, 2]},
    {"process": "piecewise", "steps": [{"duration_s": 2, "rate_per_s": 5}], "repeat": True},
    {"process": "diurnal", "mean_rate_per_s": 5, "peak_to_trough": 3, "period_s": 60},
    {"process": "closed_loop", "users": 3, "think_s": 0.5, "think_law": "exponential"},
)

numbers = st.one_of(
    st.sampled_from([0, 1, 2, 3, 7, -1, 0.0, -0.0, 0.5, 1.0, 1.5, 90, 1e-300, 5e-324, 1e-9]),
    st.sampled_from([1e300, 1e308, 2**31, 2**53, 2**63, 2**64, 10**18, 10**30, 10**9 + 1]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.floats(allow_nan=False, width=64),
)
words = st.one_of(
    st.sampled_from(
        ["", " ", ".", "..", "/", "~", "a" * 300, "x" * 5000, "null", "true", "1", "1e3", "0x10"]
    ),
    st.sampled_from(["\x1b[31mred\x1b[0m", "a\nb", "a\tb", "\u202egpu", "$x$^", "[/x]", "%s", "é"]),
    st.sampled_from(["static", "fcfs", "fp8", "auto", "calibrated", "vllm", "l40s", "opt-125m"]),
    st.sampled_from(["/dev/zero", "/dev/full", "/proc/self/mem", "/etc/shadow", "wild.yaml"]),
    st.text(max_size=12),
)
scalars = st.one_of(numbers, words, st.none(), st.booleans())
values = st.recursive(
    scalars,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3), st.dictionaries(words, inside, max_size=3)
    ),
    max_leaves=5,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a value below the root."""
    parts = data.items() if isinstance(data, dict) else enumerate(data)
    for part, value in parts:
        yield (*path, part)
        if isinstance(value, dict | list):
            yield from places(value, (*path, part))


@st.composite
def changed(draw: st.DrawFn, base: Any, keys: tuple[str, ...] = ()) -> Any:
    """``base`` with up to three values replaced, left out, renamed, or added at one of ``keys``."""
    data = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        here = list(places(data))
        if not here:
            return data
        if keys and draw(st.booleans()):
            put(data, draw(st.sampled_from(keys)), draw(scalars | values))
            continue
        *parents, last = draw(st.sampled_from(here))
        parent = data
        for part in parents:
            parent = parent[part]
        change = draw(st.sampled_from(["replace", "replace", "remove", "rename", "wrap"]))
        if change == "replace":
            parent[last] = draw(scalars | values)
        elif change == "remove":
            del parent[last]
        elif change == "wrap":
            parent[last] = [parent[last]]
        elif isinstance(parent, dict):
            value = parent.pop(last)
            parent[draw(words | st.just(f"{last}s"))] = value
    return data


def put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making sections on the way."""
    *sections, last = key.split(".")
    for section in sections:
        inside = data.get(section)
        data[section] = data = inside if isinstance(inside, dict) else {}
    data[last] = value


STUDY_KEYS = tuple(
    dict.fromkeys(
        key
        for arrivals in ({}, *ARRIVALS)
        for key in all_keys(Study, {**BASE, "workload": {**BASE["workload"], "arrivals": arrivals}})
    )
)
"""Every dotted key of the schema."""


@st.composite
def studies(draw: st.DrawFn) -> dict[str, Any]:
    """A study of any process of arrivals, changed; or a sweep of anything."""
    base = copy.deepcopy(BASE)
    if draw(st.booleans()):
        base["workload"]["arrivals"] = draw(st.sampled_from(ARRIVALS))
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(STUDY_KEYS) | words)
        base["sweep"] = {key: draw(st.lists(scalars, max_size=3))}
    data: dict[str, Any] = draw(changed(base, STUDY_KEYS))
    return data


def as_yaml(data: Any) -> str:
    """JSON is YAML, but for NaN and infinities."""
    text = json.dumps(data)
    for theirs, ours in (("-Infinity", "-.inf"), ("Infinity", ".inf"), ("NaN", ".nan")):
        text = text.replace(theirs, ours)
    return text


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with a few bytes changed, cut or doubled."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["flip", "flip", "cut", "double", "insert"]))
        if kind == "flip":
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[at : at + draw(st.sampled_from([1, 3, 40, len(data)]))]
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 60))]
        else:
            data[at:at] = draw(st.sampled_from([b"\0", b"\t", b"\n", b"&a *a", b": ", b"[", b'"']))
    return bytes(data)
