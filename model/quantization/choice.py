"""What a study's ``engine.quantization`` makes of a checkpoint."""

from dataclasses import replace

from model.quantization.methods import AUTO, NONE, SETTINGS, Setting, check_setting
from model.quantization.scheme import Scheme
from model.quantization.weights import EXPERTS, PLAIN, Weights, uniform


def chosen_weights(setting: str | None, told: Weights, model: str, experts: int) -> Weights:
    """Return how the weights of a model are stored.

    Args:
        setting: of the study; None and auto follow the checkpoint, none insists on 16 bits.
        told: what the checkpoint, or the model's name, says.
        model: what messages call it.
        experts: of one layer.

    Raises:
        ValueError: the two contradict each other (as in vLLM), or a method that needs a checkpoint
            that says more.
    """
    name = check_setting(setting or AUTO)
    if name == AUTO:
        return told
    if not told.method:
        return PLAIN if name == NONE else _of_16_bits(name, model, experts)
    if name == NONE or not _agree(SETTINGS[name], told):
        raise ValueError(
            f"engine.quantization = {name!r} contradicts the checkpoint: {model} is {told}, "
            f"expected auto or {told.method!r}"
        )
    if SETTINGS[name].weights_only:
        return told.map({s: replace(s, compute=None) for s in told.schemes()})
    return told


def _of_16_bits(name: str, model: str, experts: int) -> Weights:
    setting = SETTINGS[name]
    if setting.scheme is None:
        raise ValueError(
            f"engine.quantization = {name!r}: {model} does not say how its weights are stored, "
            "expected a path to a checkpoint whose config.json does (quantization_config, "
            "hf_quant_config.json)"
        )
    if setting.modules == EXPERTS and not experts:
        raise ValueError(
            f"engine.quantization = {name!r} quantizes experts only, but {model} has none"
        )
    return uniform(setting.scheme, name, "engine.quantization", setting.modules)


def _agree(setting: Setting, told: Weights) -> bool:
    main: Scheme | None = told.main
    return told.method in setting.agrees or (main is not None and main.numbers in setting.numbers)
