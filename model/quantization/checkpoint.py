"""From the files of a checkpoint to how the weights of its modules are stored."""

from collections.abc import Mapping, Sequence

from model.dataclass import dataclass
from model.errors import ConfigError
from model.quantization.methods import read_section
from model.quantization.modules import Kind, Names, layer_parts
from model.quantization.weights import EXPERTS, PLAIN, Weights

SECTIONS = ("quantization_config", "compression_config")
"""Keys of config.json that hold the quantization."""

MLX = "quantization"
"""Key that says it in checkpoints for Apple's MLX."""

BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files beside config.json that say it where config.json does not: ModelOpt, GPTQ, AWQ."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says of its numbers."""

    weights: Weights = PLAIN
    dtype: str | None = None
    """Of whatever is not quantized: bfloat16, float16 or float32; None when it does not say."""
    kv_fp8: bool = False
    """The KV cache is meant to be kept in fp8."""


UNSAID = Checkpoint()
"""One that says nothing."""


def read_checkpoint(
    config: Mapping[str, object],
    beside: Mapping[str, Mapping[str, object]],
    names: Names,
    layers: Sequence[Kind],
) -> Checkpoint:
    """Read what config.json and the files beside it say of the weights.

    Args:
        config: contents of config.json.
        beside: contents of the files of `BESIDE`, by name.
        names: what the family calls the matrices.
        layers: of the model.

    Raises:
        ConfigError: a format that is not modelled, or keys that are wrong; names where.
    """
    told = config.get("dtype", config.get("torch_dtype"))
    dtype = str(told).removeprefix("torch.") if isinstance(told, str) else None
    source, section = _section(config, beside)
    if section is None:
        return Checkpoint(dtype=dtype)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{source} = {str(section)[:80]!r}: expected a mapping or null")
    if isinstance(config.get("expert_dtype"), str):
        section = {"expert_dtype": config["expert_dtype"], **section}
    try:
        said = read_section(section)
        parts = layer_parts(names, layers, said.choose, listed=said.listed)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None
    if said.experts_only:
        parts = tuple(part for part in parts if part[0] in EXPERTS)
    return Checkpoint(Weights(parts, said.method, source), dtype, said.kv_fp8)


def _section(
    config: Mapping[str, object], beside: Mapping[str, Mapping[str, object]]
) -> tuple[str, object]:
    for key in SECTIONS:
        section = config.get(key)
        if section and not (_only_names(section) and BESIDE[0] in beside):
            return f"{key} of config.json", section
    if isinstance(config.get(MLX), Mapping):
        raise ConfigError(f"{MLX} of config.json is MLX's, which vLLM does not read")
    for name in BESIDE:
        if name in beside:
            return name, beside[name]
    return "", None


def _only_names(section: object) -> bool:
    """Whether a section of ModelOpt leaves everything else to the file beside config.json."""
    if not isinstance(section, Mapping):
        return False
    named = str(section.get("quant_method")).startswith("modelopt")
    return named and not any(section.get(key) for key in ("quant_algo", "quantization"))
