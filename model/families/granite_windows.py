"""``model_type: granite_swa`` and ``granitemoe_swa``: windows with sinks, full attention first."""

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import ExpertCount, Family, PositiveInt, check_experts
from model.families.llama import ATTENTION, LAYER, NAMES
from model.families.windowed import FULL, SLIDING, WindowedKeys
from model.mixers.attention import Attention
from model.mlps.dense import Dense
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp
from model.quantization.modules import names_below

_EXPERTS = "block_sparse_moe.input_linear block_sparse_moe.output_linear"


class GraniteSwaKeys(WindowedKeys):
    """The first of every four layers attends everything."""

    sliding_window: PositiveInt | None = 128
    rms_norm_eps: PositiveFloat = 1e-5
    tie_word_embeddings: bool = True

    @property
    def kinds(self) -> list[str]:
        """Of every layer; without a list the first of every four attends everything."""
        if self.layer_types is not None:
            return self.layer_types
        return [SLIDING if place % 4 else FULL for place in range(self.num_hidden_layers)]

    def attention(self, **changes: object) -> Attention:
        """Return the attention of a layer: every head has a sink."""
        return super().attention(**{"sinks": True, **changes})


class GraniteMoeSwaKeys(GraniteSwaKeys):
    """The same with experts in every layer, and perhaps one that all tokens take."""

    rms_norm_eps: PositiveFloat = 1e-6
    tie_word_embeddings: bool = False
    num_local_experts: ExpertCount = 8
    num_experts_per_tok: PositiveInt = 2
    shared_intermediate_size: NonNegativeInt = 0

    @model_validator(mode="after")
    def _enough_experts(self) -> "GraniteMoeSwaKeys":
        check_experts(self.num_experts_per_tok, self.num_local_experts)
        return self

    def mlp(self) -> Mlp:
        """Experts, beside one that every token takes if ``shared_intermediate_size`` is given."""
        hidden, width, activation = self.hidden_size, self.shared_intermediate_size, self.hidden_act
        return Experts(
            hidden_size=hidden,
            num_experts=self.num_local_experts,
            per_token=self.num_experts_per_tok,
            width=self.intermediate_size,
            activation=activation,
            shared=Dense(hidden_size=hidden, width=width, activation=activation) if width else None,
        )


FAMILIES = {
    "granite_swa": Family("GraniteSWAForCausalLM", GraniteSwaKeys, NAMES),
    "granitemoe_swa": Family(
        "GraniteMoeSWAForCausalLM",
        GraniteMoeSwaKeys,
        names_below(
            LAYER,
            **ATTENTION,
            mlp_up="shared_mlp.input_linear",
            mlp_down="shared_mlp.output_linear",
            shared_mlp_up="shared_mlp.input_linear",
            shared_mlp_down="shared_mlp.output_linear",
            experts=_EXPERTS,
        ),
    ),
}
