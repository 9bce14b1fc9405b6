"""A plan in words: its ceilings, its memory, and what its prices rest on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from experiments.reporting.server_notes import server_notes
from experiments.study.build import Keys, keys_of, prices_of, settled
from experiments.study.calibrations import gpu_of
from experiments.study.document import Study
from experiments.study.points import Plan
from experiments.study.pools import by_pool
from hardware.calibration import DATASHEET
from hardware.engines.constants import UNMEASURED, constants_named, constants_of
from hardware.engines.versions import version_key
from hardware.evidence import POOR_MEAN, POOR_WORST
from hardware.gpu import Gpu, UnknownGpuError, load_gpu
from hardware.links.exchange import told_of_exchange
from hardware.links.interconnect import told_of_servers, told_of_stages
from hardware.prices.lookup import doubtful_note, unmeasured_note
from hardware.relatives import relative_of, told_of_links
from model.counts import count_of
from model.spec import load_spec
from sim.settings.engine_config import EngineConfig, precision_of
from sim.settings.host_time import ASSUMED_SEQUENCE_OVERHEAD_S, ASSUMED_STEP_OVERHEAD_S

Name = TypeVar("Name")


def ceiling_lines(plan: Plan) -> list[str]:
    """Say what the hardware allows at best: a line per model and GPU, ranges over the points."""
    setups: dict[str, list[Mapping[str, float]]] = {}
    for setup in plan.setups:
        setups.setdefault(setup.title, []).append(setup.ceilings)
    lines = [f"  {title}: {ceilings_text(ceilings)}" for title, ceilings in setups.items()]
    return ["Ceilings of one replica, each alone and without queueing:", *lines]


def ceilings_text(ceilings: Sequence[Mapping[str, float]]) -> str:
    """Write one or several ``StepCost.ceilings()`` in ms and tokens/s, as ranges."""
    words = []
    for name in ceilings[0]:
        values = [one[name] for one in ceilings]
        if name.endswith("_per_s"):
            what, _, noun = name.removesuffix("_per_s").rpartition("_")
            unit, factor, digits = f"{noun}/s", 1.0, 0
        else:
            what, unit, factor, digits = name.removesuffix("_s"), "ms", 1e3, 2
        low, high = (f"{end * factor:,.{digits}f}" for end in (min(values), max(values)))
        span = low if low == high else f"{low} to {high}"
        words.append(f"{what.replace('_', ' ')} {span} {unit}")
    return "; ".join(words)


def ledger_lines(plan: Plan) -> list[str]:
    """Write the memory ledger of every distinct setup, with the points that it is about."""
    ledgers: dict[tuple[str, str], list[int]] = {}
    for setup in plan.setups:
        ledgers.setdefault((setup.title, setup.ledger), []).extend(setup.points)
    lines = []
    for (title, ledger), points in ledgers.items():
        which = f" ({points_text(points)})" if len(ledgers) > 1 else ""
        lines.append(f"Memory of one GPU, {title}{which}:")
        lines += [f"  {line}" for line in ledger.splitlines()]
    return lines


def basis_text(plan: Plan) -> str:
    """Say in a line what the figures of a plan rest on."""
    titles = list(dict.fromkeys(setup.title for setup in plan.setups))
    shown = ", ".join(titles[:3]) + (f" and {len(titles) - 3} more" if titles[3:] else "")
    calibrations = calibrations_of(plan)
    prices = calibrations[0] if len(calibrations) == 1 else f"{len(calibrations)} calibrations"
    return f"{shown}. Prices: {prices}. {_repetitions(plan)}"


def calibrations_of(plan: Plan) -> list[str]:
    """Return the names of the calibrations that a plan is priced by."""
    alone = (one for point in plan.points for _, one in by_pool(point.study))
    return list(dict.fromkeys(prices_of(one).name for one in alone))


def _repetitions(plan: Plan) -> str:
    """How often a point is run, and what its intervals hold."""
    seeds, draws = plan.study.seeds, plan.study.calibration_draws
    each = count_of(seeds, "seed")
    if not draws:
        return f"{each} a point."
    held = "prices and that of the traffic" if seeds > 1 else "prices only"
    return (
        f"{count_of(draws, 'drawn calibration')} with {each} each a point: intervals hold the "
        f"uncertainty of {held}."
    )


def calibration_notes(plan: Plan) -> list[str]:
    """Say what prices rest on: each sentence once, with the points that it is about."""
    found = setup_notes((point.number, point.study) for point in plan.points)
    notes = [
        sentence if len(points) == len(plan.points) else f"{points_text(points)}: {sentence}"
        for sentence, points in found.items()
    ]
    if plan.study.calibration_draws:
        notes.append(
            f"every seed is run with {count_of(plan.study.calibration_draws, 'calibration')} drawn "
            "from the fit's covariance: intervals hold the uncertainty of prices, but not an error "
            "of the model's form"
        )
    return notes


def setup_notes(studies: Iterable[tuple[Name, Study]]) -> dict[str, list[Name]]:
    """Return what a reader must know of the prices of settled studies, and of which of them."""
    return told_of_pools(studies, _notes_of)


def told_of_pools(
    studies: Iterable[tuple[Name, Study]], told: Callable[[Study], list[str]]
) -> dict[str, list[Name]]:
    """Return what ``told`` says of each pool of settled studies, and of which of them.

    What holds for all pools of a study names none of them.
    """
    found: dict[str, list[Name]] = {}
    known: dict[Keys, list[str]] = {}
    for name, study in studies:
        pools, said = by_pool(study), dict[str, list[str]]()
        for pool, alone in pools:
            keys = keys_of(alone)
            if keys not in known:
                known[keys] = told(alone)
            for text in known[keys]:
                said.setdefault(text, []).append(pool.name)
        for text, names in said.items():
            some = f"pool{'s' if names[1:] else ''} {', '.join(names)}: "
            which = "" if len(names) == len(pools) else some
            found.setdefault(f"{which}{text}", []).append(name)
    return found


def _notes_of(study: Study) -> list[str]:
    return [
        *price_notes(study),
        *model_notes(study),
        *server_notes(study),
        *cost_notes(study),
    ]


def price_notes(study: Study) -> list[str]:
    """Say what a reader of one point (of one pool) must know of its prices."""
    calibration = prices_of(study)
    gpu = gpu_of(study.cluster.all_pools[0].gpu, calibration)
    spread = _group_notes(study, gpu)
    if calibration == DATASHEET:
        return [
            *spread,
            "calibration none: kernels run at the datasheet's peaks, which real ones stay below, "
            f"and {_host_words(study.engine)}; {_remedy(study, gpu)}",
        ]
    name, notes = calibration.name, _constant_notes(study)
    notes += spread
    measured, applied = calibration.gpu, gpu.name
    if measured is not None and applied not in (measured, _catalogue_name(measured)):
        notes.append(f"calibration {name}: prices measured on {measured} are applied to {applied}")
    ranks = study.cluster.tensor_parallel_size
    if ranks > 1 and calibration.kernels is not None:
        notes += filter(None, [told_of_links(gpu, calibration.kernels)])
    if ranks > 1 and not calibration.collectives_measured:
        notes.append(
            f"calibration {name} was measured on one device: prices of a group of {ranks} are a "
            "model, its collectives at the rate of the datasheet's links"
        )
    if study.engine.attention == "fused":
        spec = load_spec(study.model)
        numbers = precision_of(study.engine, spec, gpu).kv_numbers
        told = (unmeasured_note(spec, calibration), doubtful_note(spec, calibration, numbers))
        notes += [f"calibration {name} has {note}" for note in told if note]
    residuals = calibration.residuals
    if residuals is not None and residuals.poor:
        notes.append(
            f"calibration {name} is poor: its held-out errors are {residuals.mean_absolute:.1%} "
            f"in the mean and {residuals.worst_absolute:.1%} at worst, of {residuals.points} "
            f"points; a good one has at most {POOR_MEAN:.0%} and {POOR_WORST:.0%}"
        )
    return notes


def _group_notes(study: Study, gpu: Gpu) -> list[str]:
    """Say what no measurement stands behind where GPUs work together."""
    pool, spec = study.cluster.all_pools[0], load_spec(study.model)
    tp, dp = pool.tensor_parallel_size, pool.data_parallel_size
    notes = [told_of_servers(gpu, tp), told_of_stages(gpu, tp, pool.pipeline_parallel_size)]
    if dp > 1 and spec.num_experts:
        notes.append(told_of_exchange(study.engine.all2all_backend, gpu, tp * dp))
    return [note for note in notes if note]


def _remedy(study: Study, gpu: Gpu) -> str:
    """Say how to get prices that were measured."""
    if relative_of(gpu) is None:
        return (
            f"no kernels of gpu {gpu.name} or a relative were measured: measure it with python -m "
            "experiments.calibrate, or name a relative with cluster.gpu: {like: ...}"
        )
    if precision_of(study.engine, load_spec(study.model), gpu).compute in UNMEASURED:
        return (
            "no kernels of such arithmetic were measured: measure them with python -m "
            "experiments.calibrate"
        )
    return "calibration: auto has measured kernels"


def _constant_notes(study: Study) -> list[str]:
    """Say which version's constants price another one."""
    settings = settled(study)
    version = str(settings.engine.version)
    used = constants_named(settings.calibration)
    if used is None:
        return []
    name, constants = used
    if constants_of(version) != name:
        return [
            f"calibration {settings.calibration} has the constants of vLLM {constants.since} or "
            f"later, but engine.version is {version}: prices are of the one, defaults and memory "
            "of the other"
        ]
    if version_key(version)[:2] in map(version_key, constants.fitted):
        return []
    return [
        f"vLLM {version} is priced with engine constants fitted to "
        f"{' and '.join(constants.fitted)}, the nearest that were measured"
    ]


def model_notes(study: Study) -> list[str]:
    """Say what the model does that its price leaves out or has too much of."""
    spec = load_spec(study.model)
    longest = study.engine.max_model_len or spec.max_model_len
    notes = [f"{spec.name}: {spec.unpriced} have no price"] if spec.unpriced else []
    chunk = spec.attention_chunk_tokens
    if chunk is not None and longest > chunk:
        notes.append(
            f"requests of more than {chunk:,} tokens attend windows of that length in most layers "
            f"of {spec.name}, which attend chunks of it: a little too slow"
        )
    return notes


def cost_notes(study: Study) -> list[str]:
    """Say that a GPU has no price, so that no cost is taken for none."""
    gpu = gpu_of(study.cluster.all_pools[0].gpu, prices_of(study))
    if study.cluster.gpu_usd_per_hour is not None or gpu.usd_per_hour is not None:
        return []
    return [f"gpu {gpu.name} has no price, so costs are empty (set cluster.gpu_usd_per_hour)"]


def _host_words(engine: EngineConfig) -> str:
    """Say which part of the host's time nobody measured or gave."""
    parts = (
        ("step", engine.step_overhead_s, ASSUMED_STEP_OVERHEAD_S * 1e3, "ms"),
        ("sequence", engine.sequence_overhead_s, ASSUMED_SEQUENCE_OVERHEAD_S * 1e6, "us"),
    )
    assumed = [(part, f"{value:g} {unit}") for part, given, value, unit in parts if given is None]
    if not assumed:
        return "host time is what the study gives (engine.step_overhead_s, sequence_overhead_s)"
    figures = " and ".join(f"{figure} per {part}" for part, figure in assumed)
    keys = ", ".join(f"engine.{part}_overhead_s" for part, _ in assumed)
    return f"host time is assumed: {figures} (set {keys})"


def _catalogue_name(gpu: str) -> str:
    """Return what the catalogue calls a GPU; one that it lacks, as it is."""
    try:
        return load_gpu(gpu).name
    except UnknownGpuError:
        return gpu


def points_text(points: Sequence[int]) -> str:
    """Write ``points 1 to 3, 5``."""
    spans: list[list[int]] = []
    for point in sorted(points):
        if spans and point == spans[-1][-1] + 1:
            spans[-1].append(point)
        else:
            spans.append([point])
    words = [
        f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans
    ]
    return f"point{'s' if len(points) > 1 else ''} {', '.join(words)}"
