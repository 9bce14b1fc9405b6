"""The engine's settings in words: which ones are vLLM's own, and which ones a study says."""

from collections.abc import Mapping
from functools import partial

from experiments.reporting.words import points_text, told_of_pools
from experiments.study.build import longest_that_fits, prices_of
from experiments.study.calibrations import gpu_of
from experiments.study.document import Study
from experiments.study.errors import show
from experiments.study.points import Plan
from hardware.gpu import Gpu
from model.spec import DecoderSpec, load_spec
from sim.settings.resolved_engine import RESOLVED, default_settings


def setting_lines(plan: Plan) -> list[str]:
    """Write what the engines of a plan do by default, and what the study says instead.

    A key that is swept stands in the table of points. One that a study writes down with vLLM's own
    value is vLLM's as well.
    """
    swept = {key.removeprefix("engine.") for key in plan.keys}
    points = ((point.number, point.study) for point in plan.points)
    lines = told_of_pools(points, partial(_point_lines, swept=swept))
    if not lines:
        return []
    everywhere = len(plan.points)
    return [
        "Engine settings:",
        *(
            f"  {line}" + ("" if len(at) == everywhere else f" ({points_text(at)})")
            for line, at in lines.items()
        ),
    ]


def _point_lines(study: Study, swept: set[str]) -> list[str]:
    calibration = prices_of(study)
    gpu = gpu_of(study.cluster.all_pools[0].gpu, calibration)
    taken, said = told_apart(study, load_spec(study.model), gpu)
    version = study.engine.version
    lines = [f"prices on {gpu.name}: calibration {calibration.name}"]
    shown = [f"{key} {show(value)}" for key, value in taken.items() if key not in swept]
    if shown:
        lines.append(f"vLLM {version}'s server on {gpu.name}: {', '.join(shown)}")
    fits = {"max_model_len"} if study.engine.max_model_len == longest_that_fits(study) else set()
    for key in fits:
        value, default = said[key]
        lines.append(f"as much as fits: {key} {show(value)} (vLLM's: {show(default)})")
    others = [
        f"{key} {show(value)} (vLLM's: {show(default)})"
        for key, (value, default) in said.items()
        if key not in swept | fits
    ]
    if others:
        lines.append(f"as the study says: {', '.join(others)}")
    return lines


def told_apart(
    study: Study, spec: DecoderSpec, gpu: Gpu
) -> tuple[dict[str, object], dict[str, tuple[object, object]]]:
    """Return the settings that equal vLLM's defaults, and (setting, default) of the others."""
    engine: Mapping[str, object] = {name: getattr(study.engine, name) for name in RESOLVED}
    drafts = study.engine.speculative is not None
    stages = study.cluster.all_pools[0].pipeline_parallel_size
    taken: dict[str, object] = {}
    said: dict[str, tuple[object, object]] = {}
    for name in RESOLVED:
        if name == "version":
            continue
        others = {key: value for key, value in engine.items() if key != name}
        default = default_settings(others, gpu, spec, drafts, stages)[name]
        if engine[name] == default:
            taken[name] = default
        else:
            said[name] = (engine[name], default)
    return taken, said
