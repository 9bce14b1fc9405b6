"""``model_type: nemotron_h``: layers of one part each: Mamba-2, attention, experts or an MLP."""

from typing import Any, ClassVar

from pydantic import AliasChoices, Field, PositiveFloat, model_validator

from model.families.keys import Activation, Config, ExpertCount, Family, PositiveInt, check_experts
from model.families.layer_types import check_layer_types
from model.families.qwen3_next import STATE_DTYPES
from model.families.windowed import WindowedKeys
from model.mixers.mamba import Mamba2
from model.mixers.mixer import Mixer
from model.mixers.none import NoMixer
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.mlps.none import NoMlp
from model.quantization.modules import names_below

STATE, EXPERTS, ATTENDS, DENSE = "linear_attention", "moe", "full_attention", "mlp"
LETTERS = {"M": STATE, "E": EXPERTS, "*": ATTENDS, "-": DENSE}
WORDS = {"mamba": STATE, "attention": ATTENDS}
_EXPERT = "mixer.experts.{j}"
NAMES = names_below(
    "backbone.layers.{i}",
    qkv_proj="mixer.q_proj mixer.k_proj mixer.v_proj",
    o_proj="mixer.o_proj",
    ssm_in="mixer.in_proj",
    ssm_out="mixer.out_proj",
    mlp_up="mixer.up_proj",
    mlp_down="mixer.down_proj",
    shared_mlp_up="mixer.shared_experts.up_proj",
    shared_mlp_down="mixer.shared_experts.down_proj",
    experts=f"{_EXPERT}.up_proj {_EXPERT}.down_proj",
    latent_down="mixer.fc1_latent_proj",
    latent_up="mixer.fc2_latent_proj",
)


class NemotronHKeys(WindowedKeys):
    """Which part a layer is stands in a word of letters or a list.

    Its code gives attention no biases and the head a matrix of its own, whatever a file says.
    """

    rotated: ClassVar[tuple[str, ...]] = ()
    norms: ClassVar[int] = 1

    rms_norm_eps: PositiveFloat = Field(
        default=1e-5, validation_alias=AliasChoices("layer_norm_epsilon", "norm_eps")
    )
    hidden_act: Activation = Field(default="relu2", validation_alias="mlp_hidden_act")
    sliding_window: PositiveInt | None = None
    head_dim: PositiveInt | None = 128
    mamba_num_heads: PositiveInt
    mamba_head_dim: PositiveInt
    ssm_state_size: PositiveInt
    n_groups: PositiveInt = 8
    conv_kernel: PositiveInt = 4
    chunk_size: PositiveInt = 128
    use_bias: bool = False
    use_conv_bias: bool = True
    mamba_ssm_cache_dtype: str = "float32"
    n_routed_experts: ExpertCount | None = None
    num_experts_per_tok: PositiveInt = 2
    n_shared_experts: int | None = 1
    moe_intermediate_size: PositiveInt | None = None
    moe_shared_expert_intermediate_size: PositiveInt | None = None
    moe_latent_size: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _list_of_parts(cls, given: Any) -> Any:
        """One list in the words of newer files, whichever form a file has."""
        if not isinstance(given, dict):
            return given
        parts = given.get("layers_block_type") or given.get("layer_types")
        pattern = given.get("hybrid_override_pattern")
        if parts is None and isinstance(pattern, str):
            parts = [LETTERS.get(letter, letter) for letter in pattern]
        if not isinstance(parts, list):
            return given
        parts = [WORDS.get(part, part) if isinstance(part, str) else part for part in parts]
        return {"num_hidden_layers": len(parts), **given, "layer_types": parts}

    @model_validator(mode="before")
    @classmethod
    def _not_read(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {**given, "attention_bias": False, "tie_word_embeddings": False}

    @model_validator(mode="after")
    def _a_kind_for_every_layer(self) -> "NemotronHKeys":
        if self.layer_types is None:
            raise ValueError("hybrid_override_pattern is missing, or layers_block_type")
        known = tuple(LETTERS.values())
        check_layer_types("layers_block_type", self.layer_types, self.num_hidden_layers, known)
        if self.mamba_ssm_cache_dtype not in STATE_DTYPES:
            raise ValueError(
                f"mamba_ssm_cache_dtype = {self.mamba_ssm_cache_dtype!r}: expected "
                f"{', '.join(STATE_DTYPES)}"
            )
        if EXPERTS in self.layer_types:
            for key in ("n_routed_experts", "moe_intermediate_size"):
                if getattr(self, key) is None:
                    raise ValueError(f"{key} is missing beside layers of experts")
            check_experts(self.num_experts_per_tok, self.n_routed_experts or 0)
        if self.mlp_bias and self.moe_latent_size:
            raise ValueError("mlp_bias = True: expected False beside moe_latent_size")
        return self

    @property
    def kinds(self) -> list[str]:
        """Of every layer, which of the four parts it is."""
        return self.layer_types or []

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Attention without positions or Mamba-2; none in a layer of experts or an MLP."""
        kind = self.kinds[place]
        if kind == ATTENDS:
            return self.attention(sliding_window=self.sliding_window)
        if kind != STATE:
            return NoMixer()
        return Mamba2(
            hidden_size=self.hidden_size,
            num_heads=self.mamba_num_heads,
            head_dim=self.mamba_head_dim,
            groups=self.n_groups,
            state_size=self.ssm_state_size,
            conv_kernel=self.conv_kernel,
            chunk=self.chunk_size,
            bias=self.use_bias,
            output_bias=self.use_bias,
            conv_bias=self.use_conv_bias,
            state_number_bytes=STATE_DTYPES[self.mamba_ssm_cache_dtype],
        )

    def mlp_at(self, place: int) -> Mlp:
        """Experts or an MLP, without gates; none in a layer that mixes."""
        kind = self.kinds[place]
        if kind == DENSE:
            return self._plain(self.intermediate_size)
        if kind != EXPERTS:
            return NoMlp()
        shared = self.moe_shared_expert_intermediate_size if self.n_shared_experts else None
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.n_routed_experts or 0,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size or 0,
            activation=self.hidden_act,
            gated=False,
            latent=self.moe_latent_size,
            shared=self._plain(shared) if shared else None,
        )

    def _plain(self, width: int) -> Dense:
        return Dense(
            hidden_size=self.hidden_size,
            width=width,
            gated=False,
            activation=self.hidden_act,
            bias=self.mlp_bias,
        )


FAMILY = Family("NemotronHForCausalLM", NemotronHKeys, NAMES)
