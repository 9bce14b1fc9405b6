"""What a decoder is made of: embedding, layers, head; parameters are counted to the last row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from model.caches import HEADS, Cache, Reach
from model.dataclass import dataclass
from model.encoders.peak import EncoderPeak
from model.errors import UnsupportedLayersError
from model.matrices import Matrix
from model.mixers.mixer import Mixer, Rotary
from model.mixers.none import NoMixer
from model.mlps.experts import Experts
from model.mlps.extended import Extended
from model.mlps.load import EVEN, ExpertLoad
from model.mlps.mlp import Mlp
from model.mlps.none import NoMlp
from model.norm import Norm
from model.once import NOTHING_ONCE, Once
from model.quantization.checkpoint import UNSAID, Checkpoint
from model.sampling import Drawing


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Turns token ids into rows of the hidden size."""

    vocab_size: int
    hidden_size: int
    position_rows: int = 0
    """Rows of the table of learned positions (OPT: two more than positions); 0 without."""
    norm_behind: Norm | None = None
    """Of the rows (BLOOM)."""

    @property
    def norm_parameters(self) -> int:
        """Of the norm behind the rows."""
        return self.norm_behind.parameters if self.norm_behind else 0

    @property
    def parameters(self) -> int:
        """Rows of tokens and of positions, and the norm behind them."""
        return (self.vocab_size + self.position_rows) * self.hidden_size + self.norm_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Turns rows into logits: a norm, and a matrix over the vocabulary."""

    norm: Norm
    tied: bool
    """The matrix is the token embedding."""
    logit_bias: bool = False
    """A number per token is added to the logits (GPT-J, Phi)."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one kind: norms of the hidden size, a mixer and an MLP, a residual addition behind
    each of the two."""

    places: tuple[int, ...]
    """In the model, ascending from 0."""
    mixer: Mixer
    mlp: Mlp
    norm: Norm
    norms: int = 2
    """Norms of one layer: one before mixer and MLP each in most; one before both where they run
    side by side, or where only one is there; four with norms behind them as well (Gemma 2)."""

    @property
    def count(self) -> int:
        """How many."""
        return len(self.places)

    @property
    def parts(self) -> int:
        """Of mixer and MLP, those that are there (``NoMixer`` and ``NoMlp`` stand for none)."""
        return sum(not isinstance(part, NoMixer | NoMlp) for part in (self.mixer, self.mlp))

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every matrix of one of them."""
        return (*self.mixer.matrices, *self.mlp.matrices)

    def vector_numbers(self, tp: int = 1) -> int:
        """Parameters of one of them beside matrices, as one of ``tp`` ranks keeps them."""
        biases = sum(matrix.copies * matrix.bias_numbers(tp) for matrix in self.matrices)
        norms = self.norms * self.norm.parameters
        return biases + norms + self.mixer.vector_numbers + self.mlp.vector_numbers


def grouped(
    each: Sequence[tuple[Mixer, Mlp]], norm: Norm, norms: int | None = None
) -> tuple[Layers, ...]:
    """Return the layers of a model, one mixer and MLP per layer, with equal ones together.

    Args:
        each: mixer and MLP of every layer; ``NoMixer`` or ``NoMlp`` where one is missing.
        norm: of the hidden size.
        norms: how many of them a layer has; by default one for each part that is there.
    """
    places: dict[tuple[Mixer, Mlp], list[int]] = {}
    for pair, run in groupby(range(len(each)), key=lambda place: each[place]):
        places.setdefault(pair, []).extend(run)
    kinds = (Layers(tuple(at), *pair, norm) for pair, at in places.items())
    return tuple(replace(kind, norms=kind.parts if norms is None else norms) for kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """A decoder-only transformer."""

    name: str
    architecture: str
    """Its family, under the ``model_type`` of config.json."""
    embedding: Embedding
    layers: tuple[Layers, ...]
    head: Head
    max_position_embeddings: int
    max_model_len: int
    """Longest prompt plus output, in tokens, as vLLM derives it from the config."""
    attention_chunk_tokens: int | None = None
    """Positions up to which every layer attends everything; beyond, most layers attend within
    chunks of this many (Llama 4), which are taken as windows of that length. None: no chunks."""
    unpriced: str | None = None
    """What a step does beside what its layers are made of, and has no price; None: nothing."""
    once: Once = NOTHING_ONCE
    """Beside embedding, layers and head."""
    encoder_parameters: int = 0
    """Of encoders of images or sounds and what fits them in. Prompts are text: no price."""
    encoder_peak: EncoderPeak | None = None
    """What an encoder takes of its largest image; None: no encoder, or not modelled."""
    checkpoint: Checkpoint = UNSAID
    """How its numbers are stored."""
    drawing: Drawing | None = None
    """How its generation_config.json draws tokens (``model.sampling``). None: go by its name."""

    @property
    def num_layers(self) -> int:
        """Layers of all kinds."""
        return sum(layers.count for layers in self.layers)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.embedding.hidden_size

    @property
    def vocab_size(self) -> int:
        """Tokens that exist."""
        return self.embedding.vocab_size

    @property
    def num_experts(self) -> int:
        """Routed experts of the layers that have most; 0 for a dense model."""
        return max(layers.mlp.num_experts for layers in self.layers)

    @property
    def expert_layers(self) -> int:
        """Layers that have routed experts."""
        return sum(layers.count for layers in self.layers if layers.mlp.num_experts)

    @property
    def caches(self) -> dict[Cache, int]:
        """What its layers keep: every class of cache, and how many layers have it."""
        found: dict[Cache, int] = {}
        for layers in self.layers:
            for cache in layers.mixer.caches:
                found[cache] = found.get(cache, 0) + layers.count
        return found

    @property
    def reaches(self) -> tuple[Reach, ...]:
        """What tells how much a query reads, in the order of ``layers``.

        A step counts what it reads once for each of them. There is at least one: a decoder that
        reads nothing counts all positions.
        """
        found = dict.fromkeys(cache.read for cache in self.caches if cache.read is not None)
        return tuple(found) or (Reach(None),)

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Of ``reaches``, how many positions a query attends at most; None for all of them."""
        return tuple(reach.positions for reach in self.reaches)

    @property
    def sliding_window(self) -> int | None:
        """The window of the one class of cache that the layers have; None for all positions.

        Raises:
            UnsupportedLayersError: several classes of caches, or one that is not keys and values of
                heads: steps do not tell them apart yet.
        """
        odd = dict.fromkeys(cache.kind for cache in self.caches if cache.kind != HEADS)
        if odd:
            raise UnsupportedLayersError(
                f"{self.name}: layers with a cache of another kind ({', '.join(odd)}) have no "
                "price yet"
            )
        windows = dict.fromkeys(cache.window for cache in self.caches)
        if len(windows) > 1:
            told = ", ".join(str(window or "all positions") for window in windows)
            raise UnsupportedLayersError(
                f"{self.name}: layers that attend differently ({told}) have no price yet"
            )
        return next(iter(windows), None)

    @property
    def rotary_tables(self) -> tuple[Rotary, ...]:
        """Rotations that differ: an engine keeps one table for each."""
        found = (layers.mixer.rotary for layers in self.layers)
        return tuple(dict.fromkeys(rotary for rotary in found if rotary is not None))

    def in_order(self) -> Iterator[Layers]:
        """Return the kind of every layer, from the first to the last."""
        kinds = {place: layers for layers in self.layers for place in layers.places}
        return (kinds[place] for place in sorted(kinds))

    def first_layers(self, count: int) -> "DecoderSpec":
        """Return the same model with only so many of its layers, or as many more.

        More layers than there are follow the last one.
        """
        each = [(kind.mixer, kind.mlp) for kind in self.in_order()]
        each = (each + each[-1:] * max(0, count - len(each)))[:count]
        norms = {(kind.mixer, kind.mlp): kind.norms for kind in self.layers}
        kinds = grouped(each, self.layers[0].norm)
        kinds = tuple(replace(one, norms=norms[one.mixer, one.mlp]) for one in kinds)
        return replace(self, layers=kinds)

    def with_mixers(self, change: Callable[[Mixer], Mixer]) -> "DecoderSpec":
        """Return the same model with every mixer changed."""
        layers = tuple(replace(one, mixer=change(one.mixer)) for one in self.layers)
        return replace(self, layers=layers)

    def with_whole_experts(self, ranks: int) -> "DecoderSpec":
        """Return what one of some ranks has that deal experts out whole: expert parallelism.

        Raises:
            ValueError: fewer experts than ranks.
        """
        if self.num_experts and max(1, ranks) > self.num_experts:
            raise ValueError(
                f"enable_expert_parallel: {ranks} ranks of {self.name} with {self.num_experts} "
                "experts, expected at most one rank for each"
            )
        return self.with_experts(lambda experts: replace(experts, ranks=ranks))

    def with_expert_load(self, load: ExpertLoad) -> "DecoderSpec":
        """Return the same model whose tokens choose their experts by a law.

        Raises:
            ValueError: it has no experts, and the law is not the even one.
        """
        if load != EVEN and not self.num_experts:
            raise ValueError(
                f"engine.expert_load_exponent = {load.exponent:g} with {self.name}, which has no "
                "experts, expected 0"
            )
        return self.with_experts(lambda experts: replace(experts, load=load))

    def with_experts(self, change: Callable[[Experts], Experts]) -> "DecoderSpec":
        """Return the same model with its routed experts changed, wherever they stand."""

        def changed(mlp: Mlp) -> Mlp:
            """Return an MLP with its experts changed, those inside another part as well."""
            if isinstance(mlp, Extended):
                return replace(mlp, mlp=changed(mlp.mlp))
            return change(mlp) if isinstance(mlp, Experts) else mlp

        return replace(
            self, layers=tuple(replace(one, mlp=changed(one.mlp)) for one in self.layers)
        )

    def linear_parameters(self) -> int:
        """Weights that quantization shrinks: attention, MLP and expert matrices of all layers.

        Embeddings, LM head, routers, norms and biases are left out: the usual checkpoints keep
        them in the activations' precision.
        """
        return sum(
            layers.count * matrix.copies * matrix.parameters
            for layers in self.layers
            for matrix in layers.matrices
            if matrix.quantized
        )

    def embedding_parameters(self) -> int:
        """Rows of the token embedding and of the learned positions, and the norm behind them."""
        return self.embedding.parameters

    def lm_head_parameters(self) -> int:
        """Weights of an LM head of its own, 0 when it is the token embedding; and its bias."""
        bias = self.vocab_size if self.head.logit_bias else 0
        return bias + (0 if self.head.tied else self.vocab_size * self.hidden_size)

    def parameters(self) -> int:
        """Every parameter of the decoder, exactly; encoders beside it are not counted."""
        in_layers = sum(
            layers.count
            * (
                layers.vector_numbers()
                + sum(matrix.copies * matrix.parameters for matrix in layers.matrices)
            )
            for layers in self.layers
        )
        once = self.head.norm.parameters + self.embedding_parameters() + self.lm_head_parameters()
        return in_layers + once + self.once.parameters

    def active_parameters(self) -> int:
        """Parameters that one token passes through: all but the experts it is not routed to."""
        idle = sum(
            layers.count
            * (matrix.copies - matrix.used)
            * (matrix.parameters + matrix.bias_numbers())
            for layers in self.layers
            for matrix in layers.matrices
        )
        return self.parameters() - idle

    def kv_bytes_per_token(
        self, kv_dtype_bytes: float, tp: int | None = None, kind: str | None = None
    ) -> float:
        """Bytes that one token keeps in the KV cache of all layers, inside their windows.

        Keys and values of attention are ``2 * layers * kv_heads * head_dim * bytes`` over the whole
        model; one of ``tp`` ranks holds its share of the heads. ``Cache.token_bytes`` says it for
        every kind of cache; ``kind`` counts those of one kind only.
        """
        return sum(
            layers * cache.token_bytes(kv_dtype_bytes, tp)
            for cache, layers in self.caches.items()
            if kind in (None, cache.kind)
        )

    def state_bytes_per_sequence(self, activation_bytes: float, tp: int | None = None) -> float:
        """Bytes that one sequence keeps in all layers whatever its length; on one of ``tp`` ranks.

        Args:
            activation_bytes: of a number in the model's own precision.
            tp: ranks; None: all of them together, heads that ranks copy counted once.
        """
        return sum(
            layers * cache.sequence_bytes(activation_bytes, tp)
            for cache, layers in self.caches.items()
        )
