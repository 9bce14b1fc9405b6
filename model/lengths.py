"""How long a request a config allows, and how many positions its rotary table has.

As vLLM derives it from config.json (vllm/config/model.py, ``_get_and_verify_max_len``): the
smallest of the keys that give positions, times the factor of the rotary scaling. ``llama3``,
``longrope`` and ``su`` give the scaled length already; ``yarn`` scales the original one.
"""

from collections.abc import Mapping

from model.errors import ConfigError, one_of

Config = Mapping[str, object]

POSITION_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Keys that say how many positions a model has; the smallest holds."""

SCALED_ALREADY = ("default", "proportional", "llama3", "longrope", "su", "mrope")
ROPE_TYPES = (*SCALED_ALREADY, "linear", "dynamic", "ntk", "xdrope", "yarn", "deepseek_yarn")
MOST_POSITIONS = 2**31 - 1
DEFAULT_ROTARY_SHARE = 1.0
MROPE_TABLES = 4
"""vLLM keeps four times the positions for rotary positions of several kinds (mrope)."""


def positions_of(config: Config) -> int | None:
    """Return the smallest number of positions that a key gives; None when none does."""
    found = [config[key] for key in POSITION_KEYS if config.get(key) is not None]
    counts = [n for n in found if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    return min(counts, default=None)


def longest_request(config: Config, positions: int) -> int:
    """Return the longest prompt plus output in tokens, as vLLM derives it.

    Raises:
        ConfigError: a rotary scaling that is not known, or not numbers.
    """
    positions = min(positions, positions_of(config) or positions)
    scalings = _scalings(config)
    return min((_scaled(scaling, positions) for scaling in scalings), default=positions)


def rotary_table_rows(config: Config, positions: int) -> int:
    """Return the positions of the table of cosines and sines that an engine keeps.

    One table serves all layers. ``longrope`` keeps the short and the long table one after the
    other.
    """
    rows = []
    for scaling in _scalings(config):
        kind = _kind(scaling)
        if kind in ("longrope", "su"):
            original = config.get("original_max_position_embeddings")
            original = scaling.get("original_max_position_embeddings", original)
            rows.append(positions + (original if isinstance(original, int) else 0))
        else:
            times = MROPE_TABLES if kind == "mrope" or "mrope_section" in scaling else 1
            rows.append(times * _scaled(scaling, positions))
    return max(rows, default=positions)


def rotary_share(config: Config, usual: float = DEFAULT_ROTARY_SHARE) -> float:
    """Return the share of a head that is rotated (``partial_rotary_factor``).

    Raises:
        ConfigError: it is no number above 0 and at most 1.
    """
    nested = config.get("rope_parameters")
    share = config.get("partial_rotary_factor")
    if share is None and isinstance(nested, Mapping):
        share = nested.get("partial_rotary_factor")
    if share is None:
        return usual
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(f"partial_rotary_factor = {share!r}: expected above 0 and at most 1")
    return float(share)


def _scalings(config: Config) -> list[Config]:
    """The rotary scalings of a file: one, or (newer files) one per kind of layer."""
    for key in ("rope_parameters", "rope_scaling"):
        found = config.get(key)
        if found is None:
            continue
        if not isinstance(found, Mapping):
            raise ConfigError(f"{key} = {str(found)[:80]!r}: expected a mapping or null")
        nested = [each for each in found.values() if isinstance(each, Mapping)]
        if nested and "rope_type" not in found:
            return nested
        if "rope_type" in found or "type" in found or key == "rope_scaling":
            return [found]
    return []


def _kind(scaling: Config) -> str:
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise ConfigError(f"rope_type = {kind!r} is not modelled, {one_of(kind, ROPE_TYPES)}")
    return str(kind)


def _scaled(scaling: Config, positions: int) -> int:
    kind = _kind(scaling)
    if kind in SCALED_ALREADY:
        return positions
    factor = _number(scaling, "factor", 1.0)
    if kind in ("yarn", "deepseek_yarn"):
        positions = int(_number(scaling, "original_max_position_embeddings", positions))
    scaled = int(positions * factor)
    if not 1 <= scaled <= MOST_POSITIONS:
        raise ConfigError(
            f"factor = {factor:g}: expected a length of 1 to {MOST_POSITIONS}, not {scaled:g}"
        )
    return scaled


def _number(scaling: Config, key: str, default: float) -> float:
    value = scaling.get(key)
    if value is None:
        return default
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31:
        return float(value)
    raise ConfigError(f"{key} = {str(value)[:40]} of the rotary scaling: expected a number above 0")
