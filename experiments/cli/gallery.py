"""``headroom gallery OUT``: run the studies that come with headroom, and write a page of reports.

Each study gets its own results folder in OUT; OUT/index.html leads to all of them, and is written
after each. A study whose results are there already, from the same code, is not run again; one that
was interrupted goes on. Exit status 0: every report is there; 2: something is wrong, or a study
could not be run; 130: interrupted, finished runs are kept.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.command import MixedParser, called, fail, processes, run_command

if TYPE_CHECKING:
    from experiments.reporting.page.gallery import Entry

EXAMPLES = """examples:
  %(prog)s gallery
  %(prog)s gallery --quick
  %(prog)s gallery gpu_choice chat_users
  %(prog)s gallery --without decoder_vs_simulation --without kv_cache_latency
"""
TITLES = {
    "plan": "What to buy", "capacity": "How much it holds", "serving": "Settings side by side",
    "decoder_vs_simulation": "Beside a real engine", "kv_cache_latency": "Timed on this machine",
    "roofline": "Formulas of texts",
}  # fmt: skip
"""Kinds of studies in the order of the page."""
QUICK = {
    "chat_users": (
        "candidates={cluster.gpu: [h100-sxm, h200-sxm], engine.max_num_seqs: [64, 256]}",
    ),
    "uneven_day": ("candidates={cluster.gpu: [h100-sxm]}", "runners_up=0"),
    "qwen3_32b_h200": (
        "candidates={cluster.tensor_parallel_size: [2]}", "run_requests=4000", "runners_up=0",
    ),
    "agent_users": (
        "sweep={cluster.gpu: [h200]}", "run_requests=500", "half_width=0.3",
        "workload.sessions.turns=2", "workload.sessions.tools.calls=2",
    ),
    "decoder_vs_simulation": ("schedulers=[chunked_prefill]", "workload.num_requests=100"),
    "kv_cache_latency": ("measuring.budget_s=20", "prompt_tokens=[10, 100, 500]", "repeats=1"),
}  # fmt: skip
"""What --quick sets: studies that search or measure for minutes look at less."""
SHORTENED = "Shortened for the gallery: "
"""In the description of whatever --quick shortens, before what it sets."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    kept = "finished studies are kept, run the same command to go on"
    return run_command(_command, _parser(), argv, kept)


def _parser() -> argparse.ArgumentParser:
    parser = MixedParser(
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
    parser.add_argument(
        "--quick", action="store_true",
        help="let plans and timed studies look at less; their reports and the page say so",
    )  # fmt: skip
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
        if not _there(options.out / name, name, options.quick, options.jobs):
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


def _there(folder: Path, name: str, quick: bool, jobs: int | None) -> bool:
    """Run a study unless its report is there already; tell whether it is."""
    from experiments.running.identity import code_digest
    from experiments.running.record import MANIFEST, MANIFESTS

    settings = settings_of(name) if quick and name in QUICK else []
    manifest = MANIFESTS.read(folder / MANIFEST)
    same = manifest is not None and manifest.facts.get("code_sha256") == code_digest()
    if same and _is_shortened(folder) == bool(settings):
        print(f"{name}: its report is there", file=sys.stderr)
        return (folder / "report.html").is_file()
    print(f"{name}: running", file=sys.stderr)
    command = [sys.executable, "-m", "experiments", "run", name, "--out", str(folder)]
    command += ["--no-figures", "--overwrite", *([] if jobs is None else ["--jobs", str(jobs)])]
    command += [word for each in settings for word in ("--set", each)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def settings_of(name: str) -> list[str]:
    """Return what --quick sets, and a description that says so."""
    description = f"{_about(name)} {SHORTENED}{', '.join(QUICK[name])}."
    return [*QUICK[name], f"description={json.dumps(description)}"]


def _is_shortened(folder: Path) -> bool:
    """Whether results are those of a study with the settings of --quick."""
    from experiments.study.document import read_raw

    described = read_raw(folder / "study.yaml", []).raw.get("description")
    return SHORTENED in str(described)


def _about(name: str) -> str:
    """What a bundled study asks."""
    from experiments.study.document import read_raw

    return " ".join(str(read_raw(name, []).raw.get("description", "")).split())


def _write_index(out: Path, place: Path) -> None:
    """Write the page as a whole or not at all: another gallery may write there, and be read."""
    from experiments.reporting.page.gallery import index
    from experiments.reporting.page.sheet import write_sheet

    out.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        write_sheet(beside, index(list(_entries(out)), TITLES))
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def _entries(out: Path) -> "Iterator[Entry]":
    """Every bundled study whose report lies in the folder, of this call or of an earlier one."""
    from experiments.reporting.page.gallery import Entry
    from experiments.running.record import MANIFEST, MANIFESTS
    from experiments.study.bundled import bundled_studies
    from experiments.study.document import read_raw
    from experiments.study.kinds import kind_of

    for name in bundled_studies():
        report = out / name / "report.html"
        record = MANIFESTS.read(report.with_name(MANIFEST))
        if record is not None and report.name in record.files:
            about = _about(name)
            if name in QUICK and _is_shortened(report.parent):
                about += f" {SHORTENED}{', '.join(QUICK[name])}."
            text = report.read_text(encoding="utf-8")
            yield Entry(name, kind_of(read_raw(name, [])), about, f"{name}/report.html", text)
