"""A real decoder in torch, run one scheduler step at a time.

A step flattens its prefill chunks and decoding sequences over tokens: one matrix product per
projection for all of them, attention per sequence. Parameters have the shapes that ``DecoderSpec``
counts; query, key and value are one matrix, and so are gate and up, as serving engines have them.
Inference only. Experts are not built.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.alike import attention_of, dense_of
from model.spec import DecoderSpec
from model.torch.attention import Kernel, choose_kernel
from model.torch.kv_cache import KVCache
from model.torch.layers import Block, Norm, Step, parameter
from model.torch.rope import inverse_frequencies, rotation
from model.torch.step_plan import ChunkSpan, StepPlan, plan_step

INITIAL_STD = 0.02
"""Standard deviation of random weights: GPT-2's initializer_range, also Llama's."""


class UnsupportedDecoderError(ValueError):
    """A model that the simulator can price but the torch decoder does not build."""


BUILT = ("llama", "mistral", "phi3", "qwen2", "qwen3", "gpt2", "opt")
"""Families whose layers the decoder computes."""


def check_built(spec: DecoderSpec) -> None:
    """Raise UnsupportedDecoderError for a model whose layers the decoder does not compute."""
    if spec.architecture not in BUILT:
        raise UnsupportedDecoderError(
            f"{spec.name}: the torch decoder does not build {spec.architecture}, expected one of "
            f"{', '.join(BUILT)}"
        )
    attention = attention_of(spec)
    turned = attention.rotary.table_numbers if attention.rotary else 0
    if turned not in (0, attention.head_dim):
        raise UnsupportedDecoderError(
            f"{spec.name}: the torch decoder does not rotate {turned} of {attention.head_dim} "
            "numbers of a head, expected all"
        )


class Decoder(nn.Module):
    """A dense decoder of the shape that a ``DecoderSpec`` gives."""

    rope_frequencies: Tensor | None

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        num_layers: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        kernel: Kernel | None = None,
        rope_scaling: Mapping[str, object] | None = None,
    ) -> None:
        """Allocate the parameters, uninitialised; see ``random_decoder`` and ``load_decoder``.

        Args:
            spec: shape of the model.
            num_layers: build this many layers instead of the spec's (``self.spec`` says so).
            device, dtype: of parameters and activations.
            kernel: attention kernel (``model.torch.attention``); default: what an engine would use.
            rope_scaling: see ``model.torch.rope.inverse_frequencies``.

        Raises:
            UnsupportedDecoderError: the model has experts, or layers that are not built.
            ValueError: ``num_layers`` is not positive, or ``rope_scaling`` is not computed.
        """
        super().__init__()
        if spec.num_experts:
            raise UnsupportedDecoderError(
                f"{spec.name}: num_experts(={spec.num_experts}) must be 0: the torch decoder does "
                "not build experts; expected a dense model, such as mistral-7b"
            )
        check_built(spec)
        if num_layers is not None:
            if num_layers < 1:
                raise ValueError(f"num_layers(={num_layers}) must be >= 1")
            spec = spec.first_layers(num_layers)
        device = torch.device(device)
        self.spec = spec
        self.kernel: Kernel = kernel or choose_kernel(spec, device, dtype)
        self.embedding = parameter((spec.vocab_size, spec.hidden_size), device, dtype)
        self.position_embedding = None
        self.rope_frequencies = None
        attention, mlp = attention_of(spec), dense_of(spec)
        if attention.rotary is None:
            rows = (spec.embedding.position_rows, spec.hidden_size)
            self.position_embedding = parameter(rows, device, dtype)
        else:
            accurate = torch.promote_types(dtype, torch.float32)
            theta = attention.rotary.theta
            frequencies = inverse_frequencies(attention.head_dim, theta, rope_scaling)
            self.rope_frequencies = frequencies.to(device, accurate)
        norms = (kind.norm for kind in spec.in_order())
        self.blocks = nn.ModuleList(Block(attention, mlp, norm, device, dtype) for norm in norms)
        last = spec.head.norm
        self.final_norm = Norm(last.size, last.kind, last.eps, device, dtype)
        self.lm_head = None
        if not spec.head.tied:
            self.lm_head = parameter((spec.vocab_size, spec.hidden_size), device, dtype)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        """Of parameters and activations."""
        return self.embedding.dtype

    def new_cache(self, slots: int, slot_tokens: int) -> KVCache:
        """An empty KV cache of this decoder's layers, device and dtype."""
        return KVCache(self.spec, slots, slot_tokens, device=self.device, dtype=self.dtype)

    def step(
        self,
        cache: KVCache,
        chunks: Sequence[tuple[int, Tensor, int]] = (),
        decode_slots: Sequence[int] | Tensor = (),
        decode_tokens: Sequence[int] | Tensor = (),
        decode_pasts: Sequence[int] | Tensor = (),
        *,
        every_row: bool = False,
    ) -> Tensor:
        """Run one scheduler step: prefill chunks and decoding sequences together.

        The keys and values of every token are stored; the host never waits for the device if
        slots and pasts are plain integers (or CPU tensors).

        Args:
            cache: of this decoder.
            chunks: (slot, token ids [tokens], tokens of the sequence that are cached already).
            decode_slots: slot of each decoding sequence, in any order.
            decode_tokens: the token that each feeds in, on any device.
            decode_pasts: tokens of each that are cached already.
            every_row: of chunks alone: logits of all of their tokens, as drafts are verified.

        Returns:
            Logits [chunks + decodes, vocab] of the last token of each chunk, then of each decode;
            of every row [tokens, vocab].

        Raises:
            ValueError: nothing to do, an empty chunk, unequal numbers of decodes, a slot used
                twice or unknown, or more tokens than a slot or the model's positions hold.
        """
        slots, pasts = _integers(decode_slots), _integers(decode_pasts)
        tokens = _token_ids(decode_tokens, self.device)
        if not len(slots) == len(pasts) == len(tokens):
            raise ValueError(
                f"decode_slots, decode_tokens and decode_pasts differ in length: "
                f"{len(slots)}, {len(tokens)}, {len(pasts)}"
            )
        spans = [(slot, ids.numel(), past) for slot, ids, past in chunks]
        self._check(cache, spans, slots, pasts)
        plan = self._plan(spans, slots, pasts, cache.slot_tokens)
        if plan.decode_order is not None:
            tokens = tokens[plan.decode_order]
        ids = torch.cat([*(_token_ids(ids, self.device) for _, ids, _ in chunks), tokens])
        with torch.inference_mode():
            hidden = self._hidden(ids, plan, cache)
            return self._logits(hidden if every_row else hidden[plan.sampled_rows])

    def prefill(self, cache: KVCache, tokens: Tensor) -> Tensor:
        """Prefill ``tokens`` [sequences, length] into slots 0, 1, ...; last logits of each."""
        return self.step(cache, [(slot, row, 0) for slot, row in enumerate(tokens)])

    def forward(self, tokens: Tensor, *, last_only: bool = False) -> Tensor:
        """Logits [sequences, length, vocab] of every position, without a cache.

        ``last_only`` computes those of the last position alone: [sequences, 1, vocab].
        """
        if tokens.ndim != 2 or not tokens.numel():
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)}; expected [sequences, length]"
            )
        sequences, length = tokens.shape
        self._check_positions(length)
        plan = self._plan([(row, length, 0) for row in range(sequences)], [], [], length)
        with torch.inference_mode():
            hidden = self._hidden(_token_ids(tokens, self.device), plan, None)
            hidden = hidden.view(sequences, length, -1)
            return self._logits(hidden[:, -1:] if last_only else hidden)

    def _plan(
        self, spans: Sequence[ChunkSpan], slots: Sequence[int], pasts: Sequence[int], size: int
    ) -> StepPlan:
        return plan_step(
            self.spec,
            spans,
            slots,
            pasts,
            slot_tokens=size,
            kernel=self.kernel,
            device=self.device,
            dtype=self.dtype,
        )

    def _hidden(self, ids: Tensor, plan: StepPlan, cache: KVCache | None) -> Tensor:
        """Residual stream [rows, hidden] behind the last layer, before the final norm."""
        x = F.embedding(ids, self.embedding)
        rotation_ = None
        if self.position_embedding is not None:
            offset = self.spec.embedding.position_rows - self.spec.max_position_embeddings
            x = x + F.embedding(plan.positions + offset, self.position_embedding)
        if self.rope_frequencies is not None:
            rotation_ = rotation(plan.positions, self.rope_frequencies, self.dtype)
        step = Step(plan, self.kernel, rotation_)
        for index, block in enumerate(self.blocks):
            x = block(x, step, None if cache is None else cache.layers[index])
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        head = self.embedding if self.lm_head is None else self.lm_head
        return F.linear(self.final_norm(hidden), head)

    def _check(
        self,
        cache: KVCache,
        spans: Sequence[ChunkSpan],
        slots: Sequence[int],
        pasts: Sequence[int],
    ) -> None:
        """Refuse a step that would read or write outside its slots."""
        sequences = [*spans, *((slot, 1, past) for slot, past in zip(slots, pasts, strict=True))]
        if not sequences:
            raise ValueError("a step needs at least one chunk or one decoding sequence")
        used: set[int] = set()
        for slot, tokens, past in sequences:
            if tokens < 1 or past < 0:
                raise ValueError(f"slot {slot}: tokens(={tokens}) must be >= 1, past(={past}) >= 0")
            if slot in used:
                raise ValueError(f"slot {slot} is used twice in one step")
            used.add(slot)
            cache.check_slot(slot, past + tokens)
        self._check_positions(max(past + tokens for _, tokens, past in sequences))

    def _check_positions(self, tokens: int) -> None:
        """Learned positions end; rotary ones do not."""
        if self.position_embedding is not None and tokens > self.spec.max_position_embeddings:
            raise ValueError(
                f"{self.spec.name}: a sequence of {tokens} tokens is longer than "
                f"max_position_embeddings(={self.spec.max_position_embeddings})"
            )


def random_decoder(
    spec: DecoderSpec,
    *,
    num_layers: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kernel: Kernel | None = None,
) -> Decoder:
    """A decoder with random weights: matrices N(0, 0.02^2), norms 1, biases 0.

    The same ``seed`` gives the same weights on the same kind of device; CPU and CUDA generators
    differ. Arguments and errors otherwise as for ``Decoder``.
    """
    decoder = Decoder(spec, num_layers=num_layers, device=device, dtype=dtype, kernel=kernel)
    if decoder.device.type == "meta":
        return decoder
    generator = torch.Generator(decoder.device).manual_seed(seed)
    for each in decoder.parameters():
        if each.ndim > 1:
            each.normal_(0.0, INITIAL_STD, generator=generator)
    for module in decoder.modules():
        if isinstance(module, Norm):
            module.weight.fill_(1.0)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.zero_()
    return decoder


def _integers(values: Sequence[int] | Tensor) -> list[int]:
    return values.tolist() if isinstance(values, Tensor) else list(values)


def _token_ids(ids: Sequence[int] | Tensor, device: torch.device) -> Tensor:
    """Token ids [tokens], int64 on ``device``."""
    return torch.as_tensor(ids, dtype=torch.int64, device=device).reshape(-1)
