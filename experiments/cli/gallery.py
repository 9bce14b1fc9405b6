"""``headroom gallery OUT``: run the studies that come with headroom, and write a page of reports.

Each study gets its own results folder in OUT; OUT/index.html leads to all of them. A study whose
results are there already, from the same code, is not run again. Exit status 0: every report is
there; 2: something is wrong, or a study could not be run; 130: interrupted, finished runs are kept.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import Parser, called, fail, processes, run_command

if TYPE_CHECKING:
    from experiments.reporting.page.gallery import Entry

EXAMPLES = """examples:
  %(prog)s gallery
  %(prog)s gallery gpu_choice chat_users
  %(prog)s gallery --without decoder_vs_simulation --without kv_cache_latency
"""
TITLES = {
    "plan": "What to buy", "capacity": "How much it holds", "serving": "Settings side by side",
    "decoder_vs_simulation": "Beside a real engine", "kv_cache_latency": "Timed on this machine",
    "roofline": "Formulas of texts",
}  # fmt: skip
"""Kinds of studies in the order of the page."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    kept = "finished studies are kept, run the same command to go on"
    return run_command(_command, _parser(), argv, kept)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=called("gallery"), description=__doc__, epilog=EXAMPLES, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder of the reports")
    parser.add_argument(
        "studies", metavar="STUDY", nargs="*", help="bundled studies (default: all)"
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="STUDY", help="leave a study out"
    )
    parser.add_argument("--jobs", type=processes, metavar="N", help="processes that simulate")
    return parser


def _command(options: argparse.Namespace) -> int:
    from experiments.study.bundled import bundled_studies
    from model.errors import one_of

    known = tuple(bundled_studies())
    for name in (*options.studies, *options.without):
        if name not in known:
            return fail(f"study {name!r}: {one_of(name, known)}")
    place = options.out / "index.html"
    if fault := _taken(place):
        return fail(fault)
    wanted = [
        name for name in known
        if name in (options.studies or known) and name not in options.without
    ]  # fmt: skip
    failed = []
    for name in wanted:
        if not _there(options.out / name, name, options.jobs):
            failed.append(name)
        _write_index(options.out, place)  # whoever is interrupted has what is there
    print(place)
    return fail(f"without a report: {', '.join(failed)}") if failed else 0


def _taken(place: Path) -> str:
    """Say why the index cannot be written, if so: it is never put over what is not ours."""
    from experiments.reporting.page.base import data_of

    try:
        data_of(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return f"{place.parent} is no folder, expected one, or a name for a new one"
    except (OSError, ValueError):
        return f"{place} is not headroom's, expected another folder, or none of that name in it"
    return ""


def _there(folder: Path, name: str, jobs: int | None) -> bool:
    """Run a study unless its report is there already; tell whether it is."""
    from experiments.running.identity import code_digest
    from experiments.running.record import MANIFEST, MANIFESTS

    manifest = MANIFESTS.read(folder / MANIFEST)
    if manifest is not None and manifest.facts.get("code_sha256") == code_digest():
        print(f"{name}: its report is there", file=sys.stderr)
        return (folder / "report.html").is_file()
    print(f"{name}: running", file=sys.stderr)
    command = [sys.executable, "-m", "experiments", "run", name, "--out", str(folder)]
    command += ["--no-figures", "--overwrite", *([] if jobs is None else ["--jobs", str(jobs)])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def _write_index(out: Path, place: Path) -> None:
    from experiments.reporting.page.gallery import index
    from experiments.reporting.page.sheet import write_sheet

    out.mkdir(parents=True, exist_ok=True)
    write_sheet(place, index(list(_entries(out)), TITLES))


def _entries(out: Path) -> "Iterator[Entry]":
    """Every bundled study whose report lies in the folder, of this call or of an earlier one."""
    from experiments.reporting.page.gallery import Entry
    from experiments.running.record import MANIFEST, MANIFESTS
    from experiments.study.bundled import bundled_studies
    from experiments.study.document import read_raw
    from experiments.study.kinds import kind_of

    for name, path in bundled_studies().items():
        report = out / name / "report.html"
        record = MANIFESTS.read(report.with_name(MANIFEST))
        if record is not None and report.name in record.files:
            loaded = read_raw(path, [])
            about = " ".join(str(loaded.raw.get("description", "")).split())
            text = report.read_text(encoding="utf-8")
            yield Entry(name, kind_of(loaded), about, f"{name}/report.html", text)
