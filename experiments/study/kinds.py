"""What kinds of studies there are. ``experiments.cli.kinds`` runs those that are not serving."""

from experiments.study.document import Loaded
from experiments.study.errors import Problem, StudyError, show
from model.errors import one_of

MEASURED = {
    "decoder_vs_simulation": ("experiments.calibrating.decoder_vs_simulation", "DecoderStudy"),
    "kv_cache_latency": ("experiments.calibrating.kv_cache_latency", "KvCacheStudy"),
}
"""Kinds that run a real decoder: the module with ``run`` and ``FILES``, and the schema in it."""

TABLES = "roofline"
"""The kind that computes tables; ``experiments.texts.registry`` has their schemas."""

SEARCHES = {
    "plan": ("experiments.planning.plan.study", "PlanStudy"),
    "capacity": ("experiments.planning.capacity.study", "CapacityStudy"),
}
"""Kinds that simulate serving as often as they need to: the schema of each, and its module."""

KINDS = ("serving", *SEARCHES, *MEASURED, TABLES)


def kind_of(loaded: Loaded) -> str:
    """Return what kind of study was read; serving when it does not say.

    Raises:
        StudyError: an unknown kind; names the nearest.
    """
    kind = loaded.raw.get("kind", "serving")
    if kind in KINDS:
        return str(kind)
    text = f"kind = {show(kind)}: {one_of(kind, KINDS)}"
    raise StudyError([Problem(loaded.where(("kind",)), text), *loaded.document.problems])
