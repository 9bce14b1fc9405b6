"""What an engine keeps of the states of layers, where prompts find what others had.

vLLM's ``mamba_cache_mode``: ``none`` keeps one state for a request; ``align``, which
``enable_prefix_caching`` brings with it, keeps two, that which a step begins with and that which it
ends with. Some kernels leave a third one behind, the state of the last whole block of a prompt,
and the prompt need not be cut there (``num_prefill_checkpoint_blocks``).
"""

from collections.abc import Iterator
from math import lcm
from typing import Final

from hardware.arithmetic import DATA_CENTER_BLACKWELL
from hardware.engines.table import vllm
from hardware.engines.versions import version_key
from hardware.gpu import Gpu
from model.caches import LATENT
from model.dataclass import dataclass
from model.mixers.attention import Attention
from model.mixers.beside import side_by_side
from model.mixers.mixer import Mixer
from model.spec import DecoderSpec

FLASHINFER_TOKENS: Final = 64
"""Tokens that blocks are a multiple of where FlashInfer computes prompts of Gated DeltaNet."""
WIDE_HEAD: Final = 256
"""Numbers of a head that FlashInfer once had no small blocks for on Blackwell."""


@dataclass(frozen=True, slots=True)
class KeptStates:
    """Of one request."""

    blocks: int = 1
    """States that it has at most, in one group of layers."""
    block_multiple: int = 1
    """Tokens that a block is a multiple of."""


ONE_STATE: Final = KeptStates()
"""Where nobody else finds it."""


def kept_states(spec: DecoderSpec, gpu: Gpu, version: str, cached: bool) -> KeptStates:
    """Return what is kept of states on a GPU, where prefixes are ``cached`` and where not."""
    if not any(cache.states for cache in spec.caches):
        return ONE_STATE
    multiple = _kernel_tokens(spec, gpu, version)
    if not cached:
        return KeptStates(block_multiple=multiple)
    if _exporting(spec, gpu, version) == "gated_delta_net":
        multiple = lcm(multiple, FLASHINFER_TOKENS)
    return KeptStates(2 + int(exports_states(spec, gpu, version)), multiple)


def _kernel_tokens(spec: DecoderSpec, gpu: Gpu, version: str) -> int:
    """Tokens that the kernels of attention want a block to be a multiple of, beside states."""
    rule = vllm().memory.state_block_tokens.at(version_key(version))
    blackwell = int(gpu.compute_capability or 0) == DATA_CENTER_BLACKWELL
    if any(cache.kind == LATENT and cache.kept for cache in spec.caches):
        return rule.latent_blackwell if blackwell else rule.latent
    mixers = (mixer for layers in spec.layers for mixer in side_by_side(layers.mixer))
    wide = any(isinstance(mixer, Attention) and mixer.head_dim == WIDE_HEAD for mixer in mixers)
    return rule.wide_heads_blackwell if blackwell and wide else 1


def exports_states(spec: DecoderSpec, gpu: Gpu, version: str) -> bool:
    """Return whether a step can leave the state of a prompt's last whole block behind, too."""
    return _exporting(spec, gpu, version) is not None


def _exporting(spec: DecoderSpec, gpu: Gpu, version: str) -> str | None:
    """Which kernel does it, for all layers with a state."""
    kinds = {_kernel(spec, mixer, gpu) for mixer in _with_states(spec)}
    known = vllm().defaults.exports_states.at(version_key(version))
    (kind,) = kinds if len(kinds) == 1 else (None,)
    return kind if kind in known else None


def _with_states(spec: DecoderSpec) -> Iterator[Mixer]:
    for layers in spec.layers:
        for mixer in side_by_side(layers.mixer):
            if any(cache.states for cache in mixer.caches):
                yield mixer


def _kernel(spec: DecoderSpec, mixer: Mixer, gpu: Gpu) -> str | None:
    """Its name in the table of versions; None: one that leaves the last state alone."""
    from model.mixers.delta import DeltaRule
    from model.mixers.mamba import Mamba2

    if isinstance(mixer, Mamba2):
        return "mamba2"
    capability = gpu.compute_capability or 0.0
    if not isinstance(mixer, DeltaRule) or capability < 9:
        return None
    if mixer.decay_per_channel:  # FlashKDA wants a gate of full rank, which bounds the decay
        return "kimi_delta_attention" if mixer.gate_rank is None else None
    flashinfer = capability < 10 or mixer.key_dim == 128
    return "gated_delta_net" if flashinfer and spec.architecture.startswith("qwen3") else None
