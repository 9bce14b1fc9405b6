"""What a quantization section of a checkpoint says, whatever its format, and how it is read."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from model.dataclass import dataclass
from model.errors import ConfigError
from model.quantization.modules import LM_HEAD, Choice, any_of
from model.quantization.scheme import Scheme

Section = Mapping[str, Any]
Keys = TypeVar("Keys", bound=BaseModel)


class SectionKeys(BaseModel):
    """Base of the keys that a format reads; others are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """Storage of a checkpoint's matrices, before it is counted over a model's layers."""

    method: str
    """vLLM's name."""
    choose: Choice
    """Scheme of a matrix by its name; None for 16 bits."""
    listed: tuple[str, ...] = ()
    """Names in its lists."""
    kv_fp8: bool = False
    """The KV cache is stored in fp8."""
    experts_only: bool = False


def read(keys: type[Keys], section: Section) -> Keys:
    """Check a section. Raises ConfigError with every wrong key."""
    try:
        return keys.model_validate(dict(section))
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            key = ".".join(map(str, detail["loc"]))
            told = detail["msg"].removeprefix("Value error, ")
            told = told.replace("Input should be", "expected", 1)
            missing = detail["type"] == "missing"
            lines.append(f"{key} is missing" if missing else f"{key} = {detail['input']!r}: {told}")
        raise ConfigError("\n".join(lines)) from None


def all_but(scheme: Scheme, left_out: tuple[str, ...], *, inside: bool = False) -> Choice:
    """Return one scheme for every matrix of the layers that a list does not name."""
    skipped = any_of(left_out, inside=inside)
    return lambda name: None if name == LM_HEAD or skipped(name) else scheme


def refused(what: str, why: str = "is not modelled") -> ConfigError:
    """Return the error for a format that has no price here."""
    return ConfigError(f"{what} {why}")
