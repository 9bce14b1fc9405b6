"""What Qwen's mixtures of experts have in common."""

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import Config, ExpertCount, PositiveInt, check_experts
from model.families.llama import LlamaKeys
from model.families.qwen2 import Qwen2Keys
from model.mixers.mixer import Mixer
from model.mlps.experts import Experts
from model.mlps.mlp import Mlp

EXPERT = "mlp.experts.{j}"
DENSE = {"mlp_up": "mlp.gate_proj mlp.up_proj", "mlp_down": "mlp.down_proj"}
EXPERTS = f"{EXPERT}.gate_proj {EXPERT}.up_proj {EXPERT}.down_proj"


class QwenMoeKeys(Qwen2Keys):
    """Experts of a width of their own, in every layer that is not told to be dense."""

    moe_intermediate_size: PositiveInt
    num_experts_per_tok: PositiveInt
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    decoder_sparse_step: PositiveInt = 1
    """Experts in every so many-th layer."""
    mlp_only_layers: list[int] | None = None
    """Layers that are dense whatever the step."""

    @model_validator(mode="after")
    def _enough_experts(self) -> "QwenMoeKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        return self

    def each_layer(self, config: Config) -> list[tuple[Mixer, Mlp]]:
        """Return the mixer and the MLP of every layer: experts, or dense where told."""
        dense, mixer, mlp = {*(self.mlp_only_layers or ())}, self.mixer(config), self.mlp()
        sparse = [
            i not in dense and (i + 1) % self.decoder_sparse_step == 0
            for i in range(self.num_hidden_layers)
        ]
        return [(mixer, mlp if there else LlamaKeys.mlp(self)) for there in sparse]

    def mlp(self) -> Experts:
        """Experts of ``moe_intermediate_size``, none of them shared."""
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size,
            activation=self.hidden_act,
        )
