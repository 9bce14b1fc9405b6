"""Lists in a config.json that say for every layer what it is."""

from collections.abc import Sequence

MLP_TYPES = ("dense", "sparse")


def check_layer_types(
    key: str, given: Sequence[object] | None, layers: int, known: Sequence[object]
) -> None:
    """Raise ValueError unless a list names a known kind for every layer; None is no list."""
    if given is None:
        return
    if len(given) != layers:
        raise ValueError(f"{key} has {len(given)} entries: expected num_hidden_layers = {layers}")
    odd = next((kind for kind in given if kind not in known), None)
    if odd is not None:
        raise ValueError(f"{key} has {odd!r}: expected {' or '.join(map(str, known))}")
