"""Config files and names that are wrong, and what is said of them."""

from pathlib import Path
from typing import Any

import pytest

from model.from_config import spec_from_config
from model.spec import (
    ConfigError,
    UnknownArchitectureError,
    UnknownModelError,
    load_spec,
)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "google/gemma-3n-E4B-it",
            r"nor a path that exists \(its type, gemma3n, is not modelled: encoders beside the "
            r"language model\), expected a path to a config.json or",
        ),
        ("thinkingmachines/Inkling-NVFP4", r"\(its type, inkling, is not modelled: layers of diff"),
        ("pfnet/plamo-2-translate", r"\(its type, plamo2, is not modelled: linear attention or la"),
        ("qwne3-8b", r"did you mean qwen3-8b\?"),
        ("lama-3-8b", r"did you mean llama-3-8b\? Expected a path to a config.json or one of"),
        (
            "meta-llama/Meta-Llama-3-71B-Instruct",
            "neither .* names that .*; beginning with llama: .*llama-3-70b, .*llama-65b$",
        ),
        ("lamma-9", "names that .*; beginning with llama: llama-2-13b, "),
        ("xyzzyq", "names that .* lists, which begin with apertus, .*llama, .*yi$"),
        ("nowhere/config.json", "no such file or folder, expected a path to a config.json"),
        ("/no/such/folder/Qwen2.5-7B-Instruct-FP8", "no such file or folder"),
        ("./llama-3-8b", "no such file or folder"),
        ("~/llama-3-8b", "no such file or folder"),
        ("models/meta-llama/llama-3-8b", "no such file or folder"),
        ("llama-3-8b.Q4_K_M.gguf", "no such file or folder"),
    ],
)
def test_unknown_model_is_refused(name: str, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        load_spec(name)


def test_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"is a folder without a config\.json"):
        load_spec(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"broken\.json: not JSON: .*line 1"),
        ("[1]", r"broken\.json: expected a JSON object, found list"),
    ],
)
def test_files_that_are_not_a_json_object(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_spec(str(file))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mistrall"}, "'mistrall' is not modelled, expected one of the .* types"),
        ({"model_type": ["llama"]}, "is not modelled"),
        (
            {"architectures": ["LlamaForSequencing"]},
            "is not modelled, expected one of the .* types",
        ),
        ({}, "model_type and architectures are missing"),
        (
            {"model_type": "llama", "architectures": ["OPTForCausalLM"]},
            r"model_type = 'llama' but architectures = \['OPTForCausalLM'\], expected",
        ),
    ],
)
def test_unknown_architectures(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownArchitectureError, match=message):
        spec_from_config(config, "tiny")
