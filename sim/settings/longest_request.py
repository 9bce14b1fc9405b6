"""The longest request where nobody states it: the model's, or as much as the KV cache holds."""

from hardware.gpu import Gpu
from hardware.memory.kv_blocks import DoesNotFitError
from hardware.steps.ranks import ranks_of
from model.spec import DecoderSpec
from sim.settings.engine_config import EngineConfig
from sim.settings.pool_building import ledger_of
from sim.settings.resolved_engine import ResolvedEngine, resolved


def with_longest_that_fits(
    engine: EngineConfig, spec: DecoderSpec, gpu: Gpu, *, tp: int, dp: int = 1, pp: int = 1
) -> ResolvedEngine:
    """Return settings with every default, whose longest request fits into the KV cache.

    vLLM refuses to start where one request of the model's greatest length does not fit. Who
    operates it then states a ``max_model_len`` that does (or ``auto``, which is the longest), so
    that a study that states none means that. What is stated stays, whether it fits or not; and so
    does the model's, where not even one block fits.

    A shorter request can mean larger steps: before 0.8 prompts of up to 32,768 tokens are not cut.
    So what fits is asked again until it does.

    Raises:
        ValueError: settings that contradict each other.
    """
    asked = settings = resolved(engine, gpu, spec, pp)
    if engine.max_model_len is not None:
        return settings
    ranks = ranks_of(spec, dp, settings.version, settings.all2all_backend).count
    while (longest := _longest(settings, spec, gpu, tp, ranks, pp)) < settings.max_model_len:
        if longest == 0:
            return asked
        shorter = engine.model_copy(update={"max_model_len": longest})
        settings = resolved(shorter, gpu, spec, pp)
    return settings


def _longest(
    settings: ResolvedEngine, spec: DecoderSpec, gpu: Gpu, tp: int, ranks: int, pp: int
) -> int:
    """What fits of the longest request; all of it where building the pool says what is wrong."""
    try:
        ledger_of(spec, gpu, tp, settings, ranks, pp)
    except DoesNotFitError as error:
        return error.ledger.longest_tokens if error.ledger.fits else 0
    except ValueError:
        pass
    return settings.max_model_len
