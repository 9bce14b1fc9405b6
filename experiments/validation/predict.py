"""From a table of runs to predictions: plans, one simulation per run and seed, and figures per row.

``plan`` reads and checks everything once; ``predict`` simulates a plan, with the calibration that
belongs to each run or with one that is given, so that a fit can call it again and again.
"""

import math
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from experiments.reporting.intervals import NORMAL_QUANTILE, positive_ends
from experiments.reporting.means import mean_interval
from experiments.running.workers import in_parallel
from experiments.validation import calibrations
from experiments.validation.figures import (
    BELOW,
    figures_of,
    load_of,
    log_spread,
    offered_per_s,
    span_s,
    spreads_of,
    stalls_of,
)
from experiments.validation.levels import API, FULL, Level, client_at, engine_at, prices_at
from experiments.validation.recipes import with_its_lengths
from experiments.validation.retokenised import as_it_arrives
from experiments.validation.roles import serves_whole_requests, with_roles
from experiments.validation.rows import Run, RunRow, Skipped, Table
from experiments.validation.settings import Setup, setup_of
from experiments.validation.traffic import Plan as TrafficPlan
from experiments.validation.traffic import Traffic, plan_traffic
from hardware.calibration import Calibration
from hardware.engines.constants import doubted
from model.dataclass import dataclass
from sim.measuring.steady_state import measured_window, saturated
from sim.settings.cluster_config import ClientConfig
from sim.settings.engine_config import precision_of
from sim.settings.scenario import Scenario, build_scenario
from sim.simulation import simulate
from workloads.streams import stream

Mask = npt.NDArray[np.bool_]

SEEDS = 3
"""Simulations of a run whose requests are drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One run, ready to simulate, and the rows to predict."""

    run: Run
    rows: tuple[RunRow, ...]
    setup: Setup
    calibration: Calibration
    traffic: tuple[Traffic, ...]
    """One per seed; a single one where requests were recorded, and no router draws."""
    notes: tuple[str, ...]
    """What was assumed, and what the prices rest on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be predicted, and what cannot."""

    tasks: tuple[Task, ...]
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is predicted for one row."""

    row: RunRow
    values: dict[str, tuple[float, float, float]]
    """Metric to value and the ends of its interval (of one run); NaN where there is none."""
    load: str
    """Below or above saturation, or saturated in the simulation only (``figures.load_of``)."""
    model: str
    """Name in the catalogue."""
    gpu: str
    calibration: str
    notes: tuple[str, ...]
    """What was assumed, and what the prices rest on."""

    @property
    def saturated(self) -> bool:
        """Whether the run is beyond what its engine can serve, measured or simulated."""
        return self.load != BELOW


def plan(
    table: Table,
    only: str = "",
    seeds: int = SEEDS,
    calibration: str | None = None,
) -> Plan:
    """Prepare every run of a table whose rows match ``only``.

    Args:
        table: the runs.
        only: regular expression that a ``run_id`` must contain.
        seeds: simulations of a run whose requests are drawn.
        calibration: name or file of the prices of all runs; by default each has its own
            (``choose_calibration``).
    """
    wanted = re.compile(only)
    tasks, skipped = [], [one for one in table.unreadable if wanted.search(one.run_id)]
    for run in table.runs:
        rows = tuple(row for row in run.rows if wanted.search(row.run_id))
        if not rows:
            continue
        try:
            tasks.append(_task(run, rows, table, seeds, calibration))
        except ValueError as error:
            skipped += [Skipped(row.run_id, str(error)) for row in rows]
    return Plan(tuple(tasks), tuple(skipped))


def _task(
    run: Run, rows: tuple[RunRow, ...], table: Table, seeds: int, calibration: str | None
) -> Task:
    first = setup_of(run.base, 1)  # refuses other engines before their requests are looked at
    planned: TrafficPlan = plan_traffic(run, table.folder)
    planned = with_its_lengths(planned, run.base)
    planned = as_it_arrives(planned, run.base, first.spec, first.version)
    traffic = tuple(planned.draw(seed) for seed in range(seeds if planned.is_random else 1))
    longest = max(
        int((one.requests.prompt_tokens + one.requests.output_tokens).max()) for one in traffic
    )
    setup = setup_of(run.base, longest)
    if calibration is None:
        chosen, about = calibrations.choose_calibration(setup.gpu, setup.version)
    else:
        chosen, about = calibrations.given_calibration(calibration, setup.gpu)
    if setup.roles is not None:
        setup = _as_it_was(setup, run, chosen, traffic)
    notes = (*setup.notes, *planned.notes, about, *calibrations.layers_known(setup, chosen))
    task = Task(run, rows, setup, chosen, traffic, notes)
    scenario = _scenario(task, chosen, FULL)  # refuses what does not fit before simulating anything
    if len(traffic) < seeds and scenario.routing(not traffic[0].requests.waits).random:
        task = replace(task, traffic=traffic * seeds)
    return task


def _as_it_was(
    setup: Setup, run: Run, calibration: Calibration, traffic: tuple[Traffic, ...]
) -> Setup:
    """Without roles, if what was measured shows that the engines served whole requests."""
    plain = replace(setup, roles=None)
    scenario = _scenario(Task(run, (), plain, calibration, traffic, ()), calibration, FULL)
    prompts = traffic[0].requests.prompt_tokens
    why = serves_whole_requests(run.base, scenario, int(np.median(prompts)))
    return replace(plain, notes=(*setup.notes, why)) if why else setup


def predict(
    tasks: Sequence[Task],
    calibration: Calibration | Callable[[Task], Calibration] | None = None,
    *,
    level: Level = FULL,
    draws: int = 0,
    jobs: int = 1,
    done: Callable[[Task], None] = lambda _: None,
) -> tuple[list[Prediction], list[Skipped]]:
    """Simulate the tasks and return the predictions of their rows, in order.

    Args:
        tasks: see ``plan``.
        calibration: prices in place of each task's own: one for all, or a function of the task.
        level: how much of the model is switched on.
        draws: calibrations drawn from the covariance of each, for the intervals.
        jobs: processes.
        done: told of each task as it ends.
    """
    priced = [(task, _prices(task, calibration)) for task in tasks]
    found: dict[int, list[Prediction] | Skipped] = {}
    work = [(number, task, prices, level, draws) for number, (task, prices) in enumerate(priced)]
    with closing(_executed(work, jobs)) as outcomes:  # also if ``done`` fails
        for number, outcome in outcomes:
            found[number] = outcome
            done(tasks[number])
    predictions, skipped = [], []
    for number, task in enumerate(tasks):
        outcome = found[number]
        if isinstance(outcome, Skipped):
            skipped += [Skipped(row.run_id, outcome.reason) for row in task.rows]
        else:
            predictions += outcome
    return predictions, skipped


Work = tuple[int, Task, Calibration, Level, int]


def _executed(
    work: Sequence[Work], jobs: int
) -> Generator[tuple[int, list[Prediction] | Skipped], None, None]:
    """Outcomes as they come; the longest runs are begun first."""
    if jobs == 1 or len(work) < 2:
        yield from map(_predicted, work)
        return
    ordered = sorted(work, key=_size, reverse=True)
    yield from in_parallel(_predicted, ((one,) for one in ordered), min(jobs, len(work)))


def _size(one: Work) -> int:
    """Requests to simulate: a measure of how long a task takes."""
    return sum(len(traffic.requests) for traffic in one[1].traffic)


def _prices(
    task: Task, calibration: Calibration | Callable[[Task], Calibration] | None
) -> Calibration:
    if calibration is None:
        return task.calibration
    return calibration if isinstance(calibration, Calibration) else calibration(task)


def _predicted(work: Work) -> tuple[int, list[Prediction] | Skipped]:
    number, task, calibration, level, draws = work
    try:
        return number, _of_task(task, calibration, level, draws)
    except (ValueError, RuntimeError) as error:
        return number, Skipped(task.run.name, str(error))


def _of_task(task: Task, calibration: Calibration, level: Level, draws: int) -> list[Prediction]:
    prices = [calibration]
    if draws and calibration.covariance is not None and level.kernels:
        setup = task.setup
        kv_bytes = precision_of(setup.engine, setup.spec, setup.gpu).kv_bytes
        wide = doubted(calibration, setup.spec, setup.engine.version, kv_bytes)
        prices += [wide.draw(stream(draw, "prices")) for draw in range(draws)]
    per_price = []
    for one in prices:
        scenario = _scenario(task, one, level)
        per_price.append([_figures(task, scenario, seed) for seed in range(len(task.traffic))])
    predictions = []
    for place, row in enumerate(task.rows):
        of_seeds = [seed[place] for seed in per_price[0]]
        values = {}
        for name in of_seeds[0].values:
            of_draws = [
                math.fsum(seed[place].values[name] for seed in seeds) / len(seeds)
                for seeds in per_price[1:]
            ]
            lone = math.fsum(one.spreads.get(name, 0.0) for one in of_seeds) / len(of_seeds)
            of_each = [one.values[name] for one in of_seeds]
            values[name] = _interval(of_each, of_draws, lone, stalls_of(name, task.setup.gpu.name))
        grew = sum(one.queue_grew for one in of_seeds) * 2 > len(of_seeds)
        predictions.append(
            Prediction(
                row=row,
                values=values,
                load=load_of(row, *_offered(task, row), {k: v[0] for k, v in values.items()}, grew),
                model=task.setup.spec.name,
                gpu=task.setup.gpu.name,
                calibration=calibration.name,
                notes=task.notes,
            )
        )
    return predictions


def _interval(
    seeds: list[float], draws: list[float], lone: float = 0.0, stalls: float = 0.0
) -> tuple[float, float, float]:
    """Mean over seeds; its ends from the seeds' spread, the draws' spread, or both.

    Figures are positive, so their intervals are those of ``positive_ends``; where several spreads
    count, half lengths add up as squares on the log scale. ``lone`` is what a figure of one run, as
    a measured one is, varies by beside (``figures.spreads_of``), and ``stalls`` what makes it
    longer alone (``figures.stalls_of``); they make no interval alone.
    """
    mean, low, high = mean_interval(seeds, ends=positive_ends)
    if not math.isfinite(mean) or low == 0 or (len(draws) < 2 and math.isnan(low)):
        return mean, low, high
    of_seeds = 0.0 if math.isnan(low) else math.log(mean / low) * mean
    errors = (log_spread(draws), lone, stalls)
    of_draws, of_run, of_host = (error * mean * NORMAL_QUANTILE for error in errors)
    half = math.hypot(of_seeds, of_draws, of_run)
    low, _ = positive_ends(mean, half, 1.0)
    _, high = positive_ends(mean, math.hypot(half, of_host), 1.0)
    return mean, low, high


@dataclass(frozen=True, slots=True)
class _Simulated:
    """What one simulation tells of a row."""

    values: dict[str, float]
    spreads: dict[str, float]
    queue_grew: bool


def _figures(task: Task, scenario: Scenario, seed: int) -> list[_Simulated]:
    """Figures of each row in one simulation; the seed is a random router's as well."""
    traffic = task.traffic[seed]
    result = simulate(replace(scenario, seed=seed), traffic.requests)
    grew = saturated(result, measured_window(result, 0.0)) == 1.0
    figures = []
    for row in task.rows:
        asked = _asked(task.run, row, traffic)
        spreads = spreads_of(result, asked)
        figures.append(_Simulated(figures_of(result, asked, row), spreads, grew))
    return figures


def _asked(run: Run, row: RunRow, traffic: Traffic) -> Mask:
    """Which requests are those of a row."""
    if row.stage is None:
        return np.ones(len(traffic.stage), dtype=np.bool_)
    place = [stage.run_id for stage in run.stages].index(row.run_id)
    asked: Mask = traffic.stage == place
    return asked


def _offered(task: Task, row: RunRow) -> tuple[float, float]:
    """Rate and span of a row's arrivals."""
    first = task.traffic[0]
    arrival_s = first.requests.arrival_s[_asked(task.run, row, first)]
    return offered_per_s(arrival_s), span_s(arrival_s)


def _scenario(task: Task, calibration: Calibration, level: Level) -> Scenario:
    setup, row = task.setup, task.run.base
    client = ClientConfig(
        max_concurrency=None if row.closed_loop else row.max_concurrency,
        timeout_s=task.traffic[0].timeout_s,
    )
    prices = prices_at(level, calibration)
    if row.measured_inside:
        prices = prices.model_copy(update=dict.fromkeys(API, 0.0))
    scenario = build_scenario(
        setup.spec,
        setup.gpu,
        setup.cluster,
        engine_at(level, setup.engine),
        prices,
        client=client_at(level, client),
    )
    return scenario if setup.roles is None else with_roles(scenario, setup.roles)
