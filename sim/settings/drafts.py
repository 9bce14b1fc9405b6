"""What drafts a pool makes, with what, and what that costs."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hardware.engines.sampling import drawing_s
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from hardware.memory.drafts import Drafts
from hardware.steps.drafts import DraftCost, pass_cost
from hardware.steps.setup import StepSetup
from model.caches import COMPRESSED
from model.dataclass import dataclass
from model.drafter import (
    Drafter,
    eagle3_head,
    eagle_head,
    layer_like,
    prediction_layer,
    predicts,
)
from model.spec import DecoderSpec, load_head, load_spec
from sim.engine.drafts.drafting import Drafting
from sim.settings.engine_config import precision_of
from sim.settings.resolved_engine import ResolvedEngine
from sim.settings.speculative import READS_TARGET, SpeculativeConfig

EAGLE_VOCABULARY = 32_000
"""Tokens that published EAGLE-3 heads of Llama 3 propose (``draft_vocab_size`` of
yuhuili/EAGLE3-LLaMA3.1-Instruct-8B and EAGLE3-LLaMA3.3-Instruct-70B)."""
OWN_CACHE = ("draft_model", "eagle", "eagle3", "mtp")
"""Methods whose drafter has a KV cache, and writes to it ahead of the target."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPlan:
    """Drafts of the replicas of one pool."""

    speculative: SpeculativeConfig
    memory: Drafts
    drafting: Drafting


def draft_plan(
    settings: ResolvedEngine, spec: DecoderSpec, gpu: Gpu, ranks: int = 1
) -> DraftPlan | None:
    """Return what drafts an engine makes; None: none.

    Args:
        settings: of the engine.
        spec: the model that it serves.
        gpu: every rank's.
        ranks: data-parallel ones that compute their steps together.

    Raises:
        ValueError: a method that the model or its cache does not allow, or what is not modelled
            with drafts.
    """
    speculative = settings.speculative
    if speculative is None:
        return None
    if ranks > 1 and speculative.num_speculative_tokens_per_batch_size is not None:
        raise ValueError(
            "engine.speculative.num_speculative_tokens_per_batch_size with data_parallel_size = "
            f"{ranks}, expected none: vLLM takes it back there, as ranks would differ"
        )
    _check_cache(settings, spec)
    drafter = _drafter(speculative, spec)
    if drafter is not None:
        _check_drafter(speculative, drafter.spec, spec)
    method, tokens = speculative.method, speculative.num_speculative_tokens
    own = settings if method == "mtp" else settings.model_copy(update={"quantization": "auto"})
    numbers = precision_of(own, spec if drafter is None else drafter.spec, gpu)
    drops = method in READS_TARGET and not speculative.disable_eagle_block_drop
    return DraftPlan(
        speculative=speculative,
        memory=Drafts(
            tokens=tokens, drafter=drafter, precision=numbers, of_target=method in READS_TARGET
        ),
        drafting=Drafting(
            tokens=tokens,
            lookahead=tokens if method in OWN_CACHE else 0,
            slots=int(method == "draft_model"),
            drops_block=drops,
            tells_at_end=vllm().defaults.drafts_tell_at_end.at(version_key(settings.version)),
            by_sequences=speculative.by_sequences(settings.max_num_seqs),
            max_model_len=settings.max_model_len,
            chosen=tuple(reach.chosen for reach in spec.reaches),
        ),
    )


def _check_cache(settings: ResolvedEngine, spec: DecoderSpec) -> None:
    if any(cache.kind == COMPRESSED for cache in spec.caches):
        raise ValueError(
            f"engine.speculative with {spec.name}, expected a model whose entries stand for one "
            "token each: what rejected drafts leave in others is not modelled"
        )
    if any(cache.states for cache in spec.caches) and settings.enable_prefix_caching:
        raise ValueError(
            f"engine.speculative with {spec.name} and engine.enable_prefix_caching: true, expected "
            "false: what prompts share beside the states of drafts is not modelled"
        )


def _drafter(speculative: SpeculativeConfig, spec: DecoderSpec) -> Drafter | None:
    """What runs in a drafting pass."""
    method = speculative.method
    if method == "ngram":
        return None
    if method == "mtp":
        if not predicts(spec):
            raise ValueError(
                f"engine.speculative.method: mtp with {spec.name}, expected a model with one layer "
                "for further tokens (DeepSeek-V3, GLM-4.5 and later), or another method"
            )
        return prediction_layer(spec)
    said = None
    try:
        if speculative.model is None:
            other = layer_like(spec)
        elif method == "draft_model":
            other = load_spec(speculative.model)
        else:
            other, said = load_head(speculative.model)
    except ValueError as error:
        raise ValueError(f"engine.speculative.model: {error}") from None
    if method == "draft_model":
        return Drafter(spec=other)
    if other.hidden_size != spec.hidden_size:
        raise ValueError(
            f"engine.speculative.model: {other.name} has a hidden size of {other.hidden_size}, "
            f"expected {spec.hidden_size} as {spec.name} has, whose hidden states it reads"
        )
    if method == "eagle":
        return eagle_head(spec, other)
    usual = min(EAGLE_VOCABULARY, spec.vocab_size)
    most = speculative.draft_vocab_size or said or usual
    return eagle3_head(spec, other, most)


def _check_drafter(speculative: SpeculativeConfig, own: DecoderSpec, spec: DecoderSpec) -> None:
    if speculative.method == "draft_model" and own.vocab_size != spec.vocab_size:
        raise ValueError(
            f"engine.speculative.model: {own.name} has {own.vocab_size} tokens, expected "
            f"{spec.vocab_size} as {spec.name} has: drafts are the target's tokens"
        )
    missing = [reach for reach in own.reaches if reach not in spec.reaches]
    if missing:
        raise ValueError(
            f"engine.speculative.model: {own.name} attends otherwise than {spec.name} "
            f"({_told(own)} against {_told(spec)}), expected a drafter that attends like it"
        )
    if speculative.method == "draft_model" and any(each.states for each in own.caches):
        raise ValueError(
            f"engine.speculative.model: {own.name} keeps states, expected a model that keeps "
            "keys and values: states cannot be rolled back here"
        )


def _told(spec: DecoderSpec) -> str:
    return ", ".join(str(window or "all positions") for window in spec.windows)


def draft_cost(plan: DraftPlan, settings: ResolvedEngine, target: StepSetup) -> DraftCost:
    """Tabulate steps with drafts.

    Args:
        plan: of the drafts.
        settings: of the engine.
        target: what its steps without drafts depend on.

    Raises:
        ValueError: ``tp`` does not divide target or drafter.
    """
    drafting, drawn_s = plan.drafting, None
    if target.calibration.kernels is not None:
        # No table of kernels has it; bare peaks are without.
        rows = min(settings.max_num_batched_tokens, settings.max_num_seqs * (1 + drafting.tokens))
        vocabulary = target.spec.vocab_size
        drawn_s = drawing_s(settings.sampling, settings.version, vocabulary, target.gpu, rows)
    verified = replace(target, max_tokens=settings.max_num_batched_tokens, drawing_s=drawn_s)
    rows_of_sequence = {1, *(1 + tokens for tokens in (drafting.tokens, *drafting.by_sequences))}
    drafter = plan.memory.drafter
    return DraftCost(
        target=pass_cost(verified, rows_of_sequence),
        drafter=None if drafter is None else pass_cost(
            replace(
                verified, spec=drafter.spec, precision=plan.memory.precision,
                step_overhead_s=plan.speculative.draft_pass_overhead_s or 0.0, drawing_s=None,
            ),
            rows_of_sequence,
        ),
        sequence_s=target.host_sequence_s,
    )  # fmt: skip
