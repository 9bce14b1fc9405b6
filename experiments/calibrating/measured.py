"""What studies on a real decoder share: their common keys, the calibration, the results folder.

calibration.yaml, .png   measured on the decoder before anything else
one .csv, one .png       what the kind compares
report.html              the same as a page
study.yaml               resolved; running it again repeats the study, on the wall clock
manifest.json            versions, machine, when, how long; and what of the folder is ours
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experiments.calibrating import fit_sheet
from experiments.reporting.page.sheet import Answer, Section, Sheet, write_sheet
from experiments.study.document import Loaded
from experiments.study.errors import StudyError
from experiments.study.schema import coercions, complaints
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame

    from experiments.calibrating.fit import Fit
    from model.torch.decoder import Decoder

STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

COMMON_FILES = (
    "calibration.yaml", "calibration.png", "study.yaml", "report.html", "manifest.json",
)  # fmt: skip
"""Files that every study on a real decoder leaves."""

Tell = Callable[[str], None]
"""Says on stderr what is being done."""


class Measuring(BaseModel):
    """How far and how long to measure for the calibration."""

    model_config = STRICT

    budget_s: float = Field(default=40.0, gt=0, le=86_400)
    """Seconds to spend."""
    max_decodes: int = Field(default=16, gt=0, le=65_536)
    """Most decoding sequences of a measured step."""
    max_context_tokens: int = Field(default=512, gt=0, le=2**24)
    """Longest measured context."""
    max_tokens: int = Field(default=512, gt=0, le=2**22)
    """Most tokens of a measured step."""


class MeasuredStudy(BaseModel):
    """The keys of every study on a real decoder."""

    model_config = STRICT

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the results folder."""
    description: str = ""
    """What the study asks, in a line."""
    model: str
    """A model of the catalogue, a config.json, or a folder with real weights."""
    device: str = "cpu"
    """Where torch computes: cpu or cuda."""
    gpu: str | None = None
    """Catalogue name of the device, to anchor efficiencies; without, its peaks are probed."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights, activations and KV cache."""
    layers: int | None = Field(default=None, gt=0, le=10_000)
    """Build only this many layers."""
    threads: int | None = Field(default=None, gt=0, le=4096)
    """Cores that torch computes on; one less than the machine has keeps other work apart."""
    measuring: Measuring = Measuring()
    """How the calibration is measured."""
    seed: int = Field(default=0, ge=0, le=2**62)
    """Of the weights, the prompts and the workload."""


Kind = TypeVar("Kind", bound=MeasuredStudy)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a study on a real decoder found: a table for people, one for files."""

    lines: list[str]
    """For the terminal."""
    table: "DataFrame"
    table_name: str
    answer: Answer
    """For the page, with the sections beneath."""
    cards: Sequence[Mapping[str, str]]
    sections: Sequence[Section]


def check(schema: type[Kind], loaded: Loaded) -> Kind:
    """Validate a study of another kind than serving.

    Raises:
        StudyError: everything that is wrong, each with file, line, key and value.
    """
    from experiments.study.faults import problem

    study, faults = None, []
    try:
        study = schema.model_validate(loaded.raw)
    except ValidationError as error:
        faults = complaints(error, schema, loaded.raw)
    known = {path for path, _ in faults}
    faults += [fault for fault in coercions(schema, loaded.raw) if fault[0] not in known]
    problems = [problem(loaded, loaded.raw, fault) for fault in faults]
    problems += loaded.document.problems
    if problems or study is None:
        raise StudyError(problems)
    return study


def calibrated(study: MeasuredStudy, tell: Tell) -> "tuple[Decoder, Fit]":
    """Build the decoder and measure its calibration.

    Raises:
        ValueError: an unknown model or device, or too little time to measure.
    """
    from experiments.calibrating.decoders import build_decoder

    decoder = build_decoder(
        study.model, study.device, study.dtype, study.layers, study.seed, study.threads
    )
    return decoder, measure_again(study, decoder, tell)


def measure_again(study: MeasuredStudy, decoder: "Decoder", tell: Tell) -> "Fit":
    """Measure the calibration of a decoder that is there; machines drift within minutes.

    Raises:
        ValueError: too little time to measure.
    """
    from experiments.calibrating.calibrate import Limits, calibrate, describe

    measuring = study.measuring
    tell(f"calibrating {decoder.spec.name} on {decoder.device} for {measuring.budget_s:g} s")
    limits = Limits(**measuring.model_dump())
    found = calibrate(decoder, limits, name=study.name, gpu=study.gpu)
    tell(describe(found))
    return found


def run_measured(
    study: MeasuredStudy,
    compare: "Callable[[Any, Decoder, Fit, Path, Tell], Findings]",
    files: Iterable[str],
    out: Path,
    tell: Tell,
    overwrite: bool = False,
) -> Findings:
    """Calibrate, compare, and put the results in place, whole or not at all.

    ``files`` are the names of what ``compare`` finds and draws. Times are never the same again, so
    earlier results are replaced with ``overwrite`` alone.

    Raises:
        StudyError: ``out`` cannot be written or holds what may not be replaced, or the study cannot
            be run on this machine.
        RunError: something that is not ours came in the way of the results.
    """
    from experiments.calibrating.calibrate import draw
    from experiments.running.assemble import write_csv
    from experiments.running.folder import Wanted, results_folder
    from experiments.running.identity import code_digest
    from experiments.running.publish import claimed, publish
    from experiments.running.versions import machine, versions
    from hardware.calibration_file import save_calibration

    started = time.perf_counter()
    place = results_folder(out)
    names = frozenset((*COMMON_FILES, *files))
    with claimed(place, Wanted(names, study.name, None, overwrite)) as work:
        try:
            decoder, found = calibrated(study, tell)
            save_calibration(found.calibration, work.new / "calibration.yaml")
            draw(found, work.new / "calibration.png")
            findings = compare(study, decoder, found, work.new, tell)
        except ValueError as error:
            raise StudyError.of(str(error)) from error
        write_csv(findings.table, work.new / findings.table_name)
        _write_study(study, work.new / "study.yaml")
        _write_page(study, findings, found, work.new)
        facts = {
            "versions": versions() | {"torch": _torch_version()},
            "code_sha256": code_digest(),
            "machine": machine(),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": round(time.perf_counter() - started, 3),
        }
        publish(work, facts)
    return findings


def _write_page(study: MeasuredStudy, findings: Findings, found: "Fit", folder: Path) -> None:
    """Write the page, with how well the calibration fits its measurements at the end."""
    from experiments.calibrating.calibrate import describe

    text = (folder / "study.yaml").read_text(encoding="utf-8")
    poor = f" {describe(found).splitlines()[0]}." if found.poor else ""
    write_sheet(
        folder / "report.html",
        Sheet(
            name=study.name,
            description=study.description,
            basis=f"{Path(study.model).name} on {study.device}, {study.dtype}. "
            f"Times of this machine: another run has others.{poor}",
            answer=findings.answer,
            cards=findings.cards,
            sections=[*findings.sections, fit_sheet.section(found)],
            texts=[("In words", "\n".join(findings.lines)), ("Study", text)],
        ),
    )


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def _write_study(study: MeasuredStudy, path: Path) -> None:
    from experiments.running.assemble import write_plain_yaml

    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            "# Resolved: every default is written out. Wall-clock times differ every time.\n"
        )
        write_plain_yaml(study.model_dump(mode="json"), file)
