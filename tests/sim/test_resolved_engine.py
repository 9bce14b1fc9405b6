"""Settings of an engine with every default."""

import pytest

from hardware.gpu import load_gpu
from model.spec import load_spec
from sim.settings.engine_config import EngineConfig
from sim.settings.resolved_engine import ResolvedEngine, resolved


def settings_of(**engine: object) -> ResolvedEngine:
    given = EngineConfig.model_validate(engine)
    return resolved(given, load_gpu("h100-sxm"), load_spec("llama-3-8b"))


@pytest.mark.parametrize(
    "engine",
    [
        {},
        {"version": "0.6", "max_model_len": 4096},
        {"version": "0.14", "max_num_seqs": 7, "watermark": 0, "sampling": "top_p"},
        {"order": "priority", "kv_offloading_size": 8, "host_link": {"latency_s": 1}},
        {
            "speculative": {
                "method": "ngram",
                "num_speculative_tokens": 3,
                "synthetic_acceptance_length": 2,
            }
        },
    ],
)
def test_they_are_such_as_could_be_given(engine: dict[str, object]) -> None:
    """Nothing validates them again: what a version says is of the kinds that a study may say."""
    found = settings_of(**engine)
    assert ResolvedEngine.model_validate_json(found.model_dump_json(), strict=True) == found
    assert EngineConfig.model_validate(found.model_dump()).model_dump() == found.model_dump()


def test_a_scheduler_that_the_version_chooses_has_no_settings() -> None:
    with pytest.raises(ValueError, match=r"^engine\.scheduler_settings: expected none: they are"):
        settings_of(scheduler_settings={"eagerness": 2})
