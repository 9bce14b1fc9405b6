"""The study file: its schema, and how a file, a name or ``--set`` becomes a checked ``Study``."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from experiments.study import precision, schema
from experiments.study.bundled import STUDIES, find_study
from experiments.study.errors import Problem, StudyError, show
from experiments.study.overrides import Override, apply_overrides, resolve_paths
from experiments.study.plugins import given_plugins
from experiments.study.precision import Precision, Wanted
from experiments.study.yaml_source import Document, document_of, parse_yaml
from experiments.study.yaml_source import Path as KeyPath
from model.dataclass import dataclass
from model.text_file import TextFileError, read_text
from sim.measuring.slo import Slo
from sim.plugins import OPTION as PLUGIN
from sim.plugins import is_own
from sim.settings.cluster_config import ClientConfig, ClusterConfig
from sim.settings.engine_config import EngineConfig
from workloads.config import LATEST_S
from workloads.workload import Workload

Given = str | Path | Mapping[str, Any]
"""A study: its file, the name of a bundled one, or what a file would hold."""
MOST_BYTES = 2**20
"""Of a study file."""
OPTION = "--set"
"""Where a key stands that an option gave."""
NAMING = ("scheduler", "schedulers", "order", "router")
"""Keys that may name a class of one's own."""
WARMUP = 0.1
"""Default of ``warmup_fraction`` where every stretch of the workload is like the others."""

for _part in (EngineConfig, ClusterConfig, Workload, Slo):
    _part.model_rebuild()  # each is checked by itself, too: a study takes over what is built


class Study(BaseModel):
    """A base scenario, what to vary, and how often to repeat it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    kind: Literal["serving"] = "serving"
    """What a run is: a simulation of serving."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the results folder: letters, digits, dot, dash, underscore. Default: the file's,
    other signs as underscores."""
    description: str = ""
    """What the study asks, in a line."""
    model: str
    """A model of the catalogue, or the path of a Hugging Face config.json or of its folder."""
    cluster: ClusterConfig
    """How many engines, on what, and who sends them requests."""
    engine: EngineConfig = EngineConfig.model_construct()
    """Settings of the serving engine."""
    calibration: str = "auto"
    """auto: measured kernels of the GPU, or of its nearest relative, with the constants of the
    engine's version, and the datasheet where nothing was measured; none: the datasheet's roofline;
    or a calibration by name, or the path of one."""
    client: ClientConfig = ClientConfig.model_construct()
    """Who sends the requests, on behalf of the workload."""
    workload: Workload
    """Who asks for what, when."""
    slo: Slo | None = None
    """Limits that a good request keeps; without them every finished request is good."""
    calibration_draws: int = Field(default=0, ge=0, le=10_000)
    """Calibrations drawn from the covariance of the fit, each run with every seed: intervals then
    hold the uncertainty of prices, too. 0: the fit as it is; else at least 2."""
    seeds: int = Field(default=1, gt=0, le=100_000)
    """Runs of every point, each with its own random numbers."""
    seed: int = Field(default=0, ge=0, le=2**62)
    """Seed of the first run; run r has seed + r, the same at every point."""
    precision: Wanted = None
    """How exact figures are to be, such as 10%: how long runs have to be is then found from the
    load and a short pilot, and workload.num_requests is the shortest. none: runs are as long as the
    workload says. Default: 10% where the workload gives neither num_requests nor duration_s, with
    seeds: 10."""
    warmup_fraction: float | None = Field(default=None, ge=0, lt=1)
    """Share of the first requests that is simulated but not measured. Default: 0.1; 0 where the
    workload has a clock (a trace, clients, diurnal, piecewise), as its hours are not alike."""
    warmup_s: float | None = Field(default=None, ge=0, le=LATEST_S)
    """Instead of warmup_fraction: who arrives before this simulated time, seconds, is not
    measured."""
    stop_s: Annotated[float, Field(gt=0, le=LATEST_S)] | None = None
    """Simulated time at which to stop, seconds: who has arrived and has no answer then counts as
    unfinished. Default: when everybody has an answer."""
    baseline: int | dict[str, Any] | None = None
    """What other points are compared with, paired by seed: the number of a point, or swept keys
    with values, which compare each point with the one that has these and is like it otherwise.
    Default: the first point."""
    sweep: dict[str, list[Any]] | list[dict[str, Any]] = {}
    """Dotted keys with lists of values (every combination), or a list of points."""

    @model_validator(mode="before")
    @classmethod
    def _fill_length(cls, data: Any) -> Any:
        return precision.with_defaults(data)

    @field_validator("precision")
    @classmethod
    def _can_be_aimed_at(cls, asked: Precision | None, given: ValidationInfo) -> Precision | None:
        if asked is not None:
            precision.check(given.data.get("workload"), given.data.get("seeds"))
        return asked

    @field_validator("calibration_draws")
    @classmethod
    def _has_a_spread(cls, draws: int) -> int:
        if draws == 1:
            raise ValueError("expected 0 or at least 2: one draw tells nothing about a spread")
        return draws

    @field_validator("warmup_s")
    @classmethod
    def _is_the_only_warmup(cls, seconds: float | None, given: ValidationInfo) -> float | None:
        if seconds is not None and given.data.get("warmup_fraction") is not None:
            raise ValueError(
                "expected either warmup_fraction or warmup_s, not both; set the other to null"
            )
        return seconds

    @property
    def warmup_share(self) -> float:
        """``warmup_fraction``, or its default for this workload; 0 beside ``warmup_s``."""
        if self.warmup_fraction is None:
            return 0.0 if self.workload.has_clock or self.warmup_s is not None else WARMUP
        return self.warmup_fraction

    def own_classes(self) -> tuple[str, ...]:
        """Return the classes of one's own that it names, by their dotted paths."""
        return tuple(dict.fromkeys(name for _, name in _own_classes(self.resolved())))

    def resolved(self) -> dict[str, Any]:
        """Return the study as plain data with every default written out."""
        return self.model_dump(mode="json")


@dataclass(slots=True)
class Loaded:
    """A study as raw data that is not yet checked, and where each of its keys stands."""

    raw: dict[str, Any]
    document: Document
    overrides: Sequence[Override] = ()
    notes: list[str] = field(default_factory=list)
    """What reading changed and a reader has to know."""

    def has(self, path: KeyPath) -> bool:
        """Tell whether a key is written down, in the file or as ``--set``."""
        given = any(path[: len(one.path)] == one.path for one in self.overrides)
        return given or path in self.document.lines

    def where(self, path: KeyPath) -> str:
        """Return ``file:line`` of a key, or the ``--set`` that gave it."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return OPTION
        made = any(override.path[: len(path)] == path for override in self.overrides)
        if made and path not in self.document.lines:
            return OPTION
        return self.document.where(path)


def read_raw(given: Given, overrides: Sequence[Override] = ()) -> Loaded:
    """Read a study and apply ``--set``; paths in it become absolute. Nothing is checked yet.

    ``given`` is a file, the name of a bundled study, or what a file would hold, as a mapping; paths
    in a mapping count from the current folder.

    Raises:
        StudyError: no such file, not YAML, duplicate keys, not a mapping, an override that does
            not apply, a class whose module is not allowed.
        TypeError: ``given`` is none of these.
    """
    if isinstance(given, Mapping):
        document, base, name = document_of(given, "study"), Path.cwd(), "study"
    elif isinstance(given, str | Path):
        document, base, name = _document(given)
    else:
        raise TypeError(f"study = {given!r}, expected a path, a name or a mapping")
    if not isinstance(document.data, dict):
        kind = "empty" if document.data is None else show(document.data)
        text = f"a study must be a mapping of keys to values, but this is {kind}"
        raise StudyError([Problem(document.label, text), *document.problems])
    raw = resolve_paths(document.data, base)
    raw.setdefault("name", _allowed_name(name))
    notes, problems = apply_overrides(raw, overrides)
    if problems:
        raise StudyError([*document.problems, *problems])
    if raw.get("sweep", {}) is None:  # as --set says it, too: no sweep
        raw["sweep"] = {}
    loaded = Loaded(raw, document, overrides, notes)
    refuse_unallowed(loaded)
    return loaded


def _allowed_name(name: str) -> str:
    """Return a name that a results folder may have: other signs are underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "study"


def _document(name_or_path: str | Path) -> tuple[Document, Path, str]:
    """Read a study file: what it holds, the folder that its paths count from, and its name."""
    path = find_study(name_or_path)
    label = path.name if path.parent == STUDIES else str(name_or_path)
    try:
        text = read_text(path, MOST_BYTES)
    except TextFileError as error:
        raise StudyError.of(f"cannot read the study: {error}", label) from None
    return parse_yaml(text, label), path.parent.resolve(), path.stem


def refuse_unallowed(loaded: Loaded) -> None:
    """Stop at the first class of one's own whose module nobody has allowed.

    Raises:
        StudyError: that one alone: what else is wrong with a study that needs it, is not known.
    """
    allowed = {each.name for each in given_plugins()}
    for path, name in _own_classes(loaded.raw):
        module = name.partition(":")[0]
        if module not in allowed:
            beside = Path(loaded.document.label).parent / f"{module}.py"
            file = beside if beside.is_file() else f"{module}.py"
            key = ".".join(str(part) for part in path if not isinstance(part, int))
            text = (
                f"{key} = {show(name)}: code of {module} runs only where the command line allows "
                f"it: {PLUGIN} {file}, or {PLUGIN} {module} where that can be imported"
            )
            raise StudyError([Problem(loaded.where(path), text)])


def _own_classes(raw: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Find every dotted path under a key that may hold one, swept values included."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _own_classes(value, (*path, str(key)))
    elif isinstance(raw, list):
        for place, value in enumerate(raw):
            yield from _own_classes(value, (*path, place))
    elif isinstance(raw, str) and is_own(raw):
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if key.rpartition(".")[2] in NAMING:
            yield path, raw


def from_study(study: Study) -> Loaded:
    """Return an already validated study in the shape of a file that was read."""
    raw = resolve_paths(study.resolved(), Path.cwd())
    return Loaded(raw, Document(label=f"study {study.name}"))


def validate(raw: Mapping[str, Any]) -> tuple[Study | None, list[tuple[KeyPath, str]]]:
    """Check raw data against the schema: the study, or every ``(path, message)`` that is wrong."""
    if (study := _strict(raw)) is not None:
        return study, []
    faults = []
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        faults = schema.complaints(error, Study, raw)
    known = {path for path, _ in faults}
    faults += [fault for fault in schema.coercions(Study, raw) if fault[0] not in known]
    return (None if faults else study), faults


def _strict(raw: Mapping[str, Any]) -> Study | None:
    """Return the study if no value needs to be turned into another kind, as pydantic does it.

    A whole number that is written 1e3 needs it, too, and is no fault; most studies have none.
    """
    try:
        return Study.model_validate_json(json.dumps(raw), strict=True)
    except (ValidationError, TypeError, ValueError):  # the latter for what JSON has not
        return None
