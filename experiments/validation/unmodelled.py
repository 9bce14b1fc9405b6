"""What measured runs show and the simulation does not have, told of the rows that it concerns."""

import re

from experiments.validation.cells import switched_on
from experiments.validation.remarks import limit_in
from experiments.validation.rows import RunRow
from model.spec import DecoderSpec

LONG_PROMPT, MANY_RANKS = 4096, 8
"""Prompts and ranks whose large all-reduces take less in servers than NCCL takes alone."""


_VLLM_ALONE = re.compile(
    r"vllm|openai|server|serve|engine|nightly|latest|main|image|docker|\b(?:v[01]|rc|post|dev|cu)\b"
    r"|v?\d+(?:\.\d+)+\w*|[\W_]+|\d+"
)
"""Words of an engine's cell that name nothing beside vLLM."""


def refused(row: RunRow, *, drafted: bool) -> str | None:
    """Return why a row would be predicted as something else than was measured; None if not.

    ``drafted``: its notes describe the drafts.
    """
    if row.lora is not None and switched_on(row.lora) is not False:
        return f"lora = {row.lora!r} is not modelled, expected a run without adapters"
    if row.speculative is not None and switched_on(row.speculative) is not False and not drafted:
        return f"speculative = {row.speculative!r} is not described, expected notes such as MTP k=1"
    return None


def not_modelled(row: RunRow, spec: DecoderSpec) -> list[str]:
    """Return a note for each thing that a row is simulated without."""
    notes = []
    gpus = (row.tp or 1) * (row.data_parallel_size or 1)
    if _VLLM_ALONE.sub("", row.engine.lower()):
        notes.append(f"engine = {row.engine}: simulated as vLLM alone")
    if (row.ep or 1) > 1 and spec.num_experts and row.ep != gpus:
        notes.append(f"ep = {row.ep}: experts are dealt among the {gpus} GPUs of an engine instead")
    if row.cpu_offload is not None and switched_on(row.cpu_offload) is not False:
        notes.append(f"cpu_offload = {row.cpu_offload}: without it")
    hopper = re.search(r"h[12]00", row.gpu.lower()) is not None
    if hopper and (row.isl_mean or 0) >= LONG_PROMPT and (row.tp or 1) >= MANY_RANKS:
        notes.append(
            f"isl_mean = {row.isl_mean:g} over tp = {row.tp}: first tokens may be up to 15% too "
            "late, as all-reduces of whole prompts are slower here than in servers"
        )
    if limit := limit_in(row.notes):
        notes.append(f"{limit}: without it, at the clocks of the datasheet")
    if row.n_failed:
        notes.append(
            f"n_failed = {row.n_failed}: that real steps become up to 14% slower within minutes "
            "of overload is not modelled"
        )
    return notes
