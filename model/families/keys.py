"""What every ``config.json`` is read with: types of its keys, and what a family has to say.

Only the keys that decide shapes and arithmetic are read; ``quantization_config`` and the scaling of
positions have readers of their own (``model.quantization``, ``model.lengths``), and the many others
of such a file are ignored. Shapes must be given. Another key that a file leaves out takes the
default of its configuration class in ``transformers``, because files written for that class rely on
it. What this project cannot represent (embeddings narrower than the model, dense layers between
sparse ones) is an error, never an approximation.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from model.dataclass import dataclass
from model.errors import one_of
from model.quantization.modules import Names
from model.shape import DecoderSpec

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "relu^2": "relu2",
    "gelu_fast": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_pytorch": "gelu",
    "quick_gelu": "gelu_quick",
    "xielu": "xielu",
    "swiglu": "silu",
    "swigluoai": "silu",
    "situ": "situ",
}
"""Name in a config file to the function it stands for."""

Config = Mapping[str, object]

PositiveInt = Annotated[int, Field(gt=0, lt=2**31)]
"""Any count; what is larger is a slip of the pen."""
LayerCount = Annotated[int, Field(gt=0, le=4096)]
ExpertCount = Annotated[int, Field(gt=0, le=65_536)]


def _activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(one_of(name, tuple(ACTIVATIONS)))
    return ACTIVATIONS[name]


Activation = Annotated[str, AfterValidator(_activation)]


class Keys(BaseModel, ABC):
    """The keys of one family's files, and what decoder they describe."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        defer_build=True,
    )

    positions_key: ClassVar[str] = "max_position_embeddings"
    """Says how many positions there are; where it is missing, other usual keys count."""

    vocab_size: PositiveInt

    @classmethod
    def told(cls, key: str) -> str:
        """Return what the family's files call a key of this class."""
        return key

    @abstractmethod
    def decoder(self, name: str, architecture: str, config: Config) -> DecoderSpec:
        """Return the decoder, without what its checkpoint says of its numbers.

        Args:
            name: what the model is called from here on.
            architecture: ``model_type``.
            config: the whole file, for lengths and rotary scaling.

        Raises:
            ConfigError: a scaling of positions that is not known.
        """


@dataclass(frozen=True, slots=True)
class Family:
    """Checkpoints of one ``model_type``."""

    class_name: str
    """In ``architectures``."""
    keys: type[Keys]
    names: Names
    """What its files call the matrices of a layer."""
    also: tuple[str, ...] = ()
    """Other classes in ``architectures`` of the same type."""
    under: tuple[str, ...] = ()
    """Types of other families that its files may give: its class tells them apart."""


def check_experts(chosen: int, experts: int) -> None:
    """Raise ValueError if a token chooses more experts than there are."""
    if chosen > experts:
        raise ValueError(
            f"num_experts_per_tok = {chosen}: expected at most the number of experts = {experts}"
        )
