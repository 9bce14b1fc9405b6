"""Decoders that draft tokens for a larger one: what they are made of, and what they share with it.

Sources: DeepSeek-V3 (arXiv 2412.19437, section 2.2: multi-token prediction), EAGLE (arXiv
2401.15077), EAGLE-3 (arXiv 2503.01840), and how vLLM builds them (vllm/model_executor/models:
deepseek_mtp.py, llama_eagle.py, llama_eagle3.py).
"""

from dataclasses import replace

from model.dataclass import dataclass
from model.matrices import Matrix, repeated
from model.once import Once
from model.precision import Precision
from model.quantization.checkpoint import UNSAID
from model.shape import DecoderSpec
from model.sharding import rank_vocabulary, rank_weight_bytes

PREDICTING = (
    "deepseek_v3", "deepseek_v32", "ernie4_5_moe", "glm4_moe", "glm4v_moe_text", "glm_moe_dsa",
    "mimo", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text",
)  # fmt: skip
"""Families whose checkpoints have one layer for further tokens (``num_nextn_predict_layers: 1``,
``mtp_num_hidden_layers: 1``), like their last one; vllm/config/speculative.py,
``hf_config_override``."""
TAPPED_LAYERS = 3
"""Of the target, whose hidden states EAGLE-3 joins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter:
    """What runs in each drafting pass."""

    spec: DecoderSpec
    """Layers, and the embedding and head that it looks tokens up with."""
    shares_embedding: bool = False
    """It is the target's: no weights of its own."""
    shares_head: bool = False

    def weight_bytes(self, precision: Precision, tp: int = 1) -> int:
        """Return the bytes of what one of ``tp`` ranks keeps beside the target."""
        spec = self.spec
        if self.shares_head:
            spec = replace(spec, head=replace(spec.head, tied=True))
        held = rank_weight_bytes(spec, precision=precision, tp=tp)
        if self.shares_embedding:
            rows = rank_vocabulary(spec, tp) + spec.embedding.position_rows
            held -= rows * spec.hidden_size * precision.activation_bytes
        return int(held)


def predicts(target: DecoderSpec) -> bool:
    """Return whether a model comes with one layer for further tokens."""
    return target.architecture in PREDICTING


def prediction_layer(target: DecoderSpec) -> Drafter:
    """Return the multi-token prediction module of a model: its last layer once more (MTP).

    The embedding of a token and the hidden state before it, each behind a norm, are joined by a
    matrix of twice the hidden size.
    """
    size = target.hidden_size
    last = list(target.in_order())[-1]
    return Drafter(
        spec=replace(
            target,
            name=f"{target.name} mtp",
            layers=(replace(last, places=last.places[-1:]),),
            once=Once(matrices=(_joining("mtp_projection", size, 2),), vectors=2 * size),
            encoder_parameters=0,
            encoder_peak=None,
        ),
        shares_embedding=True,
        shares_head=True,
    )


def eagle_head(target: DecoderSpec, head: DecoderSpec) -> Drafter:
    """Return EAGLE's head: layers behind the joined embedding and hidden state of a token."""
    size = target.hidden_size
    return Drafter(
        spec=replace(
            head,
            name=f"{head.name} eagle",
            embedding=target.embedding,
            head=target.head,
            once=Once(matrices=(_joining("eagle_projection", size, 2),)),
            encoder_parameters=0,
            encoder_peak=None,
        ),
        shares_embedding=True,
        shares_head=True,
    )


def eagle3_head(target: DecoderSpec, head: DecoderSpec, draft_vocab_size: int) -> Drafter:
    """Return EAGLE-3's head: a projection of three hidden states, a layer, a vocabulary of its own.

    Queries, keys and values are made of embedding and hidden state side by side: the second half of
    their matrix stands beside the layer's own here.
    """
    size = target.hidden_size
    (layer,) = {kind.mixer for kind in head.layers}
    first = layer.matrices[0]
    wider = replace(first, name="eagle_qkv_inputs", inputs=repeated(size), quantized=False)
    return Drafter(
        spec=replace(
            head,
            name=f"{head.name} eagle3",
            embedding=replace(target.embedding, vocab_size=draft_vocab_size),
            head=replace(head.head, tied=False),
            once=Once(
                matrices=(_joining("eagle_projection", size, TAPPED_LAYERS), wider),
                vectors=2 * size,
            ),
            encoder_parameters=0,
            encoder_peak=None,
        ),
        shares_embedding=True,
    )


def layer_like(target: DecoderSpec) -> DecoderSpec:
    """Return a decoder of one layer like the target's first, in 16 bits: what EAGLE heads are.

    Of layers that keep different tokens the first that attends all positions, as heads do.

    Raises:
        ValueError: the target's layers have experts, or none has keys and values, so that a head
            has another shape.
    """
    layers = [each for each in target.in_order() if any(cache.read for cache in each.mixer.caches)]
    whole = [each for each in layers if all(cache.window is None for cache in each.mixer.caches)]
    first = next(iter(whole or layers), None)
    if first is None or first.mlp.num_experts:
        what = "no keys and values" if first is None else "experts, a head for it has none"
        raise ValueError(f"{target.name} has {what}, expected the head's config.json")
    return replace(
        target,
        layers=(replace(first, places=(0,)),),
        checkpoint=UNSAID,
        encoder_parameters=0,
        encoder_peak=None,
    )


def _joining(name: str, size: int, states: int) -> Matrix:
    """A matrix that every rank has, from some states of the hidden size to one."""
    return Matrix(name, (repeated(size),), repeated(states * size), quantized=False)
