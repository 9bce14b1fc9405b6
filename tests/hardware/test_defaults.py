"""What versions of vLLM do by default on a GPU."""

from dataclasses import fields

import pytest

from hardware.engines.defaults import (
    check_version,
    engine_defaults,
    nearest_version,
    newest_version,
)
from hardware.engines.table import Defaults, Memory, vllm
from hardware.engines.versions import Dated, version_key
from hardware.gpu import load_gpu

H20 = {"like": "h100-sxm", "name": "h20", "memory_bytes": 95 * 2**30}
GB10 = {"like": "h100-sxm", "name": "gb10", "memory_bytes": 119 * 2**30}


@pytest.mark.parametrize(
    ("version", "gpu", "seqs", "tokens"),
    [
        ("0.6.0", "h100-sxm", 256, 512),
        ("0.6.6", "h100-sxm", 256, 2048),
        ("0.8.4", "h100-sxm", 1024, 8192),
        ("0.8.4", "a100-80gb-sxm", 256, 2048),  # by name until 0.8.5, by memory from there on
        ("0.8.4", "mi300x", 256, 2048),
        ("0.8.5", "mi300x", 1024, 8192),
        ("0.8.5", "a100-80gb-sxm", 1024, 8192),  # the exception came with 0.9
        ("0.9.2", "a100-80gb-sxm", 256, 2048),
        ("0.9.2", "l40s", 256, 2048),
        ("0.27.1", "b200-sxm", 1024, 8192),
        ("0.28", "b200-sxm", 1024, 16384),
        ("0.33", "mi300x", 1024, 16384),
        ("0.33", "h100-sxm", 1024, 8192),
        ("0.33", "h200-sxm", 1024, 8192),
        ("0.33", H20, 1024, 8192),
        ("0.27", GB10, 1024, 8192),
        ("0.33", GB10, 256, 2048),
        ("0.33", {"like": "a100-80gb-sxm", "memory_bytes": 85 * 2**30}, 256, 2048),
        ("0.33", {"like": "l40s", "memory_bytes": 71 * 2**30}, 1024, 8192),
    ],
)
def test_seats_and_budget_go_by_memory_and_kind(
    version: str, gpu: str | dict[str, object], seqs: int, tokens: int
) -> None:
    found = engine_defaults(version, load_gpu(gpu))
    assert (found.max_num_seqs, found.chunk_tokens) == (seqs, tokens)


def test_what_changed_with_versions() -> None:
    def values(name: str, *versions: str) -> list[object]:
        return [getattr(engine_defaults(one, load_gpu("l40s")), name) for one in versions]

    assert values("gpu_memory_utilization", "0.6.0", "0.19.1", "0.20.0", "0.33") == [
        0.9, 0.9, 0.92, 0.92,
    ]  # fmt: skip
    assert values("enable_prefix_caching", "0.7.3", "0.8.5") == [False, True]
    assert values("async_scheduling", "0.13.0", "0.14.0") == [False, True]
    assert values("scheduler_reserve_full_isl", "0.18.1", "0.19.0") == [False, True]
    assert values("null_block", "0.7.3", "0.8.5") == [False, True]
    assert values("long_prefill_limits_alone", "0.30", "0.31.0") == [True, False]
    assert values("watermark", "0.6.6", "0.9.2") == [0.01, 0.0]
    assert values("chunked_prefill_from_tokens", "0.6.6", "0.9.2") == [32768, 0]


def test_versions_compare_by_their_numbers() -> None:
    row = Dated[int](source="a test", since={"0.5": 1, "0.9": 2, "0.10": 3, "0.10.2": 4})
    held = ("0.1", "0.9.2", "0.10.1", "0.10.2", "1.0")
    assert [row.at(version_key(version)) for version in held] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize("part", [vllm().defaults, vllm().memory])
def test_every_row_ascends_and_begins_with_the_oldest_version(part: Defaults | Memory) -> None:
    for name in (each.name for each in fields(part)):
        row = getattr(part, name)
        keys = [version_key(since) for since in row.since]
        assert keys == sorted(keys), name
        assert keys[0] == version_key(vllm().oldest), name
        assert row.source, name


@pytest.mark.parametrize("text", ["0.33", "v0.11.0", " 0.6.3 "])
def test_versions_that_are_modelled(text: str) -> None:
    assert check_version(text) == text.strip().removeprefix("v")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.34", "newer than what is modelled, expected one of vLLM from '0.5' to '0.33'"),
        ("0.4.2", "not modelled, expected one of vLLM from '0.5' to '0.33'"),
        ("latest", "expected one of vLLM from '0.5' to '0.33', such as '0.33'"),
        ("33", "expected one of vLLM"),
        ("0.8.x", "expected one of vLLM"),
    ],
)
def test_versions_that_are_not(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_version(text)


def test_the_nearest_version_of_a_run() -> None:
    assert nearest_version((0, 15, 1)) == "0.15.1"
    assert nearest_version(None) == nearest_version((0, 40)) == newest_version()
    assert nearest_version((0, 2)) == vllm().oldest
