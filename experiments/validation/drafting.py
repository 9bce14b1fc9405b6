"""Runs whose servers drafted with the checkpoint's own layer (MTP), as their notes say."""

import re

from experiments.validation.rows import RunRow
from hardware.engines.defaults import engine_defaults
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from model.acceptance import measured_acceptance
from sim.settings.speculative import SINCE

ACCEPTANCE_STD = 0.1
"""Of requests' mean acceptance lengths, assumed: published means are of whole sets of texts. Equal
ones would keep the users of a closed loop in step."""

_MTP = re.compile(
    r"(?:(?P<model>[\w.-]+) uses )?MTP\b[^;,]*?\b(?:k|num_speculative_tokens) ?= ?(?P<drafts>\d+)",
    re.IGNORECASE,
)


def drafted(row: RunRow, version: str, gpu: Gpu, notes: list[str]) -> dict[str, object]:
    """Return settings of an engine that drafted; nothing where nobody says so.

    How many drafts are right is what was measured of the nearest model: one whose name begins with
    the same word, else the mean of all. The engine schedules as the oldest version whose drafts are
    modelled, with the memory share of its own.

    Args:
        row: whose notes tell, of this model or of no particular one.
        version: of the engine.
        gpu: of the run.
        notes: what was assumed, appended to.
    """
    found = _MTP.search(row.notes or "")
    drafts = int(found["drafts"]) if found else 0
    if found is None or not drafts or not _is_meant(found["model"], row.model):
        return {}
    rates, whose = _acceptance(row.model, drafts)
    least = ".".join(map(str, SINCE))
    older = version_key(version)[:2] < SINCE
    told = f"drafts: {drafts} by MTP, mean acceptance length {1 + sum(rates):.2f} ({whose}), "
    told += f"requests differ by {ACCEPTANCE_STD:g}"
    notes.append(f"{told}, scheduled as in vLLM {least}" if older else told)
    return {
        "version": least if older else version,
        "gpu_memory_utilization": row.gpu_mem_util
        or engine_defaults(version, gpu).gpu_memory_utilization,
        "speculative": {
            "method": "mtp",
            "num_speculative_tokens": drafts,
            "synthetic_acceptance_rates": rates,
            "acceptance_length_std": ACCEPTANCE_STD,
        },
    }


def _is_meant(named: str | None, model: str) -> bool:
    """Whether notes that name a model mean this one."""
    return named is None or _bare(named) in _bare(model)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _acceptance(model: str, drafts: int) -> tuple[list[float], str]:
    """Probability that the first, the first two, ... drafts are right, and whose."""
    tables = [each for each in measured_acceptance().values() if each.method == "mtp"]
    word = re.split(r"[-_ ]", model.split("/")[-1].lower())[0]
    chosen = [each for each in tables if each.model.startswith(word)] or tables
    rates = [each.rates(drafts) for each in chosen]
    means = [sum(of_place) / len(chosen) for of_place in zip(*rates, strict=True)]
    return means, ", ".join(dict.fromkeys(each.model for each in chosen))
