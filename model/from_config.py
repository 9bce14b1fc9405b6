"""Reads what a decoder is from a Hugging Face ``config.json``; ``model.spec`` finds it."""

from collections.abc import Mapping
from dataclasses import replace

from model.errors import ConfigError, UnknownArchitectureError
from model.families.left_out import filled
from model.families.other_names import renamed
from model.families.registry import FAMILIES
from model.families.wrappers import language_model, thinking, wrapper_of
from model.heads import check_generates, check_no_head, layers_of_head
from model.huggingface import architecture_of, read_config
from model.quantization.checkpoint import read_checkpoint
from model.shape import DecoderSpec

Beside = Mapping[str, Mapping[str, object]]


def spec_from_config(
    config: Mapping[str, object],
    name: str,
    *,
    source: str | None = None,
    beside: Beside | None = None,
    head: bool = False,
) -> DecoderSpec:
    """Read the contents of a Hugging Face ``config.json``.

    Args:
        config: the parsed file.
        name: what the model is called from here on.
        source: what error messages call the config; the name unless given.
        beside: contents of the files beside it that say how the weights are quantized
            (``model.quantization.checkpoint.BESIDE``), by name.
        head: whether it is to be that of a head that drafts (EAGLE's), instead of a model's.

    Raises:
        UnknownArchitectureError: the architecture is not modelled, or not given.
        ConfigError: keys are missing, ill-typed or inconsistent; all of them are listed.
    """
    told = source or name
    if head:
        config = layers_of_head(config, told)
    else:
        check_no_head(config, told)
        check_generates(config, told)
    file = thinking(config)
    try:
        wrapper = wrapper_of(file)
    except UnknownArchitectureError as error:
        raise UnknownArchitectureError(f"{told}: {error}") from None
    config = language_model(file, wrapper) if wrapper else file
    architecture = architecture_of(config, told)
    config = filled(architecture, renamed(architecture, config, told))
    keys = read_config(config, architecture, told)
    names = FAMILIES[architecture].names
    try:
        spec = keys.decoder(name, architecture, config)
        return replace(
            spec,
            checkpoint=read_checkpoint(config, beside or {}, names, spec.layers),
            encoder_parameters=wrapper.beside(file, config) if wrapper else 0,
            encoder_peak=wrapper.peak(file, config) if wrapper else None,
        )
    except UnknownArchitectureError as error:
        raise UnknownArchitectureError(f"{told}: {error}") from None
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"{told}: {line}" for line in lines)) from None
