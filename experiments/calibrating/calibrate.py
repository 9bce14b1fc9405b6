"""Measures a real decoder and fits a calibration to what was seen."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from model.dataclass import dataclass

if TYPE_CHECKING:
    from experiments.calibrating.fit import Fit
    from experiments.calibrating.measure import Measurement
    from model.torch.decoder import Decoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far the grid of measured steps reaches."""

    max_decodes: int = 32
    max_context_tokens: int = 1024
    max_tokens: int = 512
    budget_s: float = 120.0


def calibrate(
    decoder: "Decoder",
    limits: Limits,
    *,
    name: str,
    gpu: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> "Fit":
    """Measure ``decoder`` on its device and fit a calibration to what was seen.

    Args:
        decoder: the model as it will be served, layers included.
        limits: of the grid, and the time to spend.
        name: what results call the calibration.
        gpu: a GPU of the catalogue whose peaks anchor the efficiencies; None probes the device.
        progress: told the share of the time budget that is spent.

    Raises:
        ValueError: too little time, or limits that the model cannot reach.
    """
    import torch

    from experiments.calibrating.fit import Target, fit
    from experiments.calibrating.measure import Stopwatch, grid, measure, probe_device
    from hardware.gpu import load_gpu
    from model.precision import precision

    spec = decoder.spec
    context = min(limits.max_context_tokens, spec.max_position_embeddings - 1)
    shapes = grid(limits.max_decodes, context, limits.max_tokens)
    slots = limits.max_decodes + 4  # chunks beside a full batch of decodes
    device = load_gpu(gpu) if gpu is not None else probe_device(decoder.device, decoder.dtype)
    measurements = measure(
        Stopwatch(decoder, slots, context + 2), shapes, limits.budget_s, progress
    )
    target = Target(spec, device, precision(str(decoder.dtype).removeprefix("torch.")))
    found = fit(
        target,
        measurements,
        name=name,
        source=_source(decoder, shapes, measurements, limits),
        software=f"torch {torch.__version__}, {decoder.kernel} attention",
    )
    if gpu is None:
        calibration = found.calibration.model_copy(update={"device": device})
        found = type(found)(calibration, found.measurements, found.predicted_s, found.held_out)
    return found


def _source(
    decoder: "Decoder",
    shapes: Sequence[object],
    measurements: "Sequence[Measurement]",
    limits: Limits,
) -> str:
    import platform

    spec = decoder.spec
    return (
        f"real torch decoder {spec.name}, {spec.num_layers} layers, {decoder.dtype} on "
        f"{decoder.device}, {date.today().isoformat()}, Python {platform.python_version()}; "
        f"{len(measurements)} of {len(shapes)} step shapes timed within {limits.budget_s:g} s, "
        f"medians of at least {min(each.repeats for each in measurements)} turns of the engine; "
        "one device: prices of tensor-parallel groups stay a model"
    )


def describe(found: "Fit") -> str:
    """Say in a few lines how well the fit predicts what it was not fitted to."""
    calibration = found.calibration
    residuals, covered = calibration.residuals, calibration.covered
    assert residuals is not None
    assert covered is not None
    stalls = sum(each.mean_s for each in found.measurements)
    stalls /= sum(each.seconds for each in found.measurements)
    verdict = "POOR FIT: do not rely on it; " if found.poor else ""
    return (
        f"{verdict}held-out error: mean {residuals.mean_absolute:.1%}, worst "
        f"{residuals.worst_absolute:.1%} on {residuals.points} of "
        f"{len(found.measurements)} shapes\n"
        f"covered: steps of up to {covered.max_step_tokens} tokens, contexts of up to "
        f"{covered.max_context_tokens}, up to {covered.max_decodes} decoding sequences\n"
        f"stalls of this machine, mean over median: {stalls - 1.0:+.1%}, not in the prices\n"
        "not covered: tensor-parallel groups, whose collectives stay a model of the links"
    )


def draw(found: "Fit", path: Path) -> None:
    """Draw measured against fitted step times: fitted shapes filled, held-out ones hollow."""
    import numpy as np

    from experiments.calibrating.fit_sheet import kind_of
    from experiments.reporting.drawing import drawing

    measured_ms = 1e3 * np.array([each.seconds for each in found.measurements])
    fitted_ms = 1e3 * found.predicted_s
    kinds = np.array([kind_of(each.shape) for each in found.measurements])
    with drawing(path, 6.4, 5.2) as figure:
        axes = figure.subplots()
        for kind, color, marker in (
            ("decode", "#0072B2", "o"), ("prefill", "#D55E00", "s"), ("mixed", "#009E73", "^")
        ):  # fmt: skip
            for held in (False, True):
                chosen = (kinds == kind) & (found.held_out == held)
                axes.scatter(
                    measured_ms[chosen], fitted_ms[chosen], s=26, marker=marker, edgecolor=color,
                    facecolor="none" if held else color, linewidth=1.2,
                    label=f"{kind}, held out" if held else kind,
                )  # fmt: skip
        ends = np.array([measured_ms.min() * 0.8, measured_ms.max() * 1.25])
        axes.plot(ends, ends, color="0.3", linewidth=1)
        axes.fill_between(ends, ends * 0.9, ends * 1.1, color="0.85", zorder=0, label="within 10%")
        axes.set(xscale="log", yscale="log", xlabel="measured step (ms)", ylabel="fitted step (ms)")
        axes.set_title(f"{found.calibration.name}: measured against fitted")
        axes.legend()
