"""The requests of a run: replayed where they were recorded, else drawn from its description."""

import math
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.validation import lmbench
from experiments.validation.cells import burstiness_in, process_of
from experiments.validation.lengths import LengthLaw, length_law
from experiments.validation.per_request import (
    PerRequestError,
    Recorded,
    find_file,
    read_requests,
)
from experiments.validation.rows import Run, RunRow
from experiments.validation.stages import stage_rates_per_s, stages_of_recorded
from model.dataclass import dataclass
from workloads.arrivals import Deterministic, Gamma, Poisson
from workloads.prefixes import prompt_prefixes
from workloads.requests import Prefixes, Requests
from workloads.streams import stream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

RUN_S = 1200.0
"""How long a run without a duration sends requests, over all its stages."""

REQUESTS_PER_CLIENT = 10
"""Of a closed loop that does not say how many: what InferenceX asks for."""

SHARED_PREFIX_TIMEOUT_S = 300.0
"""Default total timeout of aiohttp's client, which the shared-prefix load generator uses."""


class CannotPredictError(ValueError):
    """A run that says too little, or asks for what is not modelled."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What one simulation of a run is asked."""

    requests: Requests
    stage: Ints
    """Load stage of each request, counted from 0."""
    timeout_s: float | None
    """After which the client gives up; None: never."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How the requests of a run come about; ``draw`` makes them."""

    run: Run
    recorded: Recorded | None
    laws: tuple[LengthLaw, LengthLaw] | None
    """Of prompts and of outputs, where nothing was recorded."""
    notes: tuple[str, ...]
    """What was assumed."""

    @property
    def is_random(self) -> bool:
        """Whether requests differ from seed to seed."""
        return self.recorded is None

    def draw(self, seed: int) -> Traffic:
        """Return the requests; the recorded ones, or those of a seed.

        Raises:
            CannotPredictError: the stages of the run do not fit its requests.
        """
        if self.recorded is not None:
            return _replayed(self.run, self.recorded)
        assert self.laws is not None  # as ``plan_traffic`` sees to
        return _drawn(self.run, *self.laws, seed)


def plan_traffic(run: Run, folder: Path) -> Plan:
    """Decide how the requests of a run come about.

    Raises:
        CannotPredictError: neither a file nor a description from which they follow.
    """
    row, notes, recorded = run.base, [], None
    if row.per_request_file is not None:
        try:
            recorded = read_requests(find_file(folder, row.per_request_file))
        except PerRequestError as error:
            notes.append(f"{error}{_DRAWN}")
    elif (known := lmbench.asked(row)) is not None:
        recorded, told = known
        notes.append(told)
    if (cold := _cold_start(row, recorded)) is not None:
        notes.append(cold)
    if recorded is not None:
        stages_of_recorded(run, recorded)  # refuses here rather than while simulating
        return Plan(run, recorded, None, tuple(notes))
    laws = []
    for what, spec, mean in (
        ("prompt", row.isl_spec, row.isl_mean),
        ("output", row.osl_spec, row.osl_mean),
    ):
        law = length_law(what, spec, mean, row.workload)
        if law is None:
            raise CannotPredictError(_no_length(what, spec, notes))
        if law.assumption:
            notes.append(law.assumption)
        laws.append(law)
    if not row.closed_loop and not row.all_at_once:
        notes += stage_rates_per_s(run)[1]
        notes += _process_notes(row)
    return Plan(run, None, (laws[0], laws[1]), tuple(notes))


def _no_length(what: str, spec: str | None, notes: list[str]) -> str:
    """Why a row has no lengths: its words tell none, or its file cannot be read."""
    column = "isl" if what == "prompt" else "osl"
    expected = (
        f"no length of the {what}s, expected {column}_mean or {column}_spec in tokens, such as 1024"
    )
    if spec:
        return f"{expected}; {column}_spec = {spec!r} tells none"
    unread = next((note.removesuffix(_DRAWN) for note in notes if note.endswith(_DRAWN)), None)
    return f"{unread}; and {expected}" if unread else f"{expected}, or a per_request_file"


_DRAWN = ": requests are drawn from the description instead"
_CHANGING = re.compile(r"ramp|incremental|schedule|replay|diurnal|centric")
"""Of arrivals whose mean rate would be another load."""
_COLD = re.compile(r"\bno warm-?ups?\b|\bcold[ -]starts? (?:is |are )?included\b|\bcold server\b")


def _cold_start(row: RunRow, recorded: Recorded | None) -> str | None:
    """Say that what the first requests of a cold server took is in the figures, where it shows."""
    said = _COLD.search(row.notes.lower())
    told = f"as the notes say ({said[0]!r})" if said else recorded.cold if recorded else ""
    if not told:
        return None
    within = "the server is taken to be warm: first_request_s says how cold it was"
    if row.first_request_s:
        within = f"first_request_s = {row.first_request_s:g} is simulated"
    return f"the first requests of a cold server are in the figures, {told}; {within}"


def _replayed(run: Run, recorded: Recorded) -> Traffic:
    start_s = min(0.0, float(recorded.arrival_s[0]))
    requests = Requests(
        arrival_s=recorded.arrival_s - start_s,
        prompt_tokens=recorded.prompt_tokens,
        output_tokens=recorded.output_tokens,
        priority=np.zeros(len(recorded.arrival_s), dtype=np.int64),
        prefixes=recorded.prefixes
        or _prefixes(
            recorded.prompt_tokens,
            recorded.identity,
            length_law("prompt", run.base.isl_spec, float(recorded.prompt_tokens.mean())),
        ),
    )
    return Traffic(requests, stages_of_recorded(run, recorded), recorded.timeout_s)


def _drawn(run: Run, of_prompts: LengthLaw, of_outputs: LengthLaw, seed: int) -> Traffic:
    row = run.base
    users = None
    if row.closed_loop:
        users = row.max_concurrency
        if users is None:
            raise CannotPredictError("closed loop without max_concurrency, expected one")
        count = row.n_requests or REQUESTS_PER_CLIENT * users
        arrival_s, stage = np.full(count, np.nan), np.zeros(count, dtype=np.int64)
    elif row.all_at_once:
        if row.n_requests is None:
            raise CannotPredictError("all requests at once, expected n_requests")
        arrival_s = np.zeros(row.n_requests)
        stage = np.zeros(row.n_requests, dtype=np.int64)
    else:
        arrival_s, stage = _arrivals(run, seed)
    rng = stream(seed, "lengths")
    prompts, identity = _prompts(of_prompts, len(stage), rng)
    requests = Requests(
        arrival_s=arrival_s,
        prompt_tokens=prompts,
        output_tokens=of_outputs.sample(len(stage), rng),
        priority=np.zeros(len(stage), dtype=np.int64),
        users=users,
        think_s=None if users is None else np.zeros(len(stage)),
        prefixes=_prefixes(prompts, identity, of_prompts),
    )
    timeout_s = SHARED_PREFIX_TIMEOUT_S if of_prompts.shared_tokens else None
    return Traffic(requests, stage, timeout_s)


def _prompts(law: LengthLaw, count: int, rng: np.random.Generator) -> tuple[Ints, Ints | None]:
    """Lengths of the prompts, and which prompt each one is if they repeat."""
    if not law.distinct:
        return law.sample(count, rng), None
    identity = np.arange(count, dtype=np.int64) % law.distinct
    return law.sample(law.distinct, rng)[identity], identity


def _prefixes(prompts: Ints, identity: Ints | None, law: LengthLaw | None) -> Prefixes | None:
    """What prompts have in common: repeats, and the system prompt of their group."""
    if identity is None:
        return None
    if law is None or not (law.shared_tokens and law.groups):
        return prompt_prefixes(prompts, prompt_id=identity)
    in_group = max(1, law.distinct // law.groups)
    return prompt_prefixes(
        prompts,
        prompt_id=identity,
        prefix_id=identity // in_group,
        prefix_tokens=np.full(len(prompts), law.shared_tokens, dtype=np.int64),
    )


def _arrivals(run: Run, seed: int) -> tuple[Floats, Ints]:
    """Arrival times, and the stage of each."""
    rates_per_s, _ = stage_rates_per_s(run)
    stages = run.stages
    begin_s, times, numbers = 0.0, [], []
    rng = stream(seed, "arrivals")
    for number, (row, rate_per_s) in enumerate(zip(stages, rates_per_s, strict=True)):
        duration_s = row.duration_s or (
            row.n_requests / rate_per_s if row.n_requests else RUN_S / len(stages)
        )
        count = row.n_requests or max(1, round(rate_per_s * duration_s))
        process = _process(run.base, rate_per_s)
        times.append(begin_s + process.times_s(count, rng))
        numbers.append(np.full(count, number, dtype=np.int64))
        begin_s = max(begin_s + duration_s, float(times[-1][-1]))
    return np.concatenate(times), np.concatenate(numbers)


def _process(row: RunRow, rate_per_s: float) -> Poisson | Gamma | Deterministic:
    if process_of(row.arrival_process) == "constant":
        return Deterministic(rate_per_s=rate_per_s)
    shape = row.burstiness or burstiness_in(row.arrival_process) or 1.0
    if shape != 1.0:
        return Gamma(rate_per_s=rate_per_s, cv=shape**-0.5)
    return Poisson(rate_per_s=rate_per_s)


def _process_notes(row: RunRow) -> list[str]:
    """Say what was assumed of the process. Raises CannotPredictError where cells contradict."""
    process, told = process_of(row.arrival_process), burstiness_in(row.arrival_process)
    if told and row.burstiness and not math.isclose(told, row.burstiness, rel_tol=1e-3):
        raise CannotPredictError(
            f"burstiness = {row.burstiness:g}, but arrival_process = {row.arrival_process!r} says "
            f"{told:g}, expected one"
        )
    if process == "gamma" and not (told or row.burstiness):
        return ["arrivals: Poisson, for gamma without its burstiness"]
    if process in ("poisson", "gamma", "constant"):
        return []
    if process in (None, "trace") and _CHANGING.search((row.arrival_process or "").lower()):
        raise CannotPredictError(
            f"arrival_process = {row.arrival_process!r}: a rate that changes is not told, expected "
            "a per_request_file with the arrivals"
        )
    return [f"arrivals: Poisson, for {row.arrival_process or 'an unnamed process'}"]
