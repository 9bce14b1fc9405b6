"""Hugging Face weights: a folder of safetensors files into a ``Decoder``.

A folder holds ``config.json`` and either ``model.safetensors`` or the shards that
``model.safetensors.index.json`` lists. Names are those of Llama (also Mistral, Qwen2, Qwen3), GPT-2
and OPT in ``transformers``, with or without the base model's prefix. Nothing is guessed: a tensor
that is missing, misshapen or unknown is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.alike import attention_of, dense_of
from model.dataclass import dataclass
from model.spec import DecoderSpec, load_spec
from model.text_file import read_json
from model.torch.attention import Kernel
from model.torch.decoder import Decoder

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MOST_LISTED = 20
"""Names of each kind of mistake that an error lists; it counts the rest."""

FLOATS = ("F64", "F32", "F16", "BF16")
"""Number types that are read; quantized weights need scales, which the decoder does not apply."""

SKIPPED_ENDINGS = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Constants that old files store: GPT-2's causal mask, and rotary frequencies."""


class WeightsError(ValueError):
    """A folder whose weights are absent, incomplete, misshapen or of another model."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What an architecture calls the decoder's modules; several names are stacked by rows."""

    prefixes: tuple[str, ...]
    """Before all names but the LM head's, longest first; a bare base model's have none."""
    layers: str
    top: Mapping[str, str]
    layer: Mapping[str, tuple[str, ...]]
    transposed: tuple[str, ...] = ()
    """Modules whose matrix is stored [inputs, outputs], as GPT-2's Conv1D has it."""


LLAMA = Naming(
    prefixes=("model.",),
    layers="layers",
    top={"embedding": "embed_tokens", "final_norm": "norm"},
    layer={
        "input_norm": ("input_layernorm",),
        "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "q_norm": ("self_attn.q_norm",),
        "k_norm": ("self_attn.k_norm",),
        "o_proj": ("self_attn.o_proj",),
        "post_norm": ("post_attention_layernorm",),
        "up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        "down_proj": ("mlp.down_proj",),
    },
)
"""Also Mistral, Qwen2 and Qwen3."""

GPT2 = Naming(
    prefixes=("transformer.",),
    layers="h",
    top={"embedding": "wte", "position_embedding": "wpe", "final_norm": "ln_f"},
    layer={
        "input_norm": ("ln_1",),
        "qkv_proj": ("attn.c_attn",),
        "o_proj": ("attn.c_proj",),
        "post_norm": ("ln_2",),
        "up_proj": ("mlp.c_fc",),
        "down_proj": ("mlp.c_proj",),
    },
    transposed=("qkv_proj", "o_proj", "up_proj", "down_proj"),
)

OPT = Naming(
    prefixes=("model.decoder.", "decoder."),
    layers="layers",
    top={
        "embedding": "embed_tokens",
        "position_embedding": "embed_positions",
        "final_norm": "final_layer_norm",
    },
    layer={
        "input_norm": ("self_attn_layer_norm",),
        "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "o_proj": ("self_attn.out_proj",),
        "post_norm": ("final_layer_norm",),
        "up_proj": ("fc1",),
        "down_proj": ("fc2",),
    },
)

NAMINGS = {"gpt2": GPT2, "opt": OPT}
"""By architecture; all others are named as Llama."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One stored tensor and the rows of the parameter that it fills."""

    name: str
    target: Tensor
    transposed: bool

    @property
    def stored_shape(self) -> list[int]:
        """Shape that the file must hold."""
        shape = list(self.target.shape)
        return shape[::-1] if self.transposed else shape


def load_decoder(
    folder: str | Path,
    *,
    num_layers: int | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kernel: Kernel | None = None,
) -> Decoder:
    """Load a Hugging Face folder.

    Args:
        folder: holds ``config.json`` and the safetensors file or files.
        num_layers: load the first layers only.
        device, dtype, kernel: as for ``Decoder``; stored numbers are converted to ``dtype``.

    Raises:
        WeightsError: no weights, unreadable ones, or tensors missing, misshapen or unknown; all of
            them are named, up to 20 of each kind.
        ValueError: the config is not one of a dense decoder (see ``load_spec``, ``Decoder``), its
            rotary scaling is not computed, or it has fewer layers than ``num_layers``.
    """
    folder = Path(folder)
    spec = load_spec(str(folder))
    if num_layers is not None and num_layers > spec.num_layers:
        raise ValueError(f"num_layers(={num_layers}) must be <= {spec.num_layers}, all of {folder}")
    files = weight_files(folder)
    decoder = Decoder(
        spec,
        num_layers=num_layers,
        device=device,
        dtype=dtype,
        kernel=kernel,
        rope_scaling=_rope_scaling(folder),
    )
    pieces = _pieces(decoder, files)
    _check_names(folder, spec, decoder.spec.num_layers, pieces, files)
    _copy(folder, pieces, files)
    return decoder


def weight_files(folder: Path) -> dict[str, Path]:
    """Map each stored tensor's name to its file; a single file goes before an index.

    Raises:
        WeightsError: there is neither, or the index is unreadable or names absent files.
    """
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.is_file():
        with _open(single) as file:
            return dict.fromkeys(file.keys(), single)
    if not index.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise WeightsError(
            f"{folder}: expected {SINGLE_FILE} or {INDEX_FILE} (only safetensors are read), "
            f"found {found}"
        )
    try:
        weight_map = read_json(index)["weight_map"]
        files = {str(name): folder / str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{index}: expected a JSON object with a weight_map: {error}") from None
    absent = sorted({path.name for path in files.values() if not path.is_file()})
    if absent:
        raise WeightsError(f"{index}: shards not in the folder: {', '.join(absent)}")
    return files


def _pieces(decoder: Decoder, files: Mapping[str, Path]) -> list[Piece]:
    """Every stored tensor that the decoder needs, with the place that it fills."""
    spec = decoder.spec
    naming = NAMINGS.get(spec.architecture, LLAMA)
    prefix = _prefix(naming, files)
    attention, width = attention_of(spec), dense_of(spec).width
    stacked = {
        "qkv_proj": [attention.query_size, attention.kv_size, attention.kv_size],
        "up_proj": [width, width],
    }
    pieces = []
    for parameter_name, parameter in decoder.named_parameters():
        path, _, kind = parameter_name.rpartition(".")
        if not path:
            path, kind = kind, "weight"
        if path == "lm_head":
            pieces.append(Piece("lm_head.weight", parameter, False))
            continue
        _, _, layer_path = path.partition(".")
        index, _, module = layer_path.partition(".")
        if not module:
            pieces.append(Piece(f"{prefix}{naming.top[path]}.{kind}", parameter, False))
            continue
        names = naming.layer[module]
        parts = torch.split(parameter, stacked[module]) if len(names) > 1 else (parameter,)
        turned = kind == "weight" and module in naming.transposed
        for name, part in zip(names, parts, strict=True):
            full_name = f"{prefix}{naming.layers}.{index}.{name}.{kind}"
            pieces.append(Piece(full_name, part, turned))
    return pieces


def _prefix(naming: Naming, names: Iterable[str]) -> str:
    """The first of the prefixes that stands before any name."""
    found = [p for p in naming.prefixes if any(name.startswith(p) for name in names)]
    return found[0] if found else ""


def _check_names(
    folder: Path,
    spec: DecoderSpec,
    num_layers: int,
    pieces: Sequence[Piece],
    files: Mapping[str, Path],
) -> None:
    """Raise WeightsError unless the folder holds the pieces and nothing unexplained."""
    wanted = {piece.name for piece in pieces}
    naming = NAMINGS.get(spec.architecture, LLAMA)
    layers = f"{_prefix(naming, files)}{naming.layers}"
    left_out = tuple(f"{layers}.{index}." for index in range(num_layers, spec.num_layers))

    def explained(name: str) -> bool:
        """Tell whether a tensor is read, tied, of a layer left out, or known to be of no use."""
        if name in wanted or name.endswith(SKIPPED_ENDINGS):
            return True
        if name == "lm_head.weight":
            return spec.head.tied
        return name.startswith(left_out)

    problems = [
        *_listed("missing", sorted(wanted - files.keys())),
        *_listed("unexpected", sorted(name for name in files if not explained(name))),
    ]
    if problems:
        raise WeightsError(f"{folder}: not the weights of {spec.name}\n" + "\n".join(problems))


def _copy(folder: Path, pieces: Sequence[Piece], files: Mapping[str, Path]) -> None:
    """Fill the decoder, file by file; raises WeightsError naming every wrong shape."""
    wrong = []
    for path in sorted(set(files.values())):
        with _open(path) as file:
            inside = set(file.keys())
            for piece in pieces:
                if files[piece.name] != path:
                    continue
                if piece.name not in inside:
                    raise WeightsError(f"{path}: {piece.name} is in the index but not in the file")
                stored = file.get_slice(piece.name)
                shape, numbers = list(stored.get_shape()), stored.get_dtype()
                if shape != piece.stored_shape or numbers not in FLOATS:
                    expected = f"{piece.stored_shape} of {', '.join(FLOATS)}"
                    wrong.append(f"{piece.name} is {shape} of {numbers}, expected {expected}")
                    continue
                tensor = file.get_tensor(piece.name)
                piece.target.copy_(tensor.T if piece.transposed else tensor)
    if wrong:
        listed = "\n".join(_listed("wrong shape or type", wrong))
        raise WeightsError(f"{folder}: not the weights of this model\n{listed}")


def _listed(kind: str, names: Sequence[str]) -> list[str]:
    lines = [f"  {kind}: {name}" for name in names[:MOST_LISTED]]
    if len(names) > MOST_LISTED:
        lines.append(f"  {kind}: and {len(names) - MOST_LISTED} more")
    return lines


def _open(path: Path) -> safe_open:
    """A safetensors file; its tensors are read when asked for."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file: {error}") from None


def _rope_scaling(folder: Path) -> Mapping[str, object] | None:
    """Rotary scaling of the config, under either of the names that it has had."""
    config = read_json(folder / "config.json")
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    return scaling if isinstance(scaling, dict) else None
