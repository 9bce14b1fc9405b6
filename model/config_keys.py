"""Keys of a ``config.json`` that are computed with before a family or an encoder is read."""

from collections.abc import Mapping

from model.errors import ConfigError

Config = Mapping[str, object]


def whole(config: Config, key: str, usual: int = 0) -> int:
    """Return an integer key, or what a file means that leaves it out.

    Raises:
        ConfigError: no integer.
    """
    value = config.get(key)
    if value is None:
        return usual
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConfigError(f"{key} = {str(value)[:80]!r}: expected an integer")


def count(config: Config, key: str, usual: int) -> int:
    """Return an integer key of at least 1, such as every how many layers something comes.

    Raises:
        ConfigError: no such integer.
    """
    value = whole(config, key, usual)
    if value < 1:
        raise ConfigError(f"{key} = {value}: expected an integer of at least 1")
    return value


def side(config: Config, key: str, usual: int) -> int:
    """Return the side of a square, which some files give as two equal numbers."""
    value = config.get(key)
    if isinstance(value, list | tuple) and value and len({*map(str, value)}) == 1:
        return whole({key: value[0]}, key)
    return whole(config, key, usual)


def flag(config: Config, key: str, usual: bool) -> bool:
    """Return a switch, or what a file means that leaves it out."""
    value = config.get(key)
    return usual if value is None else bool(value)


def nested(config: Config, key: str) -> Config:
    """Return what a file has below a key; nothing where it has none.

    Raises:
        ConfigError: no mapping.
    """
    found = config.get(key) or {}
    if isinstance(found, Mapping):
        return found
    raise ConfigError(f"{key} = {str(found)[:80]!r}: expected a mapping or null")
