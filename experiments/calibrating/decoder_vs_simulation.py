"""Study kind ``decoder_vs_simulation``: serve for real, simulate the same requests, compare.

1. A calibration is measured on the very decoder that will serve, before and after each scheduler's
   turn: machines drift, and the mean of both is what held in between.
2. The simulator finds the capacity of each scheduler: requests/s when all of them wait at once.
3. At each load (a share of that capacity) the real engine serves a workload on the wall clock, and
   later again: the difference of the two runs is the machine's noise floor.
4. The same requests are simulated with the calibration's prices, and laid beside the real ones.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from experiments.calibrating import decoder_sheet
from experiments.calibrating.beside import RATES as BOTH
from experiments.calibrating.beside import beside, lines
from experiments.calibrating.decoder_sheet import Distributions
from experiments.calibrating.measured import Findings, MeasuredStudy, Tell, measure_again
from experiments.reporting.page.curves import RANKS
from experiments.reporting.records import Records
from model.dataclass import dataclass
from sim.settings.cluster_config import ClusterConfig
from sim.settings.engine_config import EngineConfig, SchedulerName
from sim.settings.scenario import Scenario, build_scenario
from workloads.generate import generate
from workloads.requests import Requests
from workloads.workload import Workload

if TYPE_CHECKING:
    from pandas import DataFrame

    from experiments.calibrating.fit import Fit
    from model.torch.decoder import Decoder
    from sim.recording.result import Result

COMPARED = {
    "TTFT": ("ttft", ("mean", "p50", "p95")),
    "TPOT": ("tpot", ("mean", "p50", "p95")),
    "ITL": ("itl", ("mean", "p50", "p95")),
    "E2E": ("e2e", ("mean", "p50", "p95")),
}
RATES = (*BOTH, "mean_batch_size")


class DecoderStudy(MeasuredStudy):
    """A real decoder, what it serves, and how hard it is driven."""

    kind: Literal["decoder_vs_simulation"] = "decoder_vs_simulation"
    """What a run is: a comparison of real serving with its simulation."""
    engine: EngineConfig = EngineConfig()
    """Settings of the engine; its scheduler is set by ``schedulers``."""
    schedulers: tuple[SchedulerName, ...] = Field(
        default=("static", "prefill_first", "chunked_prefill"), min_length=1
    )
    """Which schedulers to compare."""
    loads: tuple[Annotated[float, Field(gt=0, le=1e3)], ...] = Field(
        default=(0.3, 0.6, 0.85), min_length=1
    )
    """Offered loads, as shares of each scheduler's simulated capacity."""
    workload: Workload
    """The requests; times of open arrivals are stretched to the load."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the first requests that is served but not compared."""

    @field_validator("workload")
    @classmethod
    def _stand_alone(cls, workload: Workload) -> Workload:
        if workload.has_sessions:
            raise ValueError(
                "sessions are not served by the real engine, expected requests that stand alone"
            )
        return workload


@dataclass(frozen=True, slots=True)
class Duel:
    """One setting: the real run, its repetition, and the simulation of the same requests."""

    scheduler: str
    load: float
    scenario: Scenario
    real: "Result"
    repeated: "Result"
    simulated: "Result"


def run_duels(
    study: DecoderStudy, decoder: "Decoder", found: "Fit", tell: Tell = lambda line: None
) -> list[Duel]:
    """Serve and simulate every (scheduler, load) of the study.

    Raises:
        ValueError: the engine's settings do not fit the model or the device.
    """
    from experiments.calibrating.engine import serve
    from sim.simulation import simulate

    requests = generate(study.workload, study.seed)
    duels = []
    for place, scheduler in enumerate(study.schedulers):
        if place:
            found = measure_again(study, decoder, tell)
        scenario = scenario_of(study, decoder, found, scheduler)
        serve(decoder, scenario, _first(at_once(requests), 16), study.seed)  # warm-up, not counted
        capacity = capacity_per_s(scenario, requests)
        tell(f"{scheduler}: serving at {study.loads} of {capacity:.1f} requests/s, twice")
        offered = [stretched(requests, load * capacity) for load in study.loads]
        # All loads once, then all again: the two runs of one setting are a drift apart.
        first, second = (
            [serve(decoder, scenario, each, study.seed) for each in offered] for _ in range(2)
        )
        both = _pooled(decoder, found, measure_again(study, decoder, tell))
        priced = scenario_of(study, decoder, both, scheduler)
        for load, each, real, repeated in zip(study.loads, offered, first, second, strict=True):
            simulated = simulate(priced, each)
            duels.append(Duel(scheduler, load, priced, real, repeated, simulated))
    return duels


def _pooled(decoder: "Decoder", before: "Fit", after: "Fit") -> "Fit":
    from experiments.calibrating.fit import Target, pooled
    from hardware.gpu import load_gpu
    from model.precision import precision

    calibration = before.calibration
    device = calibration.device or load_gpu(calibration.gpu or "")
    numbers = precision(str(decoder.dtype).removeprefix("torch."))
    return pooled(Target(decoder.spec, device, numbers), before, after)


def scenario_of(
    study: DecoderStudy, decoder: "Decoder", found: "Fit", scheduler: SchedulerName
) -> Scenario:
    """The scenario that both the engine and the simulator run.

    Raises:
        ValueError: settings that do not fit the device.
    """
    from hardware.gpu import load_gpu

    calibration = found.calibration
    gpu = calibration.device or load_gpu(study.gpu or "")
    # What the real engine lacks is off unless it is asked for, and then refused.
    engine = study.engine.model_copy(
        update={
            "scheduler": scheduler,
            "dtype": study.dtype,
            "async_scheduling": bool(study.engine.async_scheduling),
            "enable_prefix_caching": bool(study.engine.enable_prefix_caching),
        }
    )
    return build_scenario(
        decoder.spec, gpu, ClusterConfig(gpu=gpu.name), engine, calibration, study.seed
    )


def capacity_per_s(scenario: Scenario, requests: Requests) -> float:
    """Requests/s in the middle of a simulated run in which everybody waits from the start."""
    from sim.simulation import simulate

    finish_s = np.sort(simulate(scenario, at_once(requests)).requests["finish_s"])
    finish_s = finish_s[np.isfinite(finish_s)]
    low, high = len(finish_s) // 5, 4 * len(finish_s) // 5
    return float((high - low) / (finish_s[high] - finish_s[low]))


def at_once(requests: Requests) -> Requests:
    """The same requests, all at time 0."""
    arrival_s = np.zeros(len(requests))
    return replace(requests, arrival_s=arrival_s, users=None, think_s=None)


def stretched(requests: Requests, rate_per_s: float) -> Requests:
    """The same requests, arriving at another mean rate; a closed loop sets its own pace."""
    if requests.users is not None:
        return requests
    now_per_s = len(requests) / float(requests.arrival_s[-1])
    return replace(requests, arrival_s=requests.arrival_s * (now_per_s / rate_per_s))


def _first(requests: Requests, rows: int) -> Requests:
    return replace(
        requests,
        arrival_s=requests.arrival_s[:rows],
        prompt_tokens=requests.prompt_tokens[:rows],
        output_tokens=requests.output_tokens[:rows],
        priority=requests.priority[:rows],
        prefixes=None,
    )


def compare(duels: list[Duel], warmup_fraction: float = 0.0) -> "DataFrame":
    """Lay real, repeated and simulated figures side by side (``beside``)."""
    import pandas as pd

    from sim.measuring.metrics import summarise

    rows = []
    names = [f"{key}_{kind}_s" for key, kinds in COMPARED.values() for kind in kinds]
    for duel in duels:
        first, second, simulated = (
            summarise(result, duel.scenario, None, warmup_fraction)
            for result in (duel.real, duel.repeated, duel.simulated)
        )
        setting = {"scheduler": duel.scheduler, "load": duel.load}
        rows += beside(setting, first, second, simulated, (*names, *RATES))
    return pd.DataFrame(rows)


def distributions(duels: list[Duel]) -> Distributions:
    """Return quantiles of each latency, seconds at ``RANKS``: by setting, latency and run."""
    from sim.measuring.latencies import request_latencies

    found: Distributions = {}
    for duel in duels:
        setting = found.setdefault((duel.scheduler, duel.load), {})
        runs = {"real": duel.real, "real again": duel.repeated, "simulated": duel.simulated}
        for name, result in runs.items():
            for latency, values in request_latencies(result).items():
                known = values[np.isfinite(values)]
                if latency != "queue" and len(known):
                    each = setting.setdefault(latency, {})
                    each[name] = np.quantile(known, RANKS).tolist()
    return found


def draw_duels(duels: list[Duel], path: Path) -> None:
    """Draw the distributions: a row per scheduler, TTFT and TPOT and E2E beside each other."""
    from experiments.reporting.drawing import drawing
    from sim.measuring.latencies import request_latencies

    schedulers = list(dict.fromkeys(duel.scheduler for duel in duels))
    loads = list(dict.fromkeys(duel.load for duel in duels))
    colors = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7")
    with drawing(path, 9.5, 0.9 + 2.3 * len(schedulers)) as figure:
        panels = figure.subplots(len(schedulers), 3, squeeze=False, sharey=True)
        for duel in duels:
            row = panels[schedulers.index(duel.scheduler)]
            color = colors[loads.index(duel.load) % len(colors)]
            runs = ((duel.real, "-"), (duel.repeated, "-"), (duel.simulated, "--"))
            for result, style in runs:
                latencies = request_latencies(result)
                for axes, key in zip(row, ("ttft", "tpot", "e2e"), strict=True):
                    values = np.sort(latencies[key][np.isfinite(latencies[key])]) * 1e3
                    share = np.arange(1, len(values) + 1) / len(values)
                    axes.plot(values, share, style, color=color, linewidth=1.2)
        for scheduler, row in zip(schedulers, panels, strict=True):
            row[0].set_ylabel(f"{scheduler}\nshare of requests")
            for axes, name in zip(row, ("TTFT", "TPOT", "E2E"), strict=True):
                axes.set_xlim(left=0)
                axes.set_xlabel(f"{name} (ms)")
        entries = [
            (f"load {load:.0%}", colors[i % len(colors)], "-") for i, load in enumerate(loads)
        ]
        entries += [("real, two runs", "0.3", "-"), ("simulated", "0.3", "--")]
        handles = [
            panels[0][0].plot([], [], style, color=color, label=label)[0]
            for label, color, style in entries
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.suptitle("Real decoder against its simulation")


FILES = ("comparison.csv", "distributions.png")
"""What ``run`` finds and draws."""


def run(
    study: DecoderStudy, decoder: "Decoder", found: "Fit", folder: Path, tell: Tell
) -> Findings:
    """Compare, draw into ``folder``, and return the table."""
    duels = run_duels(study, decoder, found, tell)
    table = compare(duels, study.warmup_fraction)
    draw_duels(duels, folder / "distributions.png")
    rows = Records.of_frame(table).rows()
    return Findings(
        lines(rows, ("scheduler", "load")), table, "comparison.csv", decoder_sheet.answer(rows),
        decoder_sheet.cards(rows), decoder_sheet.sections(rows, distributions(duels)),
    )  # fmt: skip
