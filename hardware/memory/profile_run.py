"""What one rank takes beside weights and KV cache, as an engine measures it at start.

Before it cuts KV blocks, vLLM runs a step of ``max_num_batched_tokens`` tokens with as many
sequences as it may seat, and samples from all of them; the peak of that run is kept free for ever.
Formulas are those of vLLM's layers and of torch's sort; docs/memory.md compares them with logs.
"""

from hardware.engines.table import Memory, Sampler, served_by
from hardware.engines.versions import Version
from model.caches import INDEX
from model.dataclass import dataclass
from model.mixers.compressed import CompressedAttention
from model.mixers.latent import LatentAttention
from model.mixers.mixer import Mixer
from model.precision import Precision
from model.sharding import rank_vocabulary
from model.spec import DecoderSpec
from model.stages import handed_over

MOST_CONTEXT_TOKENS = 65_536
"""Of latents that are expanded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRun:
    """The step that is run."""

    spec: DecoderSpec
    precision: Precision
    tp: int
    max_tokens: int
    """Of the step."""
    max_seqs: int
    """Most sequences that get logits."""
    sampled_rows: int = 1
    """Rows of logits of each: with drafts vLLM runs the sampler with one of every sequence."""
    max_model_len: int = 0
    """Tokens of the longest request; 0: the model's."""
    block_tokens: int = 16
    """Of a block of the KV cache."""
    dp: int = 1
    """Data-parallel ranks, whose tokens all come to the experts of this one."""
    embeds: bool = True
    """Whether token ids come in, and not what another pipeline stage sends."""
    predicts: bool = True
    """Whether logits are made and tokens sampled, and not by a later stage."""
    first_runner: bool = False
    """Whether the second model runner cannot serve this, whatever the model."""

    @property
    def expert_tokens(self) -> int:
        """Tokens that experts see: every rank runs its largest step at once."""
        return self.dp * self.max_tokens


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest moment of a profile run."""

    bytes: int
    what: str
    """Which moment that is."""


def activation_peak(run: ProfileRun, memory: Memory, version: Version) -> Peak:
    """Return the largest of three moments: an image, the layers, or the sampler."""
    rows = run.sampled_rows * min(run.max_seqs, run.max_tokens)
    sampler = sampler_bytes(run, sampler_of(run, memory, version)) if run.predicts else 0
    stays = memory.expert_workspace_stays.at(version)
    forward = forward_bytes(run, None if stays else memory.expert_chunk_tokens.at(version), stays)
    received, outputs, images = received_bytes(run), *image_bytes(run)
    kept = workspace_bytes(run, memory, version)
    if images > max(sampler, forward) + outputs + kept:  # it comes before what is kept is there
        return Peak(images + received - kept, "largest step: an image of the greatest size")
    received += outputs
    if sampler > forward:
        return Peak(sampler + received, f"largest step: sampling {rows} rows")
    return Peak(forward + received, f"largest step: layers, {run.max_tokens} tokens")


def image_bytes(run: ProfileRun) -> tuple[int, int]:
    """Return the bytes of what an encoder makes of its largest image, and those of its own peak.

    Both 0 without an encoder, of one that is not modelled, and behind the first stage.
    """
    peak = run.spec.encoder_peak
    if peak is None or not run.embeds:
        return 0, 0
    each = run.precision.activation_bytes
    return int(peak.kept * each), int(peak.numbers(run.tp) * each)


def received_bytes(run: ProfileRun) -> int:
    """Return the bytes of the buffers of what another stage sends: they stay between steps.

    vllm/v1/worker/gpu/model_runner.py, ``make_empty_intermediate_tensors``.
    """
    if run.embeds:
        return 0
    numbers = run.max_tokens * run.spec.hidden_size * handed_over(run.spec)
    return int(numbers * run.precision.activation_bytes)


def sampler_bytes(run: ProfileRun, sampler: Sampler) -> int:
    """Return the bytes of hidden states of T tokens and of buffers for S rows of logits.

    ``T hidden b + S vocab x``, with b bytes of an activation and x those of the sampler's buffers
    for one logit. Every rank samples from the whole vocabulary.
    """
    rows = run.sampled_rows * min(run.max_seqs, run.max_tokens)
    each = sampler.few_rows_bytes if rows < sampler.few_rows else sampler.bytes
    hidden = run.max_tokens * run.spec.hidden_size * run.precision.activation_bytes
    return int(hidden + rows * rank_vocabulary(run.spec, 1) * each)


def sampler_of(run: ProfileRun, memory: Memory, version: Version) -> Sampler:
    """Return the sampler of the model runner that serves a model."""
    second = is_second(run, memory, version)
    return (memory.second_runner_sampler if second else memory.sampler).at(version)


def is_second(run: ProfileRun, memory: Memory, version: Version) -> bool:
    """Tell whether the second model runner serves a model."""
    if run.first_runner:
        return False
    quantized = bool(run.precision.weights.schemes())
    return served_by(memory.second_runner.at(version), run.spec, quantized)


def forward_bytes(run: ProfileRun, chunk_tokens: int | None, stays: bool = False) -> int:
    """Return the bytes of the peak inside a layer, the largest of all kinds of layers.

    Dense: ``T (m I + 4 hidden) b``: what stands between the MLP's matrices, and four times the
    hidden states. Experts add theirs for the tokens of one chunk, unless their workspace stays
    (``expert_workspace_bytes``); tokens of all data-parallel ranks are gathered for them. Latent
    attention may have more at its own moment (``latent_context_numbers``).
    """
    routed = 0 if stays else min(run.expert_tokens, chunk_tokens or run.expert_tokens)
    inner = max(
        max(
            kind.mlp.inner_numbers(run.max_tokens, run.tp)
            + kind.mlp.routed_numbers(routed, run.tp),
            latent_context_numbers(run, kind.mixer),
        )
        for kind in run.spec.layers
    )
    gathered = run.expert_tokens if run.dp > 1 else 0
    numbers = inner + (run.max_tokens * 4 + gathered) * run.spec.hidden_size
    return int(numbers * run.precision.activation_bytes)


def latent_context_numbers(run: ProfileRun, mixer: Mixer) -> int:
    """Return the keys and values that a chunk's past is made into, at most; 0 without a latent.

    vLLM (model_executor/layers/attention/mla_attention.py) sets room aside in the profile run for 8
    requests of the greatest length or 4 blocks of each sequence, 65,536 tokens at most, times the
    rank's heads. With an index, attention stays in the latent space.
    """
    if not isinstance(mixer, LatentAttention) or mixer.index is not None:
        return 0
    longest = run.max_model_len or run.spec.max_model_len
    tokens = min(max(8 * longest, 4 * run.max_seqs * run.block_tokens), MOST_CONTEXT_TOKENS)
    return tokens * (mixer.num_heads // run.tp) * (mixer.qk_nope_head_dim + mixer.v_head_dim)


def workspace_bytes(run: ProfileRun, memory: Memory, version: Version) -> int:
    """Return the bytes of the buffer that experts and an index share, which stays between steps."""
    kept = index_workspace_bytes(run, memory, version)
    if memory.expert_workspace_stays.at(version):
        chunk_tokens = memory.expert_chunk_tokens.at(version)
        kept = max(kept, expert_workspace_bytes(run, chunk_tokens))
    return kept


def index_workspace_bytes(run: ProfileRun, memory: Memory, version: Version) -> int:
    """Return the bytes that are kept for keys of an index which prompts gather; 0 without one.

    Many of the longest requests (``IndexWorkspace``): 132 bytes a token for DeepSeek-V3.2 and
    GLM-5, 33 for DeepSeek-V4, four of whose tokens share an entry. Experts take the same buffer in
    their turn, where theirs stays as well.
    """
    longest = run.max_model_len or run.spec.max_model_len
    tokens, most = memory.index_workspace.at(version).tokens(longest), 0
    for kind in run.spec.layers:
        if isinstance(kind.mixer, LatentAttention | CompressedAttention):
            for cache in kind.mixer.caches:
                if cache.kind == INDEX:
                    most = max(most, tokens // cache.every * (cache.fp8_entry_bytes or 0))
    return most


def expert_workspace_bytes(run: ProfileRun, chunk_tokens: int | None = None) -> int:
    """Return the bytes that fused experts keep between steps; layers share them.

    ``chunk_tokens``: the most that they compute at once; None: all.
    """
    tokens = min(run.expert_tokens, chunk_tokens or run.expert_tokens)
    numbers = max(kind.mlp.workspace_numbers(tokens, run.tp) for kind in run.spec.layers)
    return int(numbers * run.precision.activation_bytes)


def cold_compile_bytes(run: ProfileRun) -> int:
    """Return the peak of a first start, which benchmarks fused kernels: one copy of the embedding.

    A restart finds them in the cache of torch.compile, and has more KV blocks.
    """
    if not run.embeds:
        return 0
    table = rank_vocabulary(run.spec, run.tp) * run.spec.hidden_size
    return int(table * run.precision.activation_bytes)
