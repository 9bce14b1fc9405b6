"""Lists in a config.json that say for every layer what it is."""

from collections.abc import Sequence

from model.counts import count_of

MLP_TYPES = ("dense", "sparse")


def check_every_layer(key: str, given: Sequence[object] | None, layers: int) -> None:
    """Raise ValueError unless a list has an entry for every layer; None is no list."""
    if given is not None and len(given) != layers:
        raise ValueError(
            f"{key} has {count_of(len(given), 'entry', 'entries')}: expected num_hidden_layers = "
            f"{layers}"
        )


def check_layer_types(
    key: str, given: Sequence[object] | None, layers: int, known: Sequence[object]
) -> None:
    """Raise ValueError unless a list names a known kind for every layer; None is no list."""
    if given is None:
        return
    check_every_layer(key, given, layers)
    odd = next((kind for kind in given if kind not in known), None)
    if odd is not None:
        raise ValueError(f"{key} has {odd!r}: expected {' or '.join(map(str, known))}")
