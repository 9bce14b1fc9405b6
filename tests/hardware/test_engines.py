"""An engine's constants by version, together with the kernels of any GPU."""

import numpy as np
import pytest

from hardware.calibration import (
    Calibration,
    UnknownCalibrationError,
    calibration_names,
    load_calibration,
)
from hardware.engines.constants import (
    best_calibration,
    constants_named,
    constants_of,
    doubted,
    engine_calibration,
    engine_calibration_names,
    engine_constants,
    version_of,
)
from hardware.engines.versions import version_key
from hardware.gpu import gpu_names, load_gpu
from model.spec import load_spec


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0.15.1", (0, 15, 1)),
        ("v0.8", (0, 8)),
        ("~2025-05 (vllm 0.8.x)", (0, 8)),
        ("0.23.0 (+residency patch)", (0, 23, 0)),
        ("nightly", ()),
        ("", ()),
    ],
)
def test_versions_are_found_among_words(text: str, key: tuple[int, ...]) -> None:
    assert version_key(text) == key


def test_the_last_constants_that_began_before_a_version_hold() -> None:
    names = list(engine_constants())
    since = [version_key(each.since) for each in engine_constants().values()]
    assert since == sorted(since)
    assert constants_of("0.1") == names[0]
    assert constants_of("99.0") == names[-1]
    assert constants_of("") == names[-1]
    for name, each in engine_constants().items():
        assert constants_of(each.since) == name


@pytest.mark.parametrize("gpu", gpu_names())
def test_every_gpu_of_the_catalogue_has_prices_and_says_whose(gpu: str) -> None:
    calibration = engine_calibration("vllm", load_gpu(gpu))
    assert calibration.kernels is not None
    own = calibration.kernels.gpu == gpu
    assert own is ("borrowed" not in calibration.name)
    assert own is ("borrowed from" not in calibration.source)


def test_a_file_by_its_name_has_the_constants_of_the_engine_that_it_names() -> None:
    """``calibration: h100-sxm`` is no older than ``vllm-0.15``."""
    newest = engine_constants()["vllm-0.15"]
    measured = [load_calibration(name) for name in calibration_names()]
    bundled = [each for each in measured if each.kernels is not None]
    assert len(bundled) >= 9
    for each in bundled:
        assert {name: getattr(each, name) for name in newest.values} == newest.values, each.name
        assert each.source.endswith(newest.source)
        assert engine_calibration("vllm-0.15", load_gpu(each.name)).source == each.source


@pytest.mark.parametrize("name", engine_calibration_names())
def test_constants_replace_those_of_the_file(name: str) -> None:
    calibration = engine_calibration(name, load_gpu("h100-sxm"))
    chosen = name if name in engine_constants() else constants_of("")
    for parameter, value in engine_constants()[chosen].values.items():
        assert getattr(calibration, parameter) == value


@pytest.mark.parametrize("gpu", ["a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "l40s"])
def test_bundled_kernels_predict_shapes_they_have_not_seen(gpu: str) -> None:
    kernels = engine_calibration("vllm", load_gpu(gpu)).kernels
    assert kernels is not None
    for operator, check in kernels.held_out.items():
        if operator.startswith(("gemm", "decode", "all-reduce")):
            assert check.median <= 0.08, operator


def test_unknown_names_and_gpus_are_refused() -> None:
    with pytest.raises(UnknownCalibrationError, match="calibration = 'sglang': expected vllm"):
        engine_calibration("sglang", load_gpu("h100-sxm"))
    figures = load_gpu("h100-sxm").model_dump() | {"name": "mystery"}
    custom = load_gpu(figures)
    with pytest.raises(UnknownCalibrationError, match="no measured kernels for gpu mystery"):
        engine_calibration("vllm", custom)


def test_a_mapping_has_the_kernels_of_the_gpu_it_is_like_whatever_its_name() -> None:
    mapped = load_gpu({"like": "l40s", "name": "l20", "bandwidth_bytes_per_s": 864e9})
    plain = engine_calibration("vllm", load_gpu("l40s"))
    calibration = engine_calibration("vllm", mapped)
    assert calibration.kernels == plain.kernels
    assert calibration.name.endswith("on l20 (borrowed)")
    twice = engine_calibration("vllm", load_gpu({"like": "rtx-4090", "name": "mine"}))
    assert twice.source.startswith("kernels borrowed from l40s")


def test_auto_is_what_is_known_best() -> None:
    l40s, mapped = load_gpu("l40s"), load_gpu({"like": "rtx-4090", "name": "mine"})
    assert best_calibration("0.33", l40s, "bf16") == "vllm-0.23"
    assert best_calibration("0.9.2", mapped, "fp8") == "vllm-0.8"
    assert best_calibration("0.33", l40s, "fp32") == "none"
    custom = load_gpu(l40s.model_dump() | {"name": "mystery"})
    assert best_calibration("0.33", custom, "bf16") == "none"


@pytest.mark.parametrize(
    ("name", "chosen", "version"),
    [
        ("vllm", "vllm-0.23", ""),
        ("VLLM-0.8", "vllm-0.8", "0.8"),
        ("vllm-0.6", "vllm-0.6", "0.6"),
        ("none", None, ""),
        ("h100-sxm", None, ""),
    ],
)
def test_names_of_calibrations_tell_constants_and_version(
    name: str, chosen: str | None, version: str
) -> None:
    named = constants_named(name)
    assert (named[0] if named else None) == chosen
    assert version_of(name) == version


def test_prices_are_less_certain_the_further_from_the_fit() -> None:
    def spread(gpu: str) -> float:
        covariance = engine_calibration("vllm-0.15", load_gpu(gpu)).covariance
        assert covariance is not None
        place = covariance.parameters.index("gemm_share")
        return float(covariance.matrix[place][place] ** 0.5)

    assert spread("h100-sxm") < spread("a100-80gb-sxm") == spread("l40s") < spread("rtx-4090")
    drawn = engine_calibration("vllm-0.15", load_gpu("l40s")).draw(np.random.default_rng(0))
    assert drawn.gemm_share != 1.0


def spread(calibration: Calibration, name: str) -> float:
    """Relative standard error of a parameter."""
    assert calibration.covariance is not None
    place = calibration.covariance.parameters.index(name)
    error: float = calibration.covariance.matrix[place][place] ** 0.5
    return error / float(getattr(calibration, name))


def test_errors_grow_with_the_distance_from_what_was_fitted() -> None:
    gpus = ("h100-sxm", "a100-80gb-sxm", "l4")  # fitted, with kernels, borrowed
    near, far, borrowed = (engine_calibration("vllm-0.15", load_gpu(gpu)) for gpu in gpus)
    for name in ("gemm_share", "attention_decode_bytes"):
        assert spread(near, name) < spread(far, name) < spread(borrowed, name)
    assert spread(near, "layer_overhead_s") < spread(far, "layer_overhead_s")
    dense, experts = load_spec("llama-3.1-8b"), load_spec("mixtral-8x7b")
    assert spread(doubted(near, dense, "0.15.1"), "gemm_share") == spread(near, "gemm_share")
    other_version = spread(doubted(near, dense, "0.18"), "gemm_share")
    assert spread(near, "gemm_share") < other_version
    assert other_version < spread(doubted(near, experts, "0.18"), "gemm_share")
    plain = load_calibration("none")
    assert doubted(plain, experts, "0.18") is plain
    small = doubted(near, dense, "0.15.1", kv_bytes=1.0)
    assert spread(small, "attention_decode_bytes") > spread(near, "attention_decode_bytes")
