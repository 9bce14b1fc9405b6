"""The longest request where nobody states it."""

import pytest

from hardware.gpu import load_gpu
from hardware.memory.kv_blocks import DoesNotFitError
from model.spec import load_spec
from sim.settings.engine_config import EngineConfig
from sim.settings.longest_request import with_longest_that_fits
from sim.settings.pool_building import ledger_of
from sim.settings.resolved_engine import ResolvedEngine, resolved


def settings_of(model: str, gpu: str, tp: int = 1, **engine: object) -> ResolvedEngine:
    given = EngineConfig.model_validate(engine)
    return with_longest_that_fits(given, load_spec(model), load_gpu(gpu), tp=tp)


def test_what_fits_is_taken_where_the_model_s_own_length_does_not() -> None:
    # A public benchmark (docs.gpustack.ai, performance lab, vLLM 0.11) serves this model on this
    # GPU with --max-model-len 32768, where the default would be 40,960.
    found = settings_of("qwen3-32b", "a100-80gb-sxm", version="0.11.0")
    assert 32_768 <= found.max_model_len < 40_960
    spec, gpu = load_spec("qwen3-32b"), load_gpu("a100-80gb-sxm")
    assert ledger_of(spec, gpu, 1, found).holds_longest
    one_more = {"version": "0.11.0", "max_model_len": found.max_model_len + 1}
    longer = resolved(EngineConfig.model_validate(one_more), gpu, spec)
    with pytest.raises(DoesNotFitError, match=f"expected at most {found.max_model_len}:"):
        ledger_of(spec, gpu, 1, longer)


def test_what_fits_or_is_stated_stays() -> None:
    assert settings_of("qwen3-32b", "a100-80gb-sxm", tp=2).max_model_len == 40_960
    assert settings_of("qwen3-32b", "a100-80gb-sxm", max_model_len=40_960).max_model_len == 40_960
    # Not even one block: building the pool says what is missing.
    assert settings_of("qwen3-32b", "rtx-4090").max_model_len == 40_960


def test_a_shorter_request_that_is_a_larger_step_is_asked_again() -> None:
    """Before 0.8 prompts of up to 32,768 tokens are a step of their own, which takes room."""
    found = settings_of("qwen3-32b", "a100-80gb-sxm", version="0.6.6")
    spec, gpu = load_spec("qwen3-32b"), load_gpu("a100-80gb-sxm")
    cut = found.max_model_len > 32_768
    assert found.scheduler == ("chunked_prefill" if cut else "prefill_first")
    assert ledger_of(spec, gpu, 1, found).holds_longest
    small = settings_of("qwen3-8b", "rtx-4090", version="0.6.6")
    assert small.scheduler == "prefill_first"
    assert small.max_num_batched_tokens == small.max_model_len < 28_000
    assert ledger_of(load_spec("qwen3-8b"), load_gpu("rtx-4090"), 1, small).holds_longest
