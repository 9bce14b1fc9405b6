"""Forms in which config.json is found, and files that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from model import unmodelled
from model.families.registry import FAMILIES
from model.from_config import spec_from_config
from model.spec import (
    ConfigError,
    UnknownArchitectureError,
    UnknownModelError,
    catalogue,
    load_spec,
)
from model.unmodelled import MISSING, missing_by_name, missing_part

TINY: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
}


def test_adapters_are_no_models(tmp_path: Path) -> None:
    adapter = {"peft_type": "LORA", "r": 16, "base_model_name_or_path": "meta-llama/Llama-3.1-8B"}
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(adapter))
    with pytest.raises(UnknownModelError, match=r"adapter_config.json in it is an adapter's"):
        load_spec(tmp_path)
    with pytest.raises(UnknownArchitectureError, match=r"peft_type = 'LORA': .* \('meta-llama/Lla"):
        load_spec(file)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tiny-Q4_K_M.gguf", r"tiny-Q4_K_M\.gguf beside config\.json is GGUF"),
        ("adapter_config.json", r"adapter_config\.json beside config\.json is an adapter's"),
    ],
)
def test_weights_beside_the_config_that_are_not_its_own(
    tmp_path: Path, name: str, told: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / name).write_text("{}")
    (tmp_path / "adapter_model.safetensors").touch()
    for path in (tmp_path, tmp_path / "config.json"):
        with pytest.raises(UnknownModelError, match=told):
            load_spec(path)
    (tmp_path / "model.safetensors").touch()
    assert load_spec(tmp_path).num_layers == 2


def test_a_folder_named_by_its_quantization_has_a_file_that_says_it(tmp_path: Path) -> None:
    """NVIDIA's stands in hf_quant_config.json: without it the model would be one of 16 bits."""
    folder = tmp_path / "Tiny-1B-FP8"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    with pytest.raises(ConfigError, match=r"its folder says FP8, .* hf_quant_config\.json, "):
        load_spec(folder)
    told = {"quantization": {"quant_algo": "FP8"}}
    (folder / "hf_quant_config.json").write_text(json.dumps(told))
    assert load_spec(folder).checkpoint.weights.method == "modelopt"
    unpacked = tmp_path / "Tiny-1B-FP8-BF16"
    unpacked.mkdir()
    for place in (tmp_path, unpacked):
        (place / "config.json").write_text(json.dumps(TINY))
        assert load_spec(place).checkpoint.weights.method is None


def test_checkpoints_for_mlx_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(TINY | {"quantization": {"group_size": 64, "bits": 4}}))
    with pytest.raises(ConfigError, match=r"quantization of config\.json is MLX's"):
        load_spec(file)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(TINY).encode())
    assert load_spec(file) == spec_from_config(TINY, "tiny")


def test_the_first_llama(tmp_path: Path) -> None:
    """``LLaMAForCausalLM`` and max_sequence_length, as the first conversions had them."""
    config = TINY | {"architectures": ["LLaMAForCausalLM"], "max_sequence_length": 2048}
    del config["max_position_embeddings"]
    assert spec_from_config(config, "tiny") == spec_from_config(TINY, "tiny")


def test_the_tokenizer_says_the_length_where_the_config_does_not(tmp_path: Path) -> None:
    config = {key: value for key, value in TINY.items() if key != "max_position_embeddings"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="max_position_embeddings is missing"):
        load_spec(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    with pytest.raises(ConfigError, match="max_position_embeddings is missing"):
        load_spec(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1024}))
    assert load_spec(tmp_path).max_model_len == 1024


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("Qwen3-8B/snapshots/abc123", "Qwen3-8B"),
        ("models--Qwen--Qwen3-8B/snapshots/abc123", "Qwen3-8B"),
        ("plain", "plain"),
    ],
)
def test_a_model_in_the_hubs_cache_keeps_its_name(tmp_path: Path, folder: str, name: str) -> None:
    """There config.json is a link to a blob that is named by its digest."""
    blob = tmp_path / "blobs" / "8f2c"
    blob.parent.mkdir()
    blob.write_text(json.dumps(TINY))
    place = tmp_path / folder
    place.mkdir(parents=True)
    (place / "config.json").symlink_to(blob)
    assert load_spec(place).name == name
    assert load_spec(place / "config.json").name == name


def test_gguf_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03" + bytes(64))
    with pytest.raises(ConfigError, match=r"this is GGUF, expected the config\.json"):
        load_spec(tmp_path / "model.gguf")
    with pytest.raises(UnknownModelError, match=r"model\.gguf in it is GGUF"):
        load_spec(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "not JSON: nested too deep"),
        ('{"a": ' * 50_000, "not JSON: nested too deep"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        (json.dumps(TINY | {"hidden_size": 10**20}), "hidden_size = 1000.*: expected less than"),
        (json.dumps(TINY | {"rms_norm_eps": float("nan")}), "rms_norm_eps = nan"),
    ],
)
def test_files_that_would_hurt(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises((ConfigError, UnknownArchitectureError), match=message) as caught:
        load_spec(file)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("inkling", "layers of different attention windows"),
        ("longcat_flash", "latent attention"),
        ("rwkv", "layers with a state"),
        ("inkling_mm_model", "with convolutions and relative positions"),
        ("whisper", "a decoder that attends an encoder"),
        ("xlm-roberta", "an encoder, which generates nothing"),
        ("grok-1", "experts beside a dense MLP"),
        ("something_new", ""),
    ],
)
def test_types_that_are_not_modelled_say_what_is_missing(kind: str, missing: str) -> None:
    """Another type is never offered: who follows such a hint gets wrong numbers."""
    with pytest.raises(UnknownArchitectureError, match=f"{kind}' is not modelled.*{missing}") as e:
        spec_from_config(TINY | {"model_type": kind, "architectures": None}, "tiny")
    assert "nearest" not in str(e.value)


def test_names_of_types_that_are_not_modelled_have_a_type_that_says_what_is_missing() -> None:
    for begins, kind in unmodelled.NAMED.items():
        assert missing_by_name(f"{begins}-1b") == (
            f" (its type, {kind}, is not modelled{missing_part(kind, {})})"
        )
        assert missing_part(kind, {})
        assert not any(name.startswith(begins) for name in catalogue()), begins


def test_what_is_modelled_is_not_listed_as_missing() -> None:
    listed = {kind for kinds in MISSING.values() for kind in kinds}
    assert not listed & set(FAMILIES)
