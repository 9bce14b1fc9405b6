"""Quantization by vLLM's names: who reads a checkpoint's section, and what a study may set."""

from collections.abc import Callable, Mapping

from model.dataclass import dataclass
from model.errors import ConfigError, one_of
from model.quantization.said import Said, Section
from model.quantization.scheme import (
    AWQ,
    FP8_CHANNEL,
    FP8_TENSOR,
    GPTQ,
    INT8_CHANNEL,
    INT8_ONLY,
    MXFP4_ONLY,
    NF4,
    NVFP4,
    Scheme,
)
from model.quantization.weights import EXPERTS, LAYERS
from model.rows import Rows

READERS = Rows[Callable[[Section], Said]](
    {
        "gptq": "model.quantization.integers:gptq",
        "awq": "model.quantization.integers:awq",
        "auto-round": "model.quantization.integers:auto_round",
        "bitsandbytes": "model.quantization.integers:bitsandbytes",
        "compressed-tensors": "model.quantization.groups:compressed_tensors",
        "fbgemm_fp8": "model.quantization.floats:fbgemm_fp8",
        "fp8": "model.quantization.floats:fp8",
        "hqq": "model.quantization.integers:hqq",
        "modelopt": "model.quantization.floats:modelopt",
        "mxfp4": "model.quantization.floats:mxfp4",
        "quark": "model.quantization.groups:quark",
        "torchao": "model.quantization.torchao:torchao",
    }
)
"""By ``quant_method``."""

SPELLINGS = {
    "auto_gptq": "gptq",
    "gptq_marlin": "gptq",
    "marlin": "gptq",
    "auto_awq": "awq",
    "awq_marlin": "awq",
    "llm-awq": "awq",
    "auto_round": "auto-round",
    "intel/auto-round": "auto-round",
    "inc": "auto-round",
    "compressed_tensors": "compressed-tensors",
    "modelopt_fp4": "modelopt",
    "modelopt_fp8": "modelopt",
    "modelopt_mixed": "modelopt",
    "modelopt_mxfp8": "modelopt",
}
"""Other names of a ``quant_method``."""

NOT_MODELLED = (
    "aqlm", "bitblas", "bitnet", "deepgemm_fp8", "deepspeedfp", "eetq", "exl2", "exl3", "fp_quant",
    "gguf", "gptq_bitblas", "gptq_marlin_24", "higgs", "ipex", "neuron_quant", "petit_nvfp4",
    "qqq", "quanto", "quip", "rtn", "spqr", "squeezellm", "tpu_int8", "vptq",
)  # fmt: skip
"""Methods that exist and have no price here."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What ``engine.quantization`` means by one of its names."""

    scheme: Scheme | None
    """Of a model whose checkpoint is in 16 bits; None: there must be a checkpoint that says it."""
    agrees: tuple[str, ...] = ()
    """Methods of checkpoints that it does not contradict."""
    numbers: tuple[str, ...] = ()
    """Or kinds of numbers that most of the checkpoint must have."""
    modules: tuple[str, ...] = LAYERS
    """What it quantizes of a model in 16 bits."""
    weights_only: bool = False
    """Whether it forces products in 16 bits."""


_FOUR_BITS = ("gptq", "awq", "auto-round", "compressed-tensors")
SETTINGS: dict[str, Setting] = {
    "fp8": Setting(FP8_TENSOR, ("fp8",), ("fp8",)),
    "fbgemm_fp8": Setting(FP8_CHANNEL, ("fbgemm_fp8",)),
    "ptpc_fp8": Setting(FP8_CHANNEL),
    "modelopt": Setting(None, ("modelopt", "modelopt_fp4", "modelopt_mixed")),
    "modelopt_fp4": Setting(NVFP4, ("modelopt_fp4",)),
    "modelopt_mixed": Setting(None, ("modelopt_mixed",)),
    "compressed-tensors": Setting(None, ("compressed-tensors",)),
    "awq": Setting(AWQ, ("awq",)),
    "awq_marlin": Setting(AWQ, ("awq",)),
    "gptq": Setting(GPTQ, ("gptq",)),
    "gptq_marlin": Setting(GPTQ, ("gptq",)),
    "marlin": Setting(GPTQ, ("gptq",)),
    "auto-round": Setting(GPTQ, ("auto-round",)),
    "moe_wna16": Setting(None, ("gptq", "awq")),
    "bitsandbytes": Setting(NF4, ("bitsandbytes",)),
    "hqq": Setting(None, ("hqq",)),
    "quark": Setting(None, ("quark",)),
    "torchao": Setting(None, ("torchao",)),
    "mxfp4": Setting(MXFP4_ONLY, ("mxfp4",), modules=EXPERTS),
    "experts_int8": Setting(INT8_ONLY, modules=EXPERTS),
    "int8": Setting(INT8_CHANNEL, numbers=("int8",)),
    "int4": Setting(GPTQ, numbers=("int4", "nf4")),
    "fp4": Setting(NVFP4, numbers=("fp4",)),
    "w8a16": Setting(INT8_ONLY, numbers=("int8", "fp8"), weights_only=True),
}
"""vLLM's names, and five that say no more than the numbers: int8 (W8A8), int4 (groups of 128), fp4
(NVFP4), w8a16, and fp8, which is both."""

NONE = "none"
AUTO = "auto"
"""As the checkpoint, or the model's published name, says."""

_OWN = (*SETTINGS, AUTO, NONE)


def check_setting(name: str) -> str:
    """Return the name of a setting as the table has it. Raises ValueError with the choices."""
    spelled = name.strip().lower()
    spelled = {"compressed_tensors": "compressed-tensors", "auto_round": "auto-round"}.get(
        spelled, spelled
    )
    if spelled in _OWN:
        return spelled
    if spelled in NOT_MODELLED:
        raise ValueError(f"not modelled, expected one of {', '.join(_OWN)}")
    raise ValueError(one_of(spelled, _OWN))


def read_section(section: Mapping[str, object]) -> Said:
    """Read the quantization section of a checkpoint, whatever its format.

    Raises:
        ConfigError: a method that is not known or not modelled, or keys that are wrong.
    """
    told = section.get("quant_method")
    if told is None:
        told = _unsaid(section)
    name = str(told).strip().lower()
    algorithm = section.get("quant_algo")
    if algorithm is not None and name in ("fp8", "nvfp4"):
        name = "modelopt"  # ModelOpt's own, under the name of the base that it was made from
    method = SPELLINGS.get(name, name)
    if method in READERS:
        return READERS[method](section)
    known = ", ".join(READERS)
    if method in NOT_MODELLED:
        raise ConfigError(f"quant_method = {told!r} is not modelled, expected one of {known}")
    raise ConfigError(f"quant_method = {told!r}: {one_of(name, [*READERS])}")


def _unsaid(section: Mapping[str, object]) -> str:
    """The method of a section that does not name it, by its keys."""
    marks = {
        "quantization": "modelopt",
        "quant_algo": "modelopt",
        "config_groups": "compressed-tensors",
        "load_in_4bit": "bitsandbytes",
        "load_in_8bit": "bitsandbytes",
        "global_quant_config": "quark",
        "q_group_size": "awq",
        "zero_point": "awq",
        "desc_act": "gptq",
    }
    for key, method in marks.items():
        if key in section:
            return method
    raise ConfigError(f"quant_method is missing, expected one of {', '.join(READERS)}")
