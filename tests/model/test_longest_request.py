"""The longest request of a config, and its rotary table."""

from typing import Any

import pytest

from model.from_config import spec_from_config
from model.spec import ConfigError

TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("changes", "length"),
    [
        ({}, 8192),
        ({"rope_scaling": None}, 8192),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 32_768),
        ({"rope_scaling": {"rope_type": None, "type": "linear", "factor": 4.0}}, 32_768),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 16_384),
        ({"rope_scaling": {"rope_type": "ntk", "factor": 2.5}}, 20_480),
        ({"rope_scaling": {"rope_type": "dynamic", "alpha": 1000.0}}, 8192),
        (
            {
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 2048,
                }
            },
            8192,
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, 32_768),
        (
            {
                "rope_scaling": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 1024,
                }
            },
            8192,
        ),
        ({"rope_scaling": {"type": "longrope", "factor": 8.0}}, 8192),
        ({"rope_scaling": {"type": "su", "factor": 8.0}}, 8192),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, 8192),
        ({"rope_scaling": {"rope_type": "default", "factor": 8.0}}, 8192),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 32_768),
        ({"rope_parameters": {"rope_theta": 1e4}}, 8192),
        (
            {
                "rope_parameters": {
                    "full_attention": {
                        "rope_type": "yarn",
                        "factor": 2.0,
                        "original_max_position_embeddings": 4096,
                    },
                    "sliding_attention": {"rope_type": "linear", "factor": 4.0},
                }
            },
            8192,
        ),
        ({"max_sequence_length": 2048}, 2048),
        ({"max_position_embeddings": None, "max_sequence_length": 2048}, 2048),
        ({"max_position_embeddings": None, "seq_length": 4096, "model_max_length": 1024}, 1024),
        ({"max_position_embeddings": None, "n_positions": 512}, 512),
    ],
)
def test_longest_request(changes: dict[str, Any], length: int) -> None:
    """As vLLM derives it (vllm/config/model.py, _get_and_verify_max_len)."""
    assert spec_from_config(TINY | changes, "tiny").max_model_len == length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_scaling": {"type": "yarnn", "factor": 4.0}},
            r"'yarnn' is not modelled, did you mean yarn\? Expected one of",
        ),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, "factor = 4 of the rotary scaling"),
        ({"rope_scaling": {"type": "linear", "factor": -1.0}}, "expected a number above 0"),
        ({"rope_scaling": {"type": "linear", "factor": float("nan")}}, "factor = nan"),
        ({"rope_scaling": {"type": "linear", "factor": 1e9}}, "expected a length of 1 to"),
        ({"rope_scaling": "linear"}, "rope_scaling = 'linear': expected a mapping"),
        ({"partial_rotary_factor": 2}, "partial_rotary_factor = 2: expected above 0"),
        ({"max_position_embeddings": 10**40}, "max_position_embeddings = an integer of more than"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: expected less than"),
    ],
)
def test_wrong_scalings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^tiny: .*{message}"):
        spec_from_config(TINY | changes, "tiny")


@pytest.mark.parametrize(
    ("changes", "table"),
    [
        ({}, (8192, 16)),
        ({"partial_rotary_factor": 0.5}, (8192, 8)),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, (32_768, 16)),
        # The short and the long table, one after the other.
        (
            {
                "rope_scaling": {"type": "longrope"},
                "original_max_position_embeddings": 4096,
            },
            (8192 + 4096, 16),
        ),
    ],
)
def test_rotary_table(changes: dict[str, Any], table: tuple[int, int]) -> None:
    (found,) = spec_from_config(TINY | changes, "tiny").rotary_tables
    assert (found.table_rows, found.table_numbers) == table


def test_learned_positions_have_no_table() -> None:
    config = {"model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_layer": 2, "vocab_size": 256}
    spec = spec_from_config(config | {"n_positions": 128}, "tiny")
    assert (spec.max_model_len, spec.rotary_tables) == (128, ())
