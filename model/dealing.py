"""How the GPUs of data-parallel groups share the experts of a mixture."""

from dataclasses import replace

from model.mlps.experts import Experts
from model.shape import DecoderSpec


def experts_among(spec: DecoderSpec, tp: int, groups: int, *, whole: bool) -> DecoderSpec:
    """Return what one of ``groups`` groups of ``tp`` GPUs has of a model's experts.

    Args:
        spec: the model.
        tp: ranks of a group, which share everything else.
        groups: data-parallel ones.
        whole: experts are dealt over all GPUs (``enable_expert_parallel``). Otherwise each is cut
            into as many parts as there are GPUs (vllm/model_executor/layers/fused_moe/config.py,
            ``FusedMoEParallelConfig.make``), of which the ranks of a group have ``tp``.

    Raises:
        ValueError: more GPUs than experts, or a width that the groups do not divide.
    """
    if whole:
        return spec.with_whole_experts(tp * groups)
    if groups == 1:
        return spec

    def cut(experts: Experts) -> Experts:
        """Return the share of one of ``groups``. Raises ValueError: it is not a whole one."""
        if experts.width % groups:
            raise ValueError(
                f"data_parallel_size = {groups} does not divide the experts of {spec.name}, "
                f"{experts.width} wide, expected engine.enable_expert_parallel: true"
            )
        return replace(experts, width=experts.width // groups)

    return spec.with_experts(cut)
