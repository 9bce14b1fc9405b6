"""How much of the model is switched on: the rows of the ablation table, as data."""

from hardware.calibration import DATASHEET, PARAMETERS, Calibration
from model.dataclass import dataclass
from sim.settings.cluster_config import ClientConfig
from sim.settings.engine_config import EngineConfig

API = tuple(name for name in PARAMETERS if name.startswith("api_"))
"""Constants of a calibration that lie between client and engine."""

HOST = tuple(
    name
    for name in PARAMETERS
    if name.endswith("_s") and name not in (*API, "collective_overhead_s")
)
"""Constants that are the host's time."""


@dataclass(frozen=True, slots=True)
class Level:
    """One row: everything that the row before has, and one thing more."""

    name: str
    kernels: bool
    """Prices of measured kernels; otherwise the datasheet's roofline."""
    host: bool
    """Host time per step and per sequence."""
    prefix_cache: bool
    """Blocks of known prompts are not computed again."""
    client: bool
    """What client and API add: cap on requests in flight, timeouts, tokenising, HTTP."""


LEVELS = (
    Level("datasheet roofline", False, False, False, False),
    Level("+ measured kernels", True, False, False, False),
    Level("+ host overhead", True, True, False, False),
    Level("+ prefix cache", True, True, True, False),
    Level("+ client and API", True, True, True, True),
)
"""Rows of the ablation table, in order."""

FULL = LEVELS[-1]
"""Everything: what is predicted."""


def prices_at(level: Level, calibration: Calibration) -> Calibration:
    """Return the calibration that a level prices with."""
    if not level.kernels:
        return DATASHEET
    off = [*(HOST if not level.host else ()), *(API if not level.client else ())]
    return calibration.model_copy(update=dict.fromkeys(off, 0.0)) if off else calibration


def client_at(level: Level, client: ClientConfig) -> ClientConfig:
    """Return the client at a level: without its part it sends everything and waits for ever."""
    return client if level.client else ClientConfig()


def engine_at(level: Level, engine: EngineConfig) -> EngineConfig:
    """Return the engine's settings at a level."""
    changes: dict[str, object] = {}
    if not level.host:
        changes |= {"step_overhead_s": 0.0, "sequence_overhead_s": 0.0, "sampling": "greedy"}
    if not level.prefix_cache:
        changes["enable_prefix_caching"] = False
    return engine.model_copy(update=changes) if changes else engine
