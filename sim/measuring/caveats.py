"""What a reader of a run's metrics must know."""

from collections.abc import Mapping
from math import ceil, isinf, isnan

from hardware.calibration import Calibration
from model.counts import count_of
from sim.measuring.percentiles import unsupported
from sim.measuring.steady_state import SERVICE_TIMES

EXTRAPOLATED = "prices are extrapolated"
"""How the caveat begins that tells of a run outside the range of its calibration."""
SATURATED = "saturated"
"""How the one begins that tells of a queue without bound."""
WHY_REJECTED = "longer than max_model_len, or than the KV cache"
"""Nothing else is refused on arrival."""


def caveats(values: Mapping[str, float], calibration: Calibration | None = None) -> list[str]:
    """What a reader of these metrics must know: saturation, short runs, thin percentiles, losses.

    With ``calibration``, also by how much the run leaves the range that it covers. Sentences
    without a semicolon, so that a column of a table can hold several.
    """
    notes = []
    if values["saturated"] > 0:
        notes.append(
            f"{SATURATED}: the queue grows without bound, so latencies are of no steady state"
        )
    notes += _too_short(values)
    measured = values.get("measured_requests", float("inf"))
    thin = [f"p{percent}" for percent in unsupported(measured)]
    if measured == 0:
        notes.append("no measured request was answered: there are no latencies")
    elif thin:
        names = " and ".join(filter(None, (", ".join(thin[:-1]), thin[-1])))
        notes.append(
            f"{names} {'rest' if thin[1:] else 'rests'} on {_counted(measured, 'request')}"
        )
    if values["unfinished"] > 0:
        notes.append(f"{_counted(values['unfinished'], 'request')} unfinished")
    if values["rejected"] > 0:
        notes.append(f"{_counted(values['rejected'], 'request')} rejected: {WHY_REJECTED}")
    if values["timed_out"] > 0:
        others = ": latencies are of the others" if measured else ""
        notes.append(f"{_counted(values['timed_out'], 'request')} timed out{others}")
    if calibration is not None:
        notes += _outside(values, calibration)
    return notes


def _counted(number: float, noun: str) -> str:
    """Count as tables do, which have nothing between thousands."""
    return count_of(int(number), noun).replace(",", "")


def _too_short(values: Mapping[str, float]) -> list[str]:
    """What cannot be told of so short a run: rates of an engine in full swing, saturation."""
    notes = []
    part = values.get("service_per_window", float("nan"))
    if part * SERVICE_TIMES > 1:
        factor = 0 if isinf(part) else ceil(1 / part)
        times = f"less than {f'{factor} x ' * (factor > 1)}the mean time in service"
        times = times if factor else "0 s"
        notes.append(
            f"the run is short: its window is {times}, so rates are of a system still filling up"
        )
    if isnan(values["saturated"]):
        notes.append("the run is too short to tell whether it is saturated")
    return notes


def _outside(values: Mapping[str, float], calibration: Calibration) -> list[str]:
    """One sentence: how many steps and requests are extrapolated, and how far at most."""
    reached = [
        int(values[name]) for name in ("step_tokens_max", "context_tokens_max", "step_decodes_max")
    ]
    sentences = calibration.outside(*reached)
    if not sentences:
        return []
    counts = []
    if values["steps_outside_calibration"] > 0:
        percent = 100 * values["share_steps_outside_calibration"]
        steps = _counted(values["steps_outside_calibration"], "step")
        counts.append(f"{steps} ({percent:.3g}%)")
    if values["requests_outside_calibration"] > 0:
        counts.append(_counted(values["requests_outside_calibration"], "request"))
    return [f"{EXTRAPOLATED} for {' and '.join(counts)}: {', '.join(sentences)}"]
