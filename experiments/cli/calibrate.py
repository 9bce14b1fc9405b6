"""``headroom calibrate``: measures a real decoder and writes a calibration.

With ``--from-kernels`` nothing is measured: published tables of kernel times are fitted instead.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.cli.command import (
    Parser,
    between,
    called,
    fail,
    run_command,
    seconds,
    whole_number,
)

DTYPES = ("float32", "bfloat16", "float16")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=called("calibrate"), description=__doc__)
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
            text = _measure(arguments, work.new / out.name)
        publish(work, {})
    return text


def _measure(arguments: argparse.Namespace, path: Path) -> str:
    """Measure and fit, write the calibration to ``path`` and its picture; return the report."""
    from rich.progress import Progress

    from experiments.calibrating.calibrate import Limits, calibrate, describe, draw
    from experiments.calibrating.decoders import build_decoder
    from experiments.reporting.terminal import console
    from hardware.calibration_file import save_calibration

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
    return describe(found)


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
    from hardware.calibration_file import save_calibration
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
