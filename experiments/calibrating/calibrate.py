"""``python -m experiments.calibrate``: measures a real decoder and writes a calibration.

With ``--from-kernels`` nothing is measured: published tables of kernel times are fitted instead.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import (
    Parser,
    between,
    fail,
    run_command,
    seconds,
    whole_number,
)

if TYPE_CHECKING:
    from experiments.calibrating.fit import Fit
    from experiments.calibrating.measure import Measurement
    from model.decoder import Decoder
    from model.spec import DecoderSpec

DTYPES = ("float32", "bfloat16", "float16")


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
    device = load_gpu(gpu) if gpu is not None else probe_device(decoder)
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

    from experiments.reporting.drawing import drawing

    measured_ms = 1e3 * np.array([each.seconds for each in found.measurements])
    fitted_ms = 1e3 * found.predicted_s
    kinds = np.array(
        ["mixed" if s.contexts and s.chunks else "decode" if s.contexts else "prefill"
         for s in (each.shape for each in found.measurements)]
    )  # fmt: skip
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m experiments.calibrate", description=__doc__)
    parser.add_argument("--model", help="catalogue name, or a folder of weights: measured")
    parser.add_argument(
        "--from-kernels", metavar="DIR", help="kernel tables, or the package that brings them"
    )
    parser.add_argument("--engine", default="vllm", help="of the tables and constants (vllm)")
    parser.add_argument("--engine-version", default="", help="of the engine; default: the newest")
    parser.add_argument("--out", required=True, type=Path, help="calibration to write, .yaml")
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace a calibration that was written here and not changed since",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--gpu", help="catalogue name of the device; without, peaks are probed")
    parser.add_argument("--dtype", choices=DTYPES, help="default: float32 on cpu, else bfloat16")
    parser.add_argument(
        "--threads", type=whole_number, help="cores that torch computes on; default: its own"
    )
    parser.add_argument("--layers", type=between(1, 10_000), help="build this many layers only")
    parser.add_argument("--budget-s", type=seconds, default=120.0, help="seconds to measure (120)")
    parser.add_argument("--max-decodes", type=between(1, 65_536), default=32)
    parser.add_argument("--max-context-tokens", type=between(1, 2**24), default=1024)
    parser.add_argument(
        "--max-tokens", type=between(1, 2**22), default=512, help="tokens of the largest step"
    )
    parser.add_argument("--seed", type=between(0, 2**62), default=0, help="of the random weights")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, fit, write ``OUT`` and a picture beside it; 2 when the input is wrong.

    Files that are there already are left alone, but for a calibration of ours with ``--overwrite``.
    """
    return run_command(_command, _parser(), argv, "nothing was written")


def _command(arguments: argparse.Namespace) -> int:
    from experiments.study.errors import RunError

    try:
        if (arguments.model is None) == (arguments.from_kernels is None):
            raise ValueError(
                "expected either --model, to measure, or --from-kernels, to fit tables"
            )
        _check_out(arguments.out)
        text = _write(arguments)
    except (ValueError, RunError) as error:
        return fail(str(error))
    print(text)
    print(f"wrote {arguments.out} and {arguments.out.with_suffix('.png')}")
    return 0


def _write(arguments: argparse.Namespace) -> str:
    """Put a calibration and its picture in place; return what is to be said of it."""
    from experiments.running.folder import Wanted, signed_file
    from experiments.running.publish import claimed, publish

    out: Path = arguments.out
    names = frozenset((out.name, out.with_suffix(".png").name))
    with claimed(signed_file(out), Wanted(names, out.stem, None, arguments.overwrite)) as work:
        if arguments.from_kernels:
            text = _fit_tables(arguments, work.new / out.name)
        else:
            text = describe(_run(arguments, work.new / out.name))
        publish(work, {})
    return text


def _run(arguments: argparse.Namespace, path: Path) -> "Fit":
    """Measure and fit; write the calibration to ``path`` and its picture beside it."""
    from rich.progress import Progress

    from experiments.reporting.terminal import console
    from hardware.calibration import save_calibration

    limits = Limits(
        max_decodes=arguments.max_decodes,
        max_context_tokens=arguments.max_context_tokens,
        max_tokens=arguments.max_tokens,
        budget_s=arguments.budget_s,
    )
    decoder = build_decoder(
        arguments.model,
        arguments.device,
        arguments.dtype,
        arguments.layers,
        arguments.seed,
        arguments.threads,
    )
    with Progress(console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("measuring", total=1.0)
        found = calibrate(
            decoder,
            limits,
            name=arguments.out.stem,
            gpu=arguments.gpu,
            progress=lambda share: bar.update(task, completed=share),
        )
    save_calibration(found.calibration, path)
    draw(found, path.with_suffix(".png"))
    return found


def _check_out(out: Path) -> None:
    if out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out {out}: expected a name that ends in .yaml")
    if not out.resolve().parent.is_dir():
        raise ValueError(f"--out {out}: its folder does not exist")


def _fit_tables(arguments: argparse.Namespace, path: Path) -> str:
    """Fit kernel tables, write the calibration to ``path`` and its picture; return the report."""
    from experiments.calibrating.kernel_calibration import (
        calibration_from_tables,
        describe_kernels,
        draw,
    )
    from hardware.calibration import save_calibration
    from hardware.gpu import load_gpu

    if arguments.gpu is None:
        raise ValueError("--gpu is missing, expected the catalogue name of the tables' GPU")
    calibration = calibration_from_tables(
        arguments.from_kernels,
        load_gpu(arguments.gpu),
        arguments.engine,
        arguments.engine_version,
        name=arguments.out.stem,
    )
    save_calibration(calibration, path)
    draw(calibration, path.with_suffix(".png"))
    return describe_kernels(calibration)


def build_decoder(
    model: str,
    device: str,
    dtype: str | None,
    layers: int | None,
    seed: int,
    threads: int | None = None,
) -> "Decoder":
    """Return a decoder: real weights when ``model`` is a folder with some, else random ones.

    ``threads`` sets how many cores torch computes on, from now on, in this process.

    Raises:
        ValueError: unknown model or dtype, or a device that this machine does not have.
    """
    import torch

    from model.decoder import random_decoder
    from model.spec import load_spec
    from model.weights import load_decoder

    if threads is not None:
        cores = os.cpu_count() or 1
        if not 1 <= threads <= cores:
            raise ValueError(f"threads = {threads}, expected 1 to {cores}, as this machine has")
        torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: this machine has no CUDA device, expected cpu")
    try:
        where = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device!r} is unknown, expected cpu or cuda") from None
    number = getattr(torch, dtype or ("float32" if where.type == "cpu" else "bfloat16"))
    folder = Path(model)
    if where.type == "cpu":
        _check_memory(load_spec(model), layers, number.itemsize)
    if layers is None and folder.is_dir() and list(folder.glob("*.safetensors*")):
        return load_decoder(folder, device=where, dtype=number)
    return random_decoder(
        load_spec(model), num_layers=layers, seed=seed, device=where, dtype=number
    )


def _check_memory(spec: "DecoderSpec", layers: int | None, number_bytes: int) -> None:
    """Refuse a decoder that this machine cannot hold. Raises ValueError."""
    from experiments.study.memory import memory_bytes

    built = spec if layers is None else spec.first_layers(layers)
    weights, memory = built.parameters() * number_bytes, memory_bytes()
    if weights > memory:
        raise ValueError(
            f"model = {spec.name} with {built.num_layers} layers has weights of "
            f"{weights / 2**30:.1f} GiB, but this machine has {memory / 2**30:.1f} GiB: "
            "set fewer layers, or a smaller model"
        )
