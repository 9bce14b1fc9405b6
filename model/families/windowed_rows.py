"""Dense families with windows in most layers: Cohere 2, OLMo 3, EXAONE 4."""

from typing import ClassVar

from pydantic import Field, PositiveFloat

from model.families.keys import Family, PositiveInt
from model.families.llama import NAMES
from model.families.windowed import SLIDING, WindowedKeys


class Cohere2Keys(WindowedKeys):
    """Attention and MLP side by side; layers that attend everything have no positions."""

    usual_pattern: ClassVar[int] = 4
    rotated: ClassVar[tuple[str, ...]] = (SLIDING,)
    norms: ClassVar[int] = 1
    norm_kind: ClassVar[str] = "layernorm"
    norm_vectors: ClassVar[int | None] = 1

    rms_norm_eps: PositiveFloat = Field(default=1e-5, validation_alias="layer_norm_eps")
    tie_word_embeddings: bool = True


class Olmo3Keys(WindowedKeys):
    """Norms of whole queries and keys."""

    usual_pattern: ClassVar[int] = 4
    qk_norm: ClassVar[bool] = True
    wide_qk_norm: ClassVar[bool] = True

    rms_norm_eps: PositiveFloat = 1e-5


class Exaone4Keys(WindowedKeys):
    """Layers that attend everything beside windows have no positions."""

    usual_pattern: ClassVar[int] = 4
    qk_norm: ClassVar[bool] = True

    rms_norm_eps: PositiveFloat = 1e-5
    num_key_value_heads: PositiveInt | None = Field()

    def rotates(self, kind: str) -> bool:
        """Layers with windows; all layers where none has one."""
        return kind == SLIDING or SLIDING not in self.kinds


FAMILIES = {
    "cohere2": Family("Cohere2ForCausalLM", Cohere2Keys, NAMES),
    "olmo3": Family("Olmo3ForCausalLM", Olmo3Keys, NAMES),
    "exaone4": Family("Exaone4ForCausalLM", Exaone4Keys, NAMES),
    "exaone4_5_text": Family("Exaone4_5_ForConditionalGeneration", Exaone4Keys, NAMES),
}
