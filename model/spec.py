"""Finds a model by its name, published or of the catalogue, or by a path to its config.json."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from model.errors import ConfigError, UnknownArchitectureError, UnknownModelError
from model.heads import draft_vocabulary
from model.kept import kept
from model.lengths import MOST_POSITIONS, positions_of
from model.names import ModelName, looks_like_path, plain_name, resolve_name
from model.quantization.checkpoint import BESIDE, Checkpoint
from model.quantization.weights import PLAIN
from model.sampling import GENERATION_CONFIG, drawing_of
from model.shape import DecoderSpec
from model.text_file import TextFileError, read_json
from model.unmodelled import missing_by_name

__all__ = [
    "MODEL_FILES",
    "ConfigError",
    "DecoderSpec",
    "UnknownArchitectureError",
    "UnknownModelError",
    "catalogue",
    "load_head",
    "load_spec",
    "resolve_model",
]

CATALOGUE = Path(__file__).parent / "catalogue"

ADAPTER = "adapter_config.json"
_STORED = frozenset(("fp8", "nvfp4", "mxfp4", "awq", "gptq", "w4a16", "w8a8", "w8a16", "w4a8"))
"""Words of names that say how weights are stored."""
TOKENIZER = "tokenizer_config.json"
"""Says how long a request is where config.json does not."""

MODEL_FILES = ("config.json", *BESIDE, TOKENIZER, GENERATION_CONFIG)
"""Files of a model's folder that are read."""


@lru_cache(maxsize=1)
def catalogue() -> tuple[str, ...]:
    """Names of the bundled models, sorted."""
    return tuple(sorted(path.stem for path in CATALOGUE.glob("*.json")))


def load_spec(name_or_path: str | Path) -> DecoderSpec:
    """Return a model of the catalogue, or the one that a ``config.json`` describes.

    Args:
        name_or_path: a name of the catalogue or of huggingface.co (``resolve_model``); or a path to
            a config file, or to a folder that holds ``config.json``. A path that exists goes before
            a name with an organisation.

    Raises:
        UnknownModelError: neither a name nor a path.
        UnknownArchitectureError, ConfigError: see ``model.from_config.spec_from_config``.
    """
    text = str(name_or_path)
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if text.lower() not in catalogue() and _exists(path):
        return _load_path(path)
    return _of_catalogue(text)


def load_head(name_or_path: str) -> tuple[DecoderSpec, int | None]:
    """Return the layers of a head that drafts, and how many tokens it can propose if it says so.

    Args:
        name_or_path: as for ``load_spec``, of the head's ``config.json``.

    Raises:
        UnknownModelError, UnknownArchitectureError, ConfigError: see ``load_spec``.
    """
    path = Path(name_or_path).expanduser()
    if not _exists(path):
        return load_spec(name_or_path), None
    spec = _load_path(path, head=True)
    return spec, draft_vocabulary(_read_json(path / "config.json" if path.is_dir() else path))


@lru_cache(maxsize=64)
def _of_catalogue(text: str) -> DecoderSpec:
    """A bundled file is part of the code: it does not change while a process runs."""
    found = resolve_model(text)
    read = partial(_changed, found)
    spec = read() if found.changes else kept(f"model-{found.model}", read)
    if found.sixteen_bits:
        return replace(spec, checkpoint=replace(spec.checkpoint, weights=PLAIN, kv_fp8=False))
    if found.told is None:
        return spec
    weights = found.told.weights(spec.num_layers, f"its name {text}")
    checkpoint = Checkpoint(weights, spec.checkpoint.dtype, found.told.kv_fp8)
    return replace(spec, checkpoint=checkpoint)


def _changed(found: ModelName) -> DecoderSpec:
    """Read the file of a model, with what its name changes in it."""
    from model.from_config import spec_from_config

    file = CATALOGUE / f"{found.model}.json"
    return spec_from_config({**_read_json(file), **found.changes}, found.model, source=str(file))


def resolve_model(name: str) -> ModelName:
    """Return the model of the catalogue that a published name means, and its quantization.

    Case, organisation, variant, date and format do not matter: ``TheBloke/Llama-2-7B-Chat-AWQ`` is
    llama-2-7b with int4 weights.

    Raises:
        UnknownModelError: a path that does not exist, a name that the catalogue does not know, or
            one of a quantization that is not modelled.
    """
    if looks_like_path(name):
        raise UnknownModelError(
            f"model = {name!r}: no such file or folder, expected a path to a config.json or to "
            "the folder that holds one"
        )
    try:
        found = resolve_name(name, catalogue())
    except ValueError as error:
        raise UnknownModelError(f"model = {name!r}: {error}") from None
    if found is None:
        raise UnknownModelError(
            f"model = {name!r} is neither in the catalogue nor a path that exists"
            f"{missing_by_name(plain_name(name))}, {_typo(name)}"
            f"xpected a path to a config.json or one of the {len(catalogue())} names that "
            f"docs/study_reference.md lists{_kin(name)}"
        )
    return found


def _typo(name: str) -> str:
    """The name that was meant, if but letters differ: other numbers or words are another model.

    It stands before what is expected.
    """

    def shape(text: str) -> list[object]:
        """Return what a typing error leaves: how many words, and the numbers among them."""
        # Letters at a number are part of it (3n, e4b); a word before it may be misspelled.
        return [text.count("-"), *re.findall(r"(?<![a-z])[a-z]{0,2}\d+[a-z]*|\d+[a-z]*", text)]

    plain = plain_name(name)
    alike = [one for one in catalogue() if shape(one) == shape(plain)]
    found = difflib.get_close_matches(plain, alike, n=1, cutoff=0.85)
    return f"did you mean {found[0]}? E" if found else "e"


def _kin(name: str) -> str:
    """The models of the catalogue whose name begins alike, a slip of the pen apart, and none of
    which is meant; where there are none, how the names of all begin."""

    def beginning(text: str) -> str:
        return re.split(r"[-.\d]", text)[0]

    begin = {one: beginning(one) for one in catalogue()}
    words = sorted({*begin.values()})
    begun = beginning(plain_name(name))
    word = begun if begun in words else next(iter(difflib.get_close_matches(begun, words, 1)), None)
    if word is None:
        return f", which begin with {', '.join(words)}"
    return f"; beginning with {word}: {', '.join(one for one in begin if begin[one] == word)}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _load_path(path: Path, head: bool = False) -> DecoderSpec:
    from model.from_config import spec_from_config

    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        inside = sorted(each.name for each in path.glob("*.gguf")) if path.is_dir() else []
        held = f"; {inside[0]} in it is GGUF, which is not read" if inside else ""
        if path.is_dir() and (path / ADAPTER).is_file():
            held = f"; {ADAPTER} in it is an adapter's, expected the model that it adapts"
        raise UnknownModelError(f"model = {str(path)!r} is a folder without a config.json{held}")
    folder = file.parent
    if file.name == "config.json":
        _check_weights(folder)
    beside = {
        name: _read_json(folder / name)
        for name in BESIDE
        if file.name == "config.json" and (folder / name).is_file()
    }
    config = _read_json(file)
    if positions_of(config) is None and (folder / TOKENIZER).is_file():
        length = _read_json(folder / TOKENIZER).get("model_max_length")
        config = {**config, **({"model_max_length": length} if _is_length(length) else {})}
    name = _name_of(file)
    spec = spec_from_config(config, name, source=str(file), beside=beside, head=head)
    if file.name == "config.json" and spec.checkpoint.weights.method is None:
        _check_stored(name, file)
    if file.name != "config.json" or not (folder / GENERATION_CONFIG).is_file():
        return spec
    return replace(spec, drawing=drawing_of(_read_json(folder / GENERATION_CONFIG)))


def _check_weights(folder: Path) -> None:
    """Raise UnknownModelError where the weights beside config.json are not those that it tells of:
    GGUF's, or an adapter's."""
    kinds = ("*.safetensors", "*.bin", "*.pt", "*.pth")
    weights = [each.name for kind in kinds for each in folder.glob(kind)]
    if any(not name.startswith("adapter_") for name in weights):
        return
    held = sorted(each.name for each in folder.glob("*.gguf"))
    if held:
        raise UnknownModelError(
            f"model = {str(folder)!r}: {held[0]} beside config.json is GGUF, which is not read; "
            "expected a folder with other weights, or config.json alone for 16 bits"
        )
    if (folder / ADAPTER).is_file():
        raise UnknownModelError(
            f"model = {str(folder)!r}: {ADAPTER} beside config.json is an adapter's, expected the "
            "model that it adapts"
        )


def _check_stored(name: str, file: Path) -> None:
    """Raise ConfigError where a folder's name tells of quantization and no file in it does."""
    words = re.split(r"[-.]", name)
    told = [word for word in words if word.lower() in _STORED]
    if told and not any(word.lower() in ("bf16", "fp16", "16bit") for word in words):
        raise ConfigError(
            f"{file}: the name of its folder says {told[0]}, and neither this file nor one of "
            f"{', '.join(BESIDE)} beside it does; expected the file that says it, or another name"
        )


def _is_length(length: object) -> bool:
    """Tokenizers without a limit have one of 1e30."""
    return isinstance(length, int) and 0 < length <= MOST_POSITIONS


def _name_of(file: Path) -> str:
    """The name of a model by the place of its file.

    Its folder's; in the cache of huggingface_hub (``models--ORG--NAME/snapshots/COMMIT``) what
    stands before ``snapshots``. Links are not followed: they lead to files named by their digest.
    """
    if file.name != "config.json":
        return file.stem
    folder = Path(os.path.abspath(file)).parent
    if folder.parent.name == "snapshots":
        folder = folder.parent.parent
    return folder.name.rsplit("--", 1)[-1] or str(folder)


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            begins = file.read(4)
        if begins == b"GGUF":
            raise ConfigError(f"{path}: this is GGUF, expected the config.json of the same model")
        config = read_json(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except TextFileError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config
