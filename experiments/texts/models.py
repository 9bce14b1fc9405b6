"""The models of the tables, which are about 16 bits."""

from model.spec import DecoderSpec, load_spec


def wide_spec(model: str) -> DecoderSpec:
    """Return a model by name or path.

    Raises:
        ValueError: it is quantized: the tables have two bytes a weight; or see ``load_spec``.
    """
    spec = load_spec(model)
    if spec.checkpoint.weights.schemes():
        raise ValueError(
            f"model = {model!r} is quantized ({spec.checkpoint.weights}), but the tables are about "
            "16 bits, expected a model in 16 bits"
        )
    return spec
