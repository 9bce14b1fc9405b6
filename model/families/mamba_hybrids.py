"""Families with Mamba-2 beside or between attention: Bamba, Granite 4, Falcon-H1."""

from typing import ClassVar

from pydantic import NonNegativeInt, model_validator

from model.families.keys import Config, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.llama import ATTENTION, LAYER
from model.families.windowed import FULL, WindowedKeys
from model.mixers.attention import Attention
from model.mixers.beside import Beside
from model.mixers.mamba import Mamba2
from model.mixers.mixer import Mixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

STATE = "linear_attention"
OLD_WORDS = {"mamba": STATE, "attention": FULL}
_SSM = {"ssm_in": "mamba.in_proj", "ssm_out": "mamba.out_proj"}


class Mamba2Keys(WindowedKeys):
    """Keys of the state-space layers."""

    sliding_window: PositiveInt | None = None
    mamba_n_heads: PositiveInt
    mamba_d_head: PositiveInt | str = "auto"
    mamba_d_state: PositiveInt
    mamba_n_groups: PositiveInt = 1
    mamba_d_conv: PositiveInt = 4
    mamba_expand: PositiveInt = 2
    mamba_chunk_size: PositiveInt = 256
    mamba_conv_bias: bool = True
    mamba_proj_bias: bool = False

    @property
    def mamba_width(self) -> int:
        """Numbers of all heads of a state-space layer together."""
        return self.mamba_expand * self.hidden_size

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "Mamba2Keys":
        check_layer_types("layer_types", self.kinds, self.num_hidden_layers, (STATE, FULL))
        heads, width, each = self.mamba_n_heads, self.mamba_width, self.mamba_d_head
        if width % heads or each not in ("auto", width // heads):
            raise ValueError(
                f"mamba_n_heads = {heads} of {each} numbers: expected {width} numbers together"
            )
        if heads % self.mamba_n_groups:
            raise ValueError(
                f"mamba_n_groups = {self.mamba_n_groups}: expected a divisor of mamba_n_heads = "
                f"{heads}"
            )
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer, from ``layer_types``; older files say mamba and attention."""
        return [OLD_WORDS.get(kind, kind) for kind in self.layer_types or []]

    def mamba(self, *, norm: bool = True, output_bias: bool | None = None) -> Mamba2:
        """Return a state-space layer."""
        return Mamba2(
            hidden_size=self.hidden_size,
            num_heads=self.mamba_n_heads,
            head_dim=self.mamba_width // self.mamba_n_heads,
            groups=self.mamba_n_groups,
            state_size=self.mamba_d_state,
            conv_kernel=self.mamba_d_conv,
            chunk=self.mamba_chunk_size,
            bias=self.mamba_proj_bias,
            output_bias=self.mamba_proj_bias if output_bias is None else output_bias,
            conv_bias=self.mamba_conv_bias,
            norm=norm,
        )

    def attention_at(self, place: int, config: Config) -> Attention:
        """Return the attention of a layer."""
        return self.attention(rotary=self.rotary_at(FULL, config))

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """A state-space layer or attention."""
        if self.kinds[place] == STATE:
            return self.mamba()
        return self.attention_at(place, config)


class BambaKeys(Mamba2Keys):
    """Attention in a few layers."""

    attn_layer_indices: list[int] | None = None

    @property
    def kinds(self) -> list[str]:
        """Of every layer: those of ``attn_layer_indices`` attend."""
        attending = self.attn_layer_indices or ()
        return [FULL if i in attending else STATE for i in range(self.num_hidden_layers)]


class GraniteHybridKeys(Mamba2Keys):
    """Experts, if any, beside an MLP that every token takes."""

    shared_intermediate_size: PositiveInt
    num_local_experts: NonNegativeInt = 0
    num_experts_per_tok: NonNegativeInt = 0
    position_embedding_type: str | None = None

    @model_validator(mode="after")
    def _enough_experts(self) -> "GraniteHybridKeys":
        if self.num_local_experts:
            check_experts(self.num_experts_per_tok, self.num_local_experts)
        return self

    def attention_at(self, place: int, config: Config) -> Attention:
        """Return attention, which has positions only if ``position_embedding_type`` is rope."""
        rotates = self.position_embedding_type == "rope"
        return self.attention(rotary=self.rotary_at(FULL, config) if rotates else None)

    def mlp_at(self, place: int) -> Mlp:
        """The shared MLP, beside experts if there are any."""
        shared = Dense(
            hidden_size=self.hidden_size,
            width=self.shared_intermediate_size,
            activation=self.hidden_act,
        )
        if not self.num_local_experts:
            return shared
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=self.hidden_act,
            shared=shared,
        )


class FalconH1Keys(Mamba2Keys):
    """Attention and a state-space layer side by side in every layer."""

    default_theta: ClassVar[float] = 100_000.0

    mamba_d_ssm: PositiveInt | None = None
    mamba_rms_norm: bool = False
    projectors_bias: bool = False

    @property
    def mamba_width(self) -> int:
        """``mamba_d_ssm``, or where it is missing as many as of others."""
        return self.mamba_d_ssm or super().mamba_width

    @property
    def kinds(self) -> list[str]:
        """Every layer attends."""
        return [FULL] * self.num_hidden_layers

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention and a state-space layer, on the same inputs."""
        state = self.mamba(norm=self.mamba_rms_norm, output_bias=self.projectors_bias)
        return Beside(self.attention_at(place, config), state)


FAMILIES = {
    "bamba": Family(
        "BambaForCausalLM",
        BambaKeys,
        names_below(
            LAYER,
            **ATTENTION,
            **_SSM,
            mlp_up="feed_forward.gate_proj feed_forward.up_proj",
            mlp_down="feed_forward.down_proj",
        ),
    ),
    "granitemoehybrid": Family(
        "GraniteMoeHybridForCausalLM",
        GraniteHybridKeys,
        names_below(
            LAYER,
            **ATTENTION,
            **_SSM,
            mlp_up="shared_mlp.input_linear",
            mlp_down="shared_mlp.output_linear",
            experts="block_sparse_moe.input_linear block_sparse_moe.output_linear",
        ),
    ),
    "falcon_h1": Family(
        "FalconH1ForCausalLM",
        FalconH1Keys,
        names_below(
            LAYER,
            **ATTENTION,
            **_SSM,
            mlp_up="feed_forward.gate_proj feed_forward.up_proj",
            mlp_down="feed_forward.down_proj",
        ),
    ),
}
