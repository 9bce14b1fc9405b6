"""Weight-only formats: GPTQ, AWQ, AutoRound, HQQ and bitsandbytes."""

import re
from typing import Any

from pydantic import AliasChoices, Field, PositiveInt

from model.errors import ConfigError
from model.quantization.modules import LM_HEAD, Choice, any_of
from model.quantization.said import Said, Section, SectionKeys, all_but, read, refused
from model.quantization.scheme import INT8_ONLY, NF4, Scheme, grouped

GPTQ_BITS = (2, 3, 4, 8)
AWQ_BITS = (4, 8)


class _Grouped(SectionKeys):
    bits: int
    group_size: int


class _Gptq(_Grouped):
    desc_act: bool = False
    sym: bool = True
    lm_head: bool = False
    dynamic: dict[str, dict[str, Any] | bool] | None = None
    modules_in_block_to_quantize: list[list[str] | str] | None = None


class _Awq(SectionKeys):
    bits: int = Field(validation_alias=AliasChoices("bits", "w_bit"))
    group_size: int = Field(validation_alias=AliasChoices("group_size", "q_group_size"))
    zero_point: bool = True
    modules_to_not_convert: list[str] | None = None


class _AutoRound(_Grouped):
    sym: bool = True
    data_type: str = "int"
    packing_format: str = ""
    block_name_to_quantize: list[str] | str | None = None
    to_quant_block_names: list[Any] | str | None = None
    extra_config: dict[str, dict[str, Any]] | None = None


class _Hqq(SectionKeys):
    quant_config: dict[str, Any] = Field(default_factory=dict)
    skip_modules: list[str] | None = None


class _HqqWeights(SectionKeys):
    nbits: int
    group_size: PositiveInt | None = 64


class _BitsAndBytes(SectionKeys):
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    llm_int8_skip_modules: list[str] | None = None


def _checked(bits: int, group: int, known: tuple[int, ...]) -> None:
    if bits not in known:
        raise ConfigError(f"bits = {bits}: expected one of {', '.join(map(str, known))}")
    if group < -1 or group == 0:
        raise ConfigError(f"group_size = {group}: expected -1 or a positive number")


def gptq(section: Section) -> Said:
    """GPTQ (AutoGPTQ, GPTQModel): groups, or activation order; per-module rules of ``dynamic``.

    Marlin drops the zero points of symmetric checkpoints; the others keep them, packed.
    """
    marlin = {"bits": 4} if section.get("quant_method") == "marlin" else {}
    keys = read(_Gptq, {**marlin, **section})
    _checked(keys.bits, keys.group_size, GPTQ_BITS)
    rules = [(_rule(name), value) for name, value in (keys.dynamic or {}).items()]
    only = keys.modules_in_block_to_quantize
    inside = any_of([n for part in only for n in ([part] if isinstance(part, str) else part)]
                    ) if only else None  # fmt: skip

    def choose(name: str) -> Scheme | None:
        """Return how a module is stored; None in the precision of the model. Raises ValueError."""
        if name == LM_HEAD and not keys.lm_head:
            return None
        bits, group, order, sym = keys.bits, keys.group_size, keys.desc_act, keys.sym
        for (negative, pattern), value in rules:
            if not pattern.match(name):
                continue
            if negative or not isinstance(value, dict):
                return None
            bits, group = int(value.get("bits", bits)), int(value.get("group_size", group))
            order, sym = bool(value.get("desc_act", order)), bool(value.get("sym", sym))
            break
        if inside is not None and not inside(name):
            return None
        _checked(bits, group, GPTQ_BITS)
        return grouped(bits, group, zeros=not sym, act_order=order)

    return Said(method="gptq", choose=choose)


def _rule(name: str) -> tuple[bool, re.Pattern[str]]:
    """``-:`` leaves modules out, ``+:`` or nothing changes their settings."""
    try:
        return name.startswith("-:"), re.compile(name.removeprefix("-:").removeprefix("+:"))
    except re.error as error:
        raise ConfigError(f"dynamic: {name!r} is no regular expression: {error}") from None


def awq(section: Section) -> Said:
    """AWQ (AutoAWQ and its authors' form): groups with a packed zero point each."""
    keys = read(_Awq, section)
    _checked(keys.bits, keys.group_size, AWQ_BITS)
    left_out = tuple(keys.modules_to_not_convert or ())
    scheme = grouped(keys.bits, keys.group_size, zeros=keys.zero_point)
    return Said(method="awq", choose=all_but(scheme, left_out, inside=True), listed=left_out)


def auto_round(section: Section) -> Said:
    """AutoRound, packed as GPTQ or AWQ: bits and groups, with exceptions in ``extra_config``.

    Raises:
        ConfigError: keys contradict each other, or ask for what is not modelled.
    """
    keys = read(_AutoRound, section)
    if keys.data_type != "int":
        raise refused(f"data_type = {keys.data_type!r} of auto-round")
    _checked(keys.bits, keys.group_size, GPTQ_BITS)
    blocks = keys.block_name_to_quantize or keys.to_quant_block_names
    named = re.split(r"\s*,\s*", blocks) if isinstance(blocks, str) else [*map(str, blocks or ())]
    inside = any_of(named) if named else None
    special = [(any_of([name]), value) for name, value in (keys.extra_config or {}).items()]

    def choose(name: str) -> Scheme | None:
        """Return how a module is stored; None in the precision of the model. Raises ValueError."""
        bits, group, sym, told = keys.bits, keys.group_size, keys.sym, False
        for matches, value in special:
            if matches(name):
                told = True
                bits, group = int(value.get("bits", bits)), int(value.get("group_size", group))
                sym = bool(value.get("sym", sym))
        if bits >= 16 or (not told and (name == LM_HEAD or (inside and not inside(name)))):
            return None
        _checked(bits, group, GPTQ_BITS)
        return grouped(bits, group, zeros=not sym or "awq" in keys.packing_format)

    return Said(method="auto-round", choose=choose, listed=tuple(keys.extra_config or ()))


def hqq(section: Section) -> Said:
    """HQQ: a 16-bit scale and a 16-bit zero point per group, as vLLM's Marlin kernel has them."""
    keys = read(_Hqq, section)
    weights = read(_HqqWeights, keys.quant_config.get("weight_quant_params") or {})
    _checked(weights.nbits, weights.group_size or -1, (4, 8))
    scheme = Scheme(
        numbers=f"int{weights.nbits}",
        bits=weights.nbits,
        block=(1, weights.group_size or 0),
        scale_bits=16,
        zero_bits=16,
    )
    left_out = tuple(keys.skip_modules or ())
    return Said(method="hqq", choose=all_but(scheme, left_out), listed=left_out)


def bitsandbytes(section: Section) -> Said:
    """bitsandbytes: 4 bits (nf4, fp4) with fp32 scales per 64 weights, or int8 per channel.

    vLLM unpacks the scales of a doubly quantized checkpoint when it loads it. Products run in 16
    bits: LLM.int8's own are no faster.
    """
    keys = read(_BitsAndBytes, section)
    if keys.load_in_4bit == keys.load_in_8bit:
        raise ConfigError("expected load_in_4bit or load_in_8bit to be true, not both")
    left_out = tuple(keys.llm_int8_skip_modules or ())
    choose: Choice = all_but(NF4 if keys.load_in_4bit else INT8_ONLY, left_out)
    return Said(method="bitsandbytes", choose=choose, listed=left_out)
