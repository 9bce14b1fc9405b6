"""Checks that the study files of all searches have in common."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from experiments.planning.promises import limits_of
from experiments.study.document import Loaded, Study
from experiments.study.errors import Problem, StudyError, show
from experiments.study.faults import by_line, problem
from experiments.study.schema import coercions, complaints, unknown_key
from workloads.arrivals import ClosedLoop
from workloads.workload import Workload

Kind = TypeVar("Kind", bound=BaseModel)


def check_names(schema: type[BaseModel], loaded: Loaded, raw: Mapping[str, Any]) -> None:
    """Refuse keys of the file that the kind does not have.

    Raises:
        StudyError: each of them, with the nearest that there is.
    """
    strange = [key for key in raw if key not in schema.model_fields]
    if strange:
        raise StudyError(
            by_line(
                [
                    Problem(
                        loaded.where((key,)), f"{show(key)}: {unknown_key(schema, (key,), raw)}"
                    )
                    for key in strange
                ]
            )
        )


def validated(schema: type[Kind], loaded: Loaded, raw: Mapping[str, Any]) -> Kind:
    """Check data against the schema of a kind.

    Raises:
        StudyError: everything that is wrong, each with file, line, key and value.
    """
    study, faults = None, []
    try:
        study = schema.model_validate(raw)
    except ValidationError as error:
        faults = complaints(error, schema, raw)
    known = {path for path, _ in faults}
    faults += [fault for fault in coercions(schema, raw) if fault[0] not in known]
    if faults or study is None:
        raise StudyError(by_line([problem(loaded, raw, fault) for fault in faults]))
    return study


def check_slo(loaded: Loaded, study: Study) -> None:
    """Refuse a study without anything to keep, or with something that no sample can show.

    Raises:
        StudyError: what is missing.
    """
    if study.slo is None or not limits_of(study.slo):
        raise StudyError(
            [
                Problem(
                    loaded.where(("slo",)),
                    "slo: a search needs a limit to keep, expected at least one of ttft_s, "
                    "tpot_s, e2e_s, or one of percentiles, e.g. ttft_p99_s",
                )
            ]
        )
    if study.slo.attainment >= 1:
        raise StudyError(
            [
                Problem(
                    loaded.where(("slo", "attainment")),
                    "slo.attainment = 1: no number of requests shows that none ever misses, "
                    "expected below 1, e.g. 0.999",
                )
            ]
        )


def check_sessions(loaded: Loaded, workload: Workload) -> None:
    """Refuse sessions that begin by themselves: searches know those of users, one after the other.

    Raises:
        StudyError: what is expected instead.
    """
    if workload.has_sessions and not isinstance(workload.arrivals, ClosedLoop):
        name = "sessions" if workload.sessions is not None else "trace_sessions"
        raise StudyError.of(
            f"workload.{name}: a search does not know sessions that begin by themselves yet, "
            "expected arrivals: {process: closed_loop, users: ...}, of which it counts the users",
            loaded.where(("workload", name)),
        )


def sweep_rows(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the mappings of a sweep: a grid's one, or a list's points."""
    sweep = raw.get("sweep")
    return [row for row in (sweep if isinstance(sweep, list) else [sweep]) if isinstance(row, dict)]
