"""Families like DeepSeek-V3 in most: MiniCPM3, Youtu, A.X K1."""

from typing import Any

from pydantic import NonNegativeInt, PositiveFloat, model_validator

from model.families.deepseek import NAMES, LatentKeys
from model.families.keys import Config, Family
from model.mixers.expanded import ExpandedLatent
from model.mixers.mixer import Mixer
from model.mlps.experts import Experts
from model.mlps.extended import Extended
from model.mlps.mlp import Mlp


class MiniCpm3Keys(LatentKeys):
    """Dense; values as wide as an even part of the hidden size where the file does not say.

    Engines keep keys and values of all heads.
    """

    rms_norm_eps: PositiveFloat = 1e-5
    tie_word_embeddings: bool = True

    @model_validator(mode="before")
    @classmethod
    def _even_values(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("v_head_dim") is not None:
            return given
        hidden, heads = given.get("hidden_size"), given.get("num_attention_heads")
        if isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
            return {**given, "v_head_dim": hidden // heads}
        return given

    def mixer_at(self, place: int, config: Config) -> Mixer:
        """Latent attention whose cache holds keys and values of all heads."""
        return ExpandedLatent(self.latent_at(place, config))


class YoutuKeys(LatentKeys):
    """Dense."""

    tie_word_embeddings: bool = True


class AxK1Keys(LatentKeys):
    """A norm behind the experts."""

    first_k_dense_replace: NonNegativeInt = 1

    def mlp_at(self, place: int) -> Mlp:
        """As of ``LatentKeys``, with one norm more behind experts."""
        mlp = super().mlp_at(place)
        if not isinstance(mlp, Experts):
            return mlp
        hidden = self.hidden_size
        return Extended(mlp=mlp, more_vectors=hidden, moved_numbers=2 * hidden)


FAMILIES = {
    "minicpm3": Family("MiniCPM3ForCausalLM", MiniCpm3Keys, NAMES),
    "youtu": Family("YoutuForCausalLM", YoutuKeys, NAMES),
    "axk1": Family("AXK1ForCausalLM", AxK1Keys, NAMES),
}
