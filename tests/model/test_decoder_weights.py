"""Folders of safetensors: shards, prefixes, transposed matrices, and what broken folders say."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_decoders import random_tokens
from torch import Tensor

from model.torch.rope import inverse_frequencies
from model.torch.weights import WeightsError, load_decoder

LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 32,
    "vocab_size": 11,
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 8,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 32,
    "vocab_size": 11,
}
OPT = {
    "model_type": "opt",
    "hidden_size": 8,
    "ffn_dim": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "vocab_size": 11,
}


def llama_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (11, 8),
        "model.norm.weight": (8,),
        "lm_head.weight": (11, 8),
    }
    for layer in range(2):
        own = {
            "input_layernorm": (8,),
            "post_attention_layernorm": (8,),
            "self_attn.q_proj": (8, 8),
            "self_attn.k_proj": (4, 8),
            "self_attn.v_proj": (4, 8),
            "self_attn.o_proj": (8, 8),
            "mlp.gate_proj": (12, 8),
            "mlp.up_proj": (12, 8),
            "mlp.down_proj": (8, 12),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
    return shapes


def gpt2_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (11, 8), "wpe.weight": (32, 8)}
    for name in ("h.0.ln_1", "h.0.ln_2", "ln_f"):
        shapes |= {f"{name}.weight": (8,), f"{name}.bias": (8,)}
    matrices = {
        "attn.c_attn": (8, 24),
        "attn.c_proj": (8, 8),
        "mlp.c_fc": (8, 32),
        "mlp.c_proj": (32, 8),
    }
    for name, (inputs, outputs) in matrices.items():
        shapes |= {f"h.0.{name}.weight": (inputs, outputs), f"h.0.{name}.bias": (outputs,)}
    return shapes


def opt_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (11, 8),
        "embed_positions.weight": (34, 8),
    }
    for name in ("layers.0.self_attn_layer_norm", "layers.0.final_layer_norm", "final_layer_norm"):
        shapes |= {f"{name}.weight": (8,), f"{name}.bias": (8,)}
    matrices = {f"self_attn.{name}": (8, 8) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
    matrices |= {"fc1": (12, 8), "fc2": (8, 12)}
    for name, (outputs, inputs) in matrices.items():
        shapes |= {
            f"layers.0.{name}.weight": (outputs, inputs),
            f"layers.0.{name}.bias": (outputs,),
        }
    return shapes


def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, config: dict[str, object], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


def llama_folder(folder: Path, **changes: Tensor | None) -> Path:
    """A whole folder; keyword ``a__b=None`` drops tensor ``a.b``, any other value replaces it."""
    tensors = drawn(llama_shapes())
    for name, tensor in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if tensor is not None:
            tensors[name.replace("__", ".")] = tensor
    return write(folder, LLAMA, tensors)


def test_llama_matrices_are_stacked(tmp_path: Path) -> None:
    tensors = drawn(llama_shapes())
    decoder = load_decoder(llama_folder(tmp_path))
    loaded = dict(decoder.named_parameters())
    own = {name.removeprefix("model.layers.1."): tensor for name, tensor in tensors.items()}
    attention = [own[f"self_attn.{name}_proj.weight"] for name in "qkv"]
    mlp = [own[f"mlp.{name}_proj.weight"] for name in ("gate", "up")]
    assert torch.equal(loaded["blocks.1.qkv_proj.weight"], torch.cat(attention))
    assert torch.equal(loaded["blocks.1.up_proj.weight"], torch.cat(mlp))
    assert torch.equal(loaded["blocks.1.down_proj.weight"], own["mlp.down_proj.weight"])
    assert torch.equal(loaded["lm_head"], tensors["lm_head.weight"])


def test_gpt2_matrices_are_transposed(tmp_path: Path) -> None:
    tensors = drawn(gpt2_shapes())
    loaded = dict(load_decoder(write(tmp_path, GPT2, tensors)).named_parameters())
    for name, stored in [("qkv_proj", "attn.c_attn"), ("o_proj", "attn.c_proj")]:
        assert torch.equal(loaded[f"blocks.0.{name}.weight"], tensors[f"h.0.{stored}.weight"].T)
        assert torch.equal(loaded[f"blocks.0.{name}.bias"], tensors[f"h.0.{stored}.bias"])
    assert torch.equal(loaded["position_embedding"], tensors["wpe.weight"])
    assert "lm_head" not in loaded


def test_prefixes_and_stored_constants_change_nothing(tmp_path: Path) -> None:
    bare = drawn(gpt2_shapes())
    prefixed = {f"transformer.{name}": tensor for name, tensor in bare.items()}
    prefixed |= {
        "lm_head.weight": bare["wte.weight"].clone(),
        "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32),
        "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    first = load_decoder(write(tmp_path / "bare", GPT2, bare))
    second = load_decoder(write(tmp_path / "prefixed", GPT2, prefixed))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("prefix", ["", "decoder.", "model.decoder."])
def test_opt_prefixes(prefix: str, tmp_path: Path) -> None:
    tensors = {f"{prefix}{name}": tensor for name, tensor in drawn(opt_shapes()).items()}
    decoder = load_decoder(write(tmp_path, OPT, tensors))
    expected = tensors[f"{prefix}layers.0.final_layer_norm.bias"]
    assert torch.equal(dict(decoder.named_parameters())["blocks.0.post_norm.bias"], expected)
    assert decoder(torch.tensor([[1, 2, 3]])).shape == (1, 3, 11)


def test_shards_equal_one_file(tmp_path: Path) -> None:
    whole = load_decoder(llama_folder(tmp_path / "whole"))
    sharded = llama_folder(tmp_path / "sharded")
    tensors = load_file(sharded / "model.safetensors")
    (sharded / "model.safetensors").unlink()
    shards = {name: f"model-0000{i % 3}-of-00003.safetensors" for i, name in enumerate(tensors)}
    for file in set(shards.values()):
        save_file({n: tensors[n] for n in tensors if shards[n] == file}, sharded / file)
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    (tokens,) = random_tokens(whole.spec, 9)
    assert torch.equal(load_decoder(sharded)(tokens[None]), whole(tokens[None]))

    first = sharded / "model-00000-of-00003.safetensors"
    save_file({"other": torch.zeros(1)}, first)
    with pytest.raises(WeightsError, match="is in the index but not in the file"):
        load_decoder(sharded)
    first.unlink()
    with pytest.raises(WeightsError, match=r"shards not in the folder: model-00000-of-00003"):
        load_decoder(sharded)
    index.write_text("[]")
    with pytest.raises(WeightsError, match="expected a JSON object with a weight_map"):
        load_decoder(sharded)


def test_first_layers_only(tmp_path: Path) -> None:
    decoder = load_decoder(llama_folder(tmp_path), num_layers=1)
    assert decoder.spec.num_layers == len(decoder.blocks) == 1
    with pytest.raises(ValueError, match=r"num_layers\(=3\) must be <= 2"):
        load_decoder(tmp_path, num_layers=3)


def test_numbers_are_converted(tmp_path: Path) -> None:
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in drawn(llama_shapes()).items()}
    decoder = load_decoder(write(tmp_path, LLAMA, halves), dtype=torch.float64)
    assert decoder.dtype == torch.float64
    assert torch.equal(decoder.embedding, halves["model.embed_tokens.weight"].double())


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path) -> None:
    folder = llama_folder(
        tmp_path,
        **{
            "model__norm__weight": None,
            "lm_head__weight": None,
            "model__layers__1__mlp__up_proj__weight": None,
            "model__layers__1__mlp__up_proj__weight_scale": torch.ones(1),
        },
    )
    with pytest.raises(WeightsError) as caught:
        load_decoder(folder)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: lm_head.weight",
        "  missing: model.layers.1.mlp.up_proj.weight",
        "  missing: model.norm.weight",
        "  unexpected: model.layers.1.mlp.up_proj.weight_scale",
    ]


def test_long_lists_are_counted(tmp_path: Path) -> None:
    folder = write(tmp_path, LLAMA, {"model.norm.weight": torch.ones(8)})
    with pytest.raises(WeightsError, match=r"missing: lm_head\.weight") as caught:
        load_decoder(folder)
    assert len(str(caught.value).splitlines()) == 1 + 20
    tensors = {f"extra.{i:02}": torch.ones(1) for i in range(25)}
    folder = write(tmp_path, LLAMA, drawn(llama_shapes()) | tensors)
    with pytest.raises(WeightsError, match=r"unexpected: extra\.19\n  unexpected: and 5 more"):
        load_decoder(folder)


def test_wrong_shapes_and_types_are_named(tmp_path: Path) -> None:
    folder = llama_folder(
        tmp_path,
        **{
            "model__norm__weight": torch.ones(9),
            "model__layers__0__self_attn__k_proj__weight": torch.ones(4, 8, dtype=torch.int8),
        },
    )
    with pytest.raises(WeightsError) as caught:
        load_decoder(folder)
    message = str(caught.value)
    assert "model.norm.weight is [9] of F32, expected [8] of F64, F32, F16, BF16" in message
    assert "k_proj.weight is [4, 8] of I8, expected [4, 8] of F64" in message


def test_folders_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"only safetensors are read\), found config.json, pyt"):
        load_decoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not one")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_decoder(tmp_path)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (
            {"rope_type": "llama-3", "factor": 8},
            r"rope_type = 'llama-3' is .*did you mean llama3\?",
        ),
        ({"type": "yarn", "factor": 8}, r"rope_type\(='yarn'\) is not computed"),
        ({"type": "linear"}, r"factor\(=None\) must be a number > 0"),
        (
            {"rope_type": "linear", "factor": True},
            "factor = True of the rotary scaling",
        ),
    ],
)
def test_unknown_rotary_scaling_is_refused(
    scaling: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path, LLAMA | {"rope_scaling": scaling}, drawn(llama_shapes()))
    with pytest.raises(ValueError, match=message):
        load_decoder(tmp_path)


def test_rotary_frequencies_by_hand() -> None:
    """theta^(-2i/d) for theta 100 and d 4 is 1 and 0.1; linear scaling divides both."""
    expected = torch.tensor([1.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(inverse_frequencies(4, 100.0), expected)
    halved = inverse_frequencies(4, 100.0, {"type": "linear", "factor": 2})
    torch.testing.assert_close(halved, expected / 2)
