"""``model_type: cohere2_moe``: attention beside experts, windows, and some dense layers before."""

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.keys import ExpertCount, Family, PositiveInt
from model.families.windowed import FULL, SLIDING
from model.families.windowed_moe import WindowedMoeKeys, names_of
from model.mlps.dense import Dense
from model.mlps.mlp import Mlp
from model.norm import Norm


class Cohere2MoeKeys(WindowedMoeKeys):
    """Experts are as wide as ``intermediate_size``; layers that attend everything have no
    positions."""

    usual_pattern: ClassVar[int] = 4
    dense_layers: ClassVar[int] = 0
    rotated: ClassVar[tuple[str, ...]] = (SLIDING,)
    norms: ClassVar[int] = 1
    norm_vectors: ClassVar[int | None] = 1

    head_dim: PositiveInt | None = 128
    rms_norm_eps: PositiveFloat = 1e-5
    layer_norm: bool = False
    """Whether the norms are no RMSNorm."""
    tie_word_embeddings: bool = True
    sliding_window_pattern: PositiveInt | None = None
    num_experts: ExpertCount = 8
    num_experts_per_tok: PositiveInt = 2
    n_shared_experts: NonNegativeInt = 0
    first_k_dense_replace: NonNegativeInt = 0
    prefix_dense_intermediate_size: PositiveInt | None = None
    prefix_dense_sliding_window_pattern: PositiveInt = 1

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, given: Any) -> Any:
        """Norms are RMSNorm where the file has ``rms_norm_eps``."""
        if not isinstance(given, dict):
            return given
        rms, usual = given.get("rms_norm_eps"), given.get("layer_norm_eps") or 1e-5
        width, shared = given.get("intermediate_size"), given.get("num_shared_experts")
        own = {"rms_norm_eps": usual if rms is None else rms, "layer_norm": rms is None}
        return {**given, **own, "moe_intermediate_size": width, "n_shared_experts": shared or 0}

    def norm(self) -> Norm:
        """Return the norm of the family, which is no RMSNorm in files that say so."""
        return replace(super().norm(), kind="layernorm" if self.layer_norm else "rmsnorm")

    @property
    def kinds(self) -> list[str]:
        """Of every layer, without a list: the dense ones before have a pattern of their own."""
        if self.layer_types is not None:
            return self.layer_types
        first, every = self.first_k_dense_replace, self.prefix_dense_sliding_window_pattern
        usual = self.sliding_window_pattern or self.usual_pattern
        before = [FULL if (i + 1) % every == 0 else SLIDING for i in range(first)]
        rest = range(self.num_hidden_layers - first)
        return before + [FULL if (i + 1) % usual == 0 else SLIDING for i in rest]

    def mlp_at(self, place: int) -> Mlp:
        """Experts, or in the layers before them a dense MLP of a width of its own."""
        if self.is_sparse(place):
            return super().mlp_at(place)
        width = self.prefix_dense_intermediate_size or self.intermediate_size
        return Dense(hidden_size=self.hidden_size, width=width, activation=self.hidden_act)


FAMILY = Family("Cohere2MoeForCausalLM", Cohere2MoeKeys, names_of("mlp.shared_experts"))
