"""``model_type: deepseek_v32`` and ``glm_moe_dsa``: latent attention with an index (DSA)."""

from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.deepseek import NAMES, LatentKeys
from model.families.keys import Family, PositiveInt
from model.families.layer_types import check_layer_types
from model.mixers.index import Index

INDEXER_TYPES = ("full", "shared")


class IndexedKeys(LatentKeys):
    """An index in every layer, or in some whose choice the layers behind them share."""

    mlp_bias: Literal[False] = False
    q_lora_rank: PositiveInt
    index_n_heads: PositiveInt
    index_head_dim: PositiveInt
    index_topk: PositiveInt
    first_k_dense_replace: NonNegativeInt = 3
    indexer_types: list[str] | None = None

    @model_validator(mode="after")
    def _a_type_for_every_layer(self) -> "IndexedKeys":
        types = self.indexer_types
        check_layer_types("indexer_types", types, self.num_hidden_layers, INDEXER_TYPES)
        if types and types[0] != "full":
            raise ValueError(f"indexer_types begins with {types[0]!r}: expected 'full'")
        return self

    @property
    def index(self) -> Index:
        """What chooses the positions that a layer attends."""
        return Index(
            hidden_size=self.hidden_size,
            query_rank=self.q_lora_rank,
            num_heads=self.index_n_heads,
            head_dim=self.index_head_dim,
            topk=self.index_topk,
            rope_head_dim=self.qk_rope_head_dim,
        )

    def index_shared(self, place: int) -> bool:
        """Whether a layer attends what the last layer with an index of its own chose."""
        return self.indexer_types is not None and self.indexer_types[place] == "shared"


class GlmDsaKeys(IndexedKeys):
    """GLM-5."""

    default_theta: ClassVar[float] = 1_000_000.0

    rms_norm_eps: PositiveFloat = 1e-5


FAMILIES = {
    "deepseek_v32": Family("DeepseekV32ForCausalLM", IndexedKeys, NAMES),
    "glm_moe_dsa": Family("GlmMoeDsaForCausalLM", GlmDsaKeys, NAMES),
}
