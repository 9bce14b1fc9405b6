"""What Qwen's mixtures of experts have in common."""

from pydantic import AliasChoices, Field, model_validator

from model.families.keys import ExpertCount, PositiveInt, check_experts
from model.families.qwen2 import Qwen2Keys
from model.mlps.experts import Experts

EXPERT = "mlp.experts.{j}"
EXPERTS = f"{EXPERT}.gate_proj {EXPERT}.up_proj {EXPERT}.down_proj"


class QwenMoeKeys(Qwen2Keys):
    """Experts of a width of their own, in every layer."""

    moe_intermediate_size: PositiveInt
    num_experts_per_tok: PositiveInt
    num_experts: ExpertCount = Field(
        validation_alias=AliasChoices("num_experts", "num_local_experts")
    )
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None

    @model_validator(mode="after")
    def _every_layer_is_sparse(self) -> "QwenMoeKeys":
        check_experts(self.num_experts_per_tok, self.num_experts)
        if self.decoder_sparse_step != 1:
            raise ValueError(
                f"decoder_sparse_step = {self.decoder_sparse_step}: expected 1, experts in every "
                "layer"
            )
        if self.mlp_only_layers:
            raise ValueError(
                f"mlp_only_layers = {self.mlp_only_layers}: expected [], experts in every layer"
            )
        return self

    def mlp(self) -> Experts:
        return Experts(
            hidden_size=self.hidden_size,
            num_experts=self.num_experts,
            per_token=self.num_experts_per_tok,
            width=self.moe_intermediate_size,
            activation=self.hidden_act,
        )
