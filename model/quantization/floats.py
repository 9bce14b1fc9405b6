"""Formats of 8 and 4 bit floating-point numbers: fp8, FBGEMM, MXFP4 and ModelOpt."""

from typing import Any, Literal

from pydantic import Field, PositiveInt

from model.errors import ConfigError
from model.quantization.modules import EXPERT, LM_HEAD, Choice, any_of
from model.quantization.said import Said, Section, SectionKeys, all_but, read, refused
from model.quantization.scheme import (
    AWQ,
    FP8_BLOCKS,
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8_CHANNEL,
    MXFP4_FP8,
    MXFP4_ONLY,
    MXFP8,
    NVFP4,
    NVFP4_ONLY,
    Scheme,
)

ALGORITHMS = {
    "FP8": FP8_TENSOR,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL,
    "FP8_PB_WO": FP8_BLOCKS,
    "FP8_PB_REAL_QUANT": FP8_BLOCKS,
    "MXFP8": MXFP8,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": NVFP4_ONLY,
    "W4A16_AWQ": AWQ,
    "INT4_AWQ": AWQ,
    "INT8_SQ": INT8_CHANNEL,
    "W8A8_SQ_PER_CHANNEL": INT8_CHANNEL,
}
"""``quant_algo`` of NVIDIA's ModelOpt. NVFP4 has one fp8 scale per 16 weights and two fp32 numbers
per matrix; of the two the program counts none."""
MIXED = "MIXED_PRECISION"


EXPERT_DTYPES = {None: None, "fp8": None, "fp4": MXFP4_FP8}
"""Numbers of routed experts beside fp8 matrices (DeepSeek-V4); None: fp8 as well."""


class _Fp8(SectionKeys):
    weight_block_size: tuple[PositiveInt, PositiveInt] | None = None
    activation_scheme: str | None = None
    modules_to_not_convert: list[str] | None = None
    ignored_layers: list[str] | None = None
    kv_cache_scheme: dict[str, Any] | Literal["static"] | None = None
    kv_cache_quant_algo: str | None = None
    expert_dtype: Literal["fp4", "fp8"] | None = None


class _Layer(SectionKeys):
    quant_algo: str


class _ModelOpt(SectionKeys):
    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None
    kv_cache_scheme: dict[str, Any] | str | None = None
    exclude_modules: list[str] | None = None
    ignore: list[str] | None = None
    quantized_layers: dict[str, _Layer] = Field(default_factory=dict)
    quant_method: str | None = None
    weight_block_size: tuple[PositiveInt, PositiveInt] | None = None


def stores_fp8(
    scheme: dict[str, Any] | Literal["static"] | None, algorithm: str | None = None
) -> bool:
    """Tell whether a ``kv_cache_scheme`` or ``kv_cache_quant_algo`` means an fp8 KV cache.

    AutoFP8 writes ``static`` instead of a scheme.

    Raises:
        ConfigError: another kind of quantized cache.
    """
    if (algorithm or "FP8").upper() != "FP8":
        raise refused(f"kv_cache_quant_algo = {algorithm!r}", "is not modelled, expected FP8")
    if not scheme:
        return algorithm is not None and bool(algorithm)
    if scheme == "static":
        return True
    if scheme.get("num_bits", 8) != 8 or scheme.get("type", "float") != "float":
        raise refused(f"kv_cache_scheme = {scheme}", "is not modelled, expected 8 bits of float")
    return True


def fp8(section: Section) -> Said:
    """vLLM's own fp8: one scale per matrix, or per block of ``weight_block_size``."""
    keys = read(_Fp8, section)
    block = keys.weight_block_size
    if block and block != (128, 128):
        scheme = Scheme(numbers="fp8", bits=8, compute="fp8", block=block)
    else:
        scheme = FP8_BLOCKS if block else FP8_TENSOR
    left_out = (*(keys.modules_to_not_convert or ()), *(keys.ignored_layers or ()))
    plain, experts = all_but(scheme, left_out), EXPERT_DTYPES[keys.expert_dtype]
    return Said(
        method="fp8",
        choose=_with_experts(plain, experts) if experts else plain,
        listed=left_out,
        kv_fp8=stores_fp8(keys.kv_cache_scheme, keys.kv_cache_quant_algo),
    )


def _with_experts(plain: Choice, experts: Scheme) -> Choice:
    """Routed experts, where they are not left out, in a scheme of their own."""
    return lambda name: experts if EXPERT.search(name) and plain(name) else plain(name)


def fbgemm_fp8(section: Section) -> Said:
    """Meta's fp8: one scale per output channel, inputs quantized per token."""
    keys = read(_Fp8, section)
    left_out = tuple(keys.modules_to_not_convert or ())
    return Said(method="fbgemm_fp8", choose=all_but(FP8_CHANNEL, left_out), listed=left_out)


def mxfp4(section: Section) -> Said:
    """MXFP4 as in gpt-oss: experts only, in vLLM; everything else in 16 bits."""
    keys = read(_Fp8, section)
    left_out = tuple(keys.modules_to_not_convert or ())
    return Said(
        method="mxfp4", choose=all_but(MXFP4_ONLY, left_out), listed=left_out, experts_only=True
    )


def modelopt(section: Section) -> Said:
    """NVIDIA's ModelOpt, flat or below ``quantization`` as in hf_quant_config.json.

    Raises:
        ConfigError: keys contradict each other, or ask for what is not modelled.
    """
    nested = section.get("quantization")
    keys = read(_ModelOpt, nested if isinstance(nested, dict) else section)
    algorithm = (keys.quant_algo or "").upper()
    left_out = (*(keys.exclude_modules or ()), *(keys.ignore or ()))
    listed, kv_fp8 = (*left_out, *keys.quantized_layers), _asks_for_fp8(keys)
    if algorithm == MIXED:
        return Said(method="modelopt_mixed", choose=_mixed(keys), listed=listed, kv_fp8=kv_fp8)
    if not algorithm and not kv_fp8:
        raise ConfigError(
            "quant_algo is missing: how the weights are stored is said in hf_quant_config.json, "
            "expected it beside config.json"
        )
    method = "modelopt_fp4" if "FP4" in algorithm else "modelopt"
    choose = all_but(_algorithm(algorithm), left_out) if algorithm else (lambda name: None)
    return Said(method=method, choose=choose, listed=listed, kv_fp8=kv_fp8)


def _asks_for_fp8(keys: _ModelOpt) -> bool:
    """As vLLM reads it: a scheme goes before the algorithm's name, and may be one itself.

    Of scales that are made anew for every token (``dynamic``) it takes no notice.
    """
    scheme = keys.kv_cache_scheme
    if isinstance(scheme, str) and scheme:
        return stores_fp8(None, scheme)
    if isinstance(scheme, dict) and scheme:
        return stores_fp8(scheme) and not scheme.get("dynamic")
    return stores_fp8(None, keys.kv_cache_quant_algo)


def _algorithm(name: str) -> Scheme:
    if name not in ALGORITHMS:
        known = ", ".join([*ALGORITHMS, MIXED])
        raise ConfigError(f"quant_algo = {name!r} is not modelled, expected one of {known}")
    return ALGORITHMS[name]


def _mixed(keys: _ModelOpt) -> Choice:
    """Every matrix as ``quantized_layers`` lists it, by its own name or that of what holds it.

    Others are in 16 bits; in fp8 where the section is that of an fp8 checkpoint whose experts alone
    were made anew.
    """
    schemes: dict[Scheme, list[str]] = {}
    for name, layer in keys.quantized_layers.items():
        schemes.setdefault(_algorithm(layer.quant_algo.upper()), []).append(name)
    tests = [(any_of(names), scheme) for scheme, names in schemes.items()]
    remade = keys.quant_method == "fp8"
    left_out = any_of(() if remade else (*(keys.exclude_modules or ()), *(keys.ignore or ())))
    base = all_but(FP8_BLOCKS if keys.weight_block_size else FP8_TENSOR, ())

    def choose(name: str) -> Scheme | None:
        """Return how a module is stored; None in the precision of the model."""
        if name != LM_HEAD and left_out(name):
            return None
        found = next((scheme for matches, scheme in tests if matches(name)), None)
        return base(name) if found is None and remade else found

    return choose
