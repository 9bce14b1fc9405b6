"""``model_type: mamba``, ``falcon_mamba`` and ``mamba2``: layers with a state and nothing else."""

from math import ceil
from typing import ClassVar

from pydantic import AliasChoices, Field, PositiveFloat, model_validator

from model.families.keys import Config, Family, Keys, LayerCount, PositiveInt
from model.mixers.mamba import Mamba, Mamba2
from model.mixers.mixer import Mixer
from model.mlps.none import NoMlp
from model.norm import Norm
from model.quantization.modules import names_below
from model.shape import DecoderSpec, Embedding, Head, grouped

LONGEST = 2048
"""Positions of a file that names none: vLLM's default for models without any."""


class StateKeys(Keys):
    """Nothing attends: a request may be as long as the engine lets it be."""

    tied: ClassVar[bool] = True

    hidden_size: PositiveInt = Field(validation_alias=AliasChoices("hidden_size", "d_model"))
    num_hidden_layers: LayerCount = Field(
        validation_alias=AliasChoices("num_hidden_layers", "n_layer")
    )
    max_position_embeddings: PositiveInt = LONGEST
    state_size: PositiveInt
    expand: PositiveInt = 2
    conv_kernel: PositiveInt = 4
    use_bias: bool = False
    use_conv_bias: bool = True
    layer_norm_epsilon: PositiveFloat = 1e-5
    tie_word_embeddings: bool | None = None

    def mixer(self) -> Mixer:
        """Return the mixer of a layer."""
        raise NotImplementedError

    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """See ``Keys``."""
        norm = Norm("rmsnorm", self.layer_norm_epsilon, self.hidden_size)
        tied = self.tied if self.tie_word_embeddings is None else self.tie_word_embeddings
        return DecoderSpec(
            name=name,
            architecture=architecture,
            embedding=Embedding(vocab_size=self.vocab_size, hidden_size=self.hidden_size),
            layers=grouped([(self.mixer(), NoMlp())] * self.num_hidden_layers, norm),
            head=Head(norm=norm, tied=tied),
            max_position_embeddings=self.max_position_embeddings,
            max_model_len=self.max_position_embeddings,
        )


class MambaKeys(StateKeys):
    """Channels with a state each."""

    state_size: PositiveInt = 16
    time_step_rank: PositiveInt | str = "auto"
    intermediate_size: PositiveInt | None = Field(
        default=None, validation_alias=AliasChoices("intermediate_size", "d_inner")
    )

    def mixer(self) -> Mixer:
        """Mamba; its steps have a rank of one sixteenth of the hidden size if none is given."""
        rank = self.time_step_rank
        return Mamba(
            hidden_size=self.hidden_size,
            channels=self.intermediate_size or self.expand * self.hidden_size,
            state_size=self.state_size,
            conv_kernel=self.conv_kernel,
            step_rank=rank if isinstance(rank, int) else ceil(self.hidden_size / 16),
            bias=self.use_bias,
            conv_bias=self.use_conv_bias,
        )


class Mamba2Keys(StateKeys):
    """Heads with a state each."""

    tied: ClassVar[bool] = False

    state_size: PositiveInt = 128
    num_heads: PositiveInt
    head_dim: PositiveInt = 64
    n_groups: PositiveInt = 8
    chunk_size: PositiveInt = 256

    @model_validator(mode="after")
    def _heads_fill_the_width(self) -> "Mamba2Keys":
        if self.num_heads * self.head_dim != self.expand * self.hidden_size:
            raise ValueError(
                f"num_heads = {self.num_heads} of head_dim = {self.head_dim}: expected expand * "
                f"hidden_size = {self.expand * self.hidden_size} numbers together"
            )
        return self

    def mixer(self) -> Mixer:
        """Mamba-2, whose width ``expand`` gives."""
        return Mamba2(
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            groups=self.n_groups,
            state_size=self.state_size,
            conv_kernel=self.conv_kernel,
            chunk=self.chunk_size,
            bias=self.use_bias,
            output_bias=self.use_bias,
            conv_bias=self.use_conv_bias,
        )


NAMES = names_below(
    "backbone.layers.{i}.mixer",
    ssm_in="in_proj",
    ssm_x="x_proj",
    ssm_dt="dt_proj",
    ssm_out="out_proj",
)
FAMILIES = {
    "mamba": Family("MambaForCausalLM", MambaKeys, NAMES),
    "falcon_mamba": Family("FalconMambaForCausalLM", MambaKeys, NAMES),
    "mamba2": Family("Mamba2ForCausalLM", Mamba2Keys, NAMES),
}
