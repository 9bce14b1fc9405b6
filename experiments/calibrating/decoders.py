"""The real decoder that a calibration or a study on the wall clock asks for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.spec import DecoderSpec
    from model.torch.decoder import Decoder


def build_decoder(
    model: str,
    device: str,
    dtype: str | None,
    layers: int | None,
    seed: int,
    threads: int | None = None,
) -> "Decoder":
    """Return a decoder: real weights when ``model`` is a folder with some, else random ones.

    ``threads`` sets how many cores torch computes on, from now on, in this process.

    Raises:
        ValueError: unknown model or dtype, or a device that this machine does not have.
    """
    import torch

    from model.spec import load_spec
    from model.torch.decoder import random_decoder
    from model.torch.weights import load_decoder

    if threads is not None:
        cores = os.cpu_count() or 1
        if not 1 <= threads <= cores:
            raise ValueError(f"threads = {threads}, expected 1 to {cores}, as this machine has")
        torch.set_num_threads(threads)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: this machine has no CUDA device, expected cpu")
    try:
        where = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device!r} is unknown, expected cpu or cuda") from None
    number = getattr(torch, dtype or ("float32" if where.type == "cpu" else "bfloat16"))
    folder = Path(model)
    if where.type == "cpu":
        _check_memory(load_spec(model), layers, number.itemsize)
    if layers is None and folder.is_dir() and list(folder.glob("*.safetensors*")):
        return load_decoder(folder, device=where, dtype=number)
    return random_decoder(
        load_spec(model), num_layers=layers, seed=seed, device=where, dtype=number
    )


def _check_memory(spec: "DecoderSpec", layers: int | None, number_bytes: int) -> None:
    """Refuse a decoder that this machine cannot hold. Raises ValueError."""
    from experiments.study.memory import memory_bytes

    built = spec if layers is None else spec.first_layers(layers)
    weights, memory = built.parameters() * number_bytes, memory_bytes()
    if weights > memory:
        raise ValueError(
            f"model = {spec.name} with {built.num_layers} layers has weights of "
            f"{weights / 2**30:.1f} GiB, but this machine has {memory / 2**30:.1f} GiB: "
            "set fewer layers, or a smaller model"
        )
