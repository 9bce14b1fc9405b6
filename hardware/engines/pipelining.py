"""How steps of several pipeline stages are planned, by version of the engine.

vLLM's engine core keeps several batches in a queue (``step_with_batch_queue``). Which requests may
be in the next one while others are under way depends on the version and its model runner:

- held: a request is in one step at a time; its next token is asked for when the last is there;
- followed: it is in the very next step as well, whose first stage waits for the last stage of the
  step before: nothing overlaps but chunks of prompts (first runner, 0.16 to 0.30);
- spaced: it is in every step whose number is as many further as there are stages (second runner,
  since 0.23).
"""

from hardware.engines.table import served_by, vllm
from hardware.engines.versions import version_key
from model.dataclass import dataclass
from model.shape import DecoderSpec


@dataclass(frozen=True, slots=True)
class Pipelining:
    """Rules for the batches of one engine."""

    stages: int
    batches: int
    """That its queue holds (``max_concurrent_batches``)."""
    spacing: int
    """Steps from one token of a request to the next; 0: as soon as that is there."""
    asynchronous: bool
    """Whether steps are planned before the tokens of those under way are there."""
    fills: bool
    """Whether steps of nobody fill the queue before anybody waits for the oldest one."""


ONE_STAGE = Pipelining(1, 1, 0, asynchronous=False, fills=False)
"""An engine without a pipeline."""


def pipelining(
    spec: DecoderSpec, stages: int, version: str, quantized: bool, async_scheduling: bool | None
) -> Pipelining:
    """Return the rules of a version; ``async_scheduling`` None: its default.

    Raises:
        ValueError: a version before those that are modelled, or asynchronous scheduling in one that
            has none with stages.
    """
    if stages == 1:
        return ONE_STAGE
    table, at = vllm(), version_key(version)
    rows = table.pipeline_parallel
    if at < version_key(rows.oldest):
        raise ValueError(
            f"pipeline_parallel_size = {stages} with vLLM {version}, expected 1: it is modelled "
            f"from {rows.oldest} on"
        )
    second = rows.second_runner.at(at) != "none" and served_by(
        table.memory.second_runner.at(at), spec, quantized
    )
    kind = rows.second_runner.at(at) if second else rows.first_runner.at(at)
    if async_scheduling is False:
        kind = "none"
    elif async_scheduling and kind == "none":
        raise ValueError(
            f"async_scheduling = true with pipeline_parallel_size = {stages} in vLLM {version}, "
            "expected false: this version has none with pipeline stages"
        )
    spacing = {"spaced": stages, "followed": 1}.get(kind, 0)
    return Pipelining(
        stages,
        stages + (kind == "spaced"),
        spacing,
        asynchronous=kind != "none",
        fills=rows.fills.at(at),
    )
