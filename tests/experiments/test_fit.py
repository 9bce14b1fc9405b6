"""Fitting a calibration to measured steps."""

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch")

from experiments.calibrating.fit import Fit, Target, fit, pooled
from experiments.calibrating.kv_cache_latency import predict
from experiments.calibrating.measure import Measurement, Shape, grid, measure
from hardware.calibration import Calibration, load_calibration
from hardware.calibration_file import save_calibration
from hardware.gpu import Gpu
from model.precision import precision
from tests.sim import small

TRUTH = Calibration(
    name="truth", source="made up", gemm_flops=0.6, gemm_bytes=0.4, gemm_overlap=0.5,
    attention_prefill_flops=0.2, attention_prefill_bytes=0.3, attention_decode_bytes=0.25,
    elementwise_bytes=0.5, step_overhead_s=4e-4, sequence_overhead_s=2e-5, chunk_overhead_s=6e-5,
)  # fmt: skip


def target() -> Target:
    gpu = Gpu(
        memory_bytes=2**34, bandwidth_bytes_per_s=3e10, peak_flops_per_s={"fp32": 1e11}, name="host"
    )
    spec = small.tiny_spec(hidden_size=512, num_heads=8, head_dim=64, num_kv_heads=4)
    return Target(spec, gpu, precision("float32"))


@cache
def measured(noise: float, seed: int = 0) -> Fit:
    shapes = grid(8, 200, 128)
    seconds = target().seconds(TRUTH, shapes)
    seconds *= np.exp(np.random.default_rng(seed).normal(0, noise, len(shapes)))
    rows = [Measurement(s, float(t), 5) for s, t in zip(shapes, seconds, strict=True)]
    return fit(target(), rows, name="fitted", source="synthetic")


def test_exact_measurements_are_reproduced() -> None:
    found = measured(0.0)
    assert np.abs(found.errors).max() < 0.01
    assert not found.poor
    # What the grid identifies well comes back itself.
    assert found.calibration.step_overhead_s == pytest.approx(TRUTH.step_overhead_s, rel=0.1)
    assert found.calibration.gemm_flops == pytest.approx(TRUTH.gemm_flops, rel=0.1)


def test_a_fit_to_noise_says_that_it_is_poor() -> None:
    found = measured(0.5)
    assert found.poor
    residuals = found.calibration.residuals
    assert residuals is not None
    assert residuals.mean_absolute > 0.2


def test_the_covariance_tells_how_far_refits_scatter() -> None:
    """The spread of predictions over draws is of the size of that over repeated measurements."""
    shape = [Shape((200,) * 8, ((64, 0),))]
    seeds = (1, 2, 3, 5, 7)  # whose fits take few steps
    refits = [float(target().seconds(measured(0.05, seed).calibration, shape)[0]) for seed in seeds]
    calibration = measured(0.05, 1).calibration
    rng = np.random.default_rng(1)
    drawn = [float(target().seconds(calibration.draw(rng), shape)[0]) for _ in range(40)]
    ratio = np.std(drawn) / np.std(refits, ddof=1)
    assert 0.3 < ratio < 3.0
    assert np.mean(drawn) == pytest.approx(np.mean(refits), rel=0.05)


def test_a_calibration_without_covariance_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="calibration truth has no covariance"):
        TRUTH.draw(np.random.default_rng(0))


def test_a_fit_survives_its_file(tmp_path) -> None:
    found = measured(0.05, 1).calibration
    save_calibration(found, tmp_path / "fitted.yaml")
    assert load_calibration(tmp_path / "fitted.yaml") == found


def test_too_few_shapes_are_refused() -> None:
    rows = [Measurement(Shape((8,)), 1e-3, 5)] * 6
    with pytest.raises(ValueError, match=r"measured shapes cannot determine \d+ parameters"):
        fit(target(), rows, name="x", source="x")


class Slow:
    """A machine on which every step takes 2 ms."""

    def __init__(self) -> None:
        self.timed: list[Shape] = []

    def time_s(self, shape: Shape) -> float:
        begin_s = time.perf_counter()
        time.sleep(0.002)
        self.timed.append(shape)
        return time.perf_counter() - begin_s


def test_a_machine_too_slow_for_the_whole_grid_times_as_much_of_it_as_it_can() -> None:
    shapes = [Shape((context,)) for context in range(1, 1001)]
    slow = Slow()
    found = measure(slow, shapes, budget_s=0.4)
    assert 1 <= len(found) < 100
    assert all(one.repeats >= 3 and one.seconds >= 0.002 for one in found)
    assert {one.shape for one in found} <= set(slow.timed)
    assert len(set(slow.timed)) < 100  # nothing was timed once, and dropped


def test_the_grid_covers_its_limits() -> None:
    shapes = grid(16, 400, 256)
    assert max(len(s.contexts) for s in shapes) == 16
    assert max(max(s.contexts, default=0) for s in shapes) == 400
    assert max(s.tokens for s in shapes) == 256
    assert all(past + chunk <= 400 for s in shapes for chunk, past in s.chunks)
    assert len(set(shapes)) == len(shapes)


def test_generation_with_a_cache_is_linear_and_without_quadratic() -> None:
    price = target().price(TRUTH, [Shape((), ((600, 0),))])
    cached, uncached = (predict(price, 10, 500, kind) for kind in (True, False))
    assert cached[0] == uncached[0] == price.step_s(0, 0, [(10, 0)])
    assert cached[2] - cached[1] == pytest.approx(price.step_s(1, 12, ()))
    assert uncached[2] - uncached[1] == pytest.approx(price.step_s(0, 0, [(12, 0)]))
    tokens = np.arange(500)
    linear, quadratic = np.polyfit(tokens, cached, 2), np.polyfit(tokens, uncached, 2)
    assert quadratic[0] > 20 * abs(linear[0])
    speed_up = uncached / cached
    assert (np.diff(speed_up[5:]) > 0).all()


def test_a_drift_between_two_measurements_cancels() -> None:
    exact = measured(0.0)
    exact_times = exact.measurements[::2]
    slower, faster = (
        replace(
            exact,
            calibration=exact.calibration.model_copy(update={"name": name}),
            measurements=tuple(
                Measurement(m.shape, m.seconds * factor, m.repeats, m.seconds) for m in kept
            ),
        )
        for factor, name, kept in (
            (1.1, "before", exact_times), (0.9, "after", exact_times[:-1])
        )
    )  # fmt: skip
    both = pooled(target(), slower, faster)
    assert len(both.measurements) == len(exact_times) - 1
    for one, exact in zip(both.measurements, exact_times, strict=False):
        assert one.seconds == pytest.approx(exact.seconds)
        assert one.repeats == 2 * exact.repeats
    assert both.calibration.name == "before"
    assert np.abs(both.errors).max() < 0.01
