"""``python -m benchmarks.same_bytes``: bundled studies leave the same bytes, however they are run.

Each study runs compiled and as plain Python, with one process and with two, and every file of the
results is laid side by side. ``--beside CHECKOUT`` runs them there as well and compares the tables:
what a change of the code changed in figures, and what it did not. Studies with times of this
machine in their results are left out by name. Exit status 1: some bytes differ; 2: a study could
not be run, or the engine is not compiled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from experiments.cli.command import Parser, fail, run_command, start

ROOT = Path(__file__).resolve().parents[1]
TABLES = (".csv", ".parquet")
"""What is compared with another checkout, whose pages may say the same in other words."""
SHOWN = 160
"""Characters of two lines that differ."""


class Way(NamedTuple):
    """How a study is run."""

    checkout: Path
    engine: str
    """compiled or plain Python, as a manifest says it."""
    jobs: int

    def __str__(self) -> str:
        there = "" if self.checkout == ROOT else f"in {self.checkout}, "
        return f"{there}{self.engine}, --jobs {self.jobs}"


HERE = tuple(Way(ROOT, engine, jobs) for engine in ("compiled", "plain Python") for jobs in (1, 2))


def main(argv: Sequence[str] | None = None) -> int:
    """Run, compare, and print a line per study."""
    return run_command(_command, _parser(), argv, "finished studies are kept with --keep FOLDER")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.same_bytes", description=__doc__)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help="bundled studies (default: all)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="let searches do less, as headroom gallery does"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a key of every study that is named, such as how many requests it has",
    )  # fmt: skip
    parser.add_argument(
        "--beside", type=Path, metavar="CHECKOUT", help="another checkout, such as of last month"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER",
        help="keeps results; what is there of the same code is not run again",
    )  # fmt: skip
    return parser


def _command(options: argparse.Namespace) -> int:
    from experiments.study.bundled import bundled_studies
    from model.errors import one_of

    known = tuple(bundled_studies())
    for name in options.studies:
        if name not in known:
            return fail(f"study {name!r}: {one_of(name, known)}")
    beside = options.beside and options.beside.resolve()
    if beside and not (beside / "experiments" / "__main__.py").is_file():
        return fail(f"--beside {options.beside} is no checkout of headroom")
    keep = options.keep or Path(tempfile.mkdtemp(prefix="headroom-bytes-"))
    differ = False
    for name in options.studies or known:
        if _is_timed(name):
            print(f"{name}: has times of this machine, not compared", flush=True)
            continue
        try:
            settings = [*_of_quick(name, options.quick), *options.settings]
            found = list(_differences(name, keep.resolve() / name, settings, beside))
        except RuntimeError as error:
            return fail(f"{name}: {error}")
        differ |= bool(found)
        print("\n".join(f"{name}: {each}" for each in found or ["the same"]), flush=True)
    return int(differ)


def _is_timed(name: str) -> bool:
    from experiments.cli.kinds import check_other
    from experiments.study.document import read_raw
    from experiments.study.kinds import MEASURED, TABLES, kind_of

    loaded = read_raw(name, [])
    kind = kind_of(loaded)
    return kind in MEASURED or (kind == TABLES and getattr(check_other(loaded), "timed", False))


def _of_quick(name: str, quick: bool) -> list[str]:
    from experiments.cli.gallery import QUICK, settings_of

    return settings_of(name) if quick and name in QUICK else []


def _differences(
    name: str, keep: Path, settings: Sequence[str], beside: Path | None
) -> Iterator[str]:
    """Run a study in all ways, and say of each file that differs from the first way's how."""
    first, *others = [(way, _run(name, way, keep, settings)) for way in HERE]
    for other in others:
        yield from _compared(first, other, ("",))
    if beside is not None:
        there = Way(beside, "compiled", 2)
        yield from _compared(first, (there, _run(name, there, keep, settings)), TABLES)


def _run(name: str, way: Way, keep: Path, settings: Sequence[str]) -> Path:
    """Return the folder of results, which are there already if the code is the same.

    Raises:
        RuntimeError: the study could not be run, or not with the engine that is asked for.
    """
    place = "here" if way.checkout == ROOT else "beside"
    pure = way.engine != "compiled"
    of = f"-{crc32(json.dumps(settings).encode()):08x}" if settings else ""
    out = keep / f"{place}-{'pure' if pure else 'compiled'}-{way.jobs}{of}"
    if not _is_of(out, _code_of(way.checkout)):
        command = [sys.executable, "-m", "experiments", "run", name, "--no-figures", "--overwrite"]
        command += ["--out", str(out), "--jobs", str(way.jobs)]
        command += [word for each in settings for word in ("--set", each)]
        done = subprocess.run(
            command, cwd=way.checkout, env={**os.environ, "HEADROOM_PURE": str(int(pure))},
            stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"no results ({way}), exit status {done.returncode}")
    engine = _manifest(out)["machine"]["engine"]
    if place == "here" and engine != way.engine:
        raise RuntimeError(f"ran with the engine {engine}, expected {way.engine}: make compile")
    return out


@cache
def _code_of(checkout: Path) -> str:
    command = "from experiments.running.identity import code_digest; print(code_digest())"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=checkout, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _is_of(folder: Path, code: str) -> bool:
    return (folder / "manifest.json").is_file() and _manifest(folder)["code_sha256"] == code


def _manifest(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return facts


def _compared(
    first: tuple[Way, Path], other: tuple[Way, Path], endings: tuple[str, ...]
) -> Iterator[str]:
    (way, folder), (other_way, other_folder) = first, other
    digests, others = _manifest(folder)["results"], _manifest(other_folder)["results"]
    for file in sorted(digests | others):
        if file.endswith(endings) and digests.get(file) != others.get(file):
            where = _where(folder / file, other_folder / file)
            yield f"{file} differs: {way} | {other_way}{where}"


def _where(one: Path, other: Path) -> str:
    """The first line that differs, if both are text."""
    if not (one.is_file() and other.is_file()):
        return f"\n  only in {(one if one.is_file() else other).parent}"
    if one.suffix == ".parquet":
        return ""
    with one.open(encoding="utf-8") as lines, other.open(encoding="utf-8") as others:
        for number, (line, its) in enumerate(zip_longest(lines, others, fillvalue=""), 1):
            if line != its:
                at = max(0, next(_unlike(line, its)) - SHOWN // 2)
                return f"\n  line {number}: {_cut(line, at)}\n  line {number}: {_cut(its, at)}"
    return ""


def _unlike(line: str, its: str) -> Iterator[int]:
    pairs = enumerate(zip_longest(line, its))
    return (place for place, (one, other) in pairs if one != other)


def _cut(line: str, at: int) -> str:
    return line[at : at + SHOWN].rstrip("\n")


if __name__ == "__main__":
    start(main)
