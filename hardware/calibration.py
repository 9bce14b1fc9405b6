"""Calibration: how far kernels and engine stay from a GPU's peaks, fitted from measurements."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from hardware.evidence import (
    CURVE_NODE,
    CalibrationPart,
    Covariance,
    CoveredRange,
    Residuals,
)
from hardware.gpu import Gpu
from hardware.prices.kernels import Kernels
from hardware.uncertainty import check_covariance
from hardware.yaml_file import parsed, read_bundled, text_of, validated
from model.kept import kept
from model.nearest import closest

__all__ = [
    "DATASHEET",
    "PARAMETERS",
    "Calibration",
    "UnknownCalibrationError",
    "calibration_names",
    "load_calibration",
]

FOLDER = Path(__file__).parent / "calibrations"

Efficiency = Annotated[float, Field(ge=1e-6, le=1.5)]
"""Reached share of a peak. Above one is possible: counts of traffic are not what caches see."""
Seconds = Annotated[float, Field(ge=0, le=3600)]


class UnknownCalibrationError(ValueError):
    """A name that is neither bundled nor a path to a calibration file."""


class Calibration(CalibrationPart):
    """Efficiencies and overheads of one (GPU, software) pair.

    An operator takes ``max(flops / (peak * flops efficiency), bytes / (bandwidth * bytes
    efficiency))``; a step adds its overheads to the sum over operators.
    """

    name: str
    """What results call it."""
    source: str
    """What was measured, where and when; or why nothing was."""
    gpu: str | None = None
    """GPU that it was measured on."""
    device: Gpu | None = None
    """What was measured, when it is not in the catalogue: `cluster.gpu: calibrated` names it."""
    software: str | None = None
    """Engine or libraries, with versions."""

    gemm_flops: Efficiency = 1.0
    """Matrix products, arithmetic."""
    gemm_bytes: Efficiency = 1.0
    """Matrix products, traffic."""
    gemm_overlap: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Matrix products, how far arithmetic hides traffic: 1 is the roofline's maximum, 0 the sum."""
    gemm_curve: tuple[tuple[PositiveInt, Annotated[float, Field(ge=1e-3, le=1e3)]], ...] = ()
    """Matrix products, (rows, factor) on both efficiencies, log-linear between ascending rows."""
    attention_prefill_flops: Efficiency = 1.0
    """Attention of prefill chunks, arithmetic."""
    attention_prefill_bytes: Efficiency = 1.0
    """Attention of prefill chunks, traffic."""
    attention_decode_flops: Efficiency = 1.0
    """Attention of decoding sequences, arithmetic."""
    attention_decode_bytes: Efficiency = 1.0
    """Attention of decoding sequences, traffic. With measured kernels: speed of reading the cache
    in the engine, of that in their tables, where several query heads share a KV head and there is
    no more to read than one wave of tiles; the more waves there are, the nearer it is to 1."""
    attention_decode_small_cache: Efficiency = 1.0
    """With measured kernels: the same again of a cache in fewer than 16 bits."""
    attention_decode_start: Efficiency = 1.0
    """With measured kernels: what attention of decodes costs in the engine beside reading the
    cache, of that in their tables, which launch one kernel after another from the host."""
    attention_beside_flops: Annotated[float, Field(ge=0, le=1.5)] = 1.0
    """With measured kernels: attention of decodes in one call with a prompt's chunk, arithmetic of
    the tiles of query rows that FlashAttention 2 computes. 0: they have calls of their own."""
    elementwise_bytes: Efficiency = 1.0
    """Norms, activations, residuals, embedding: traffic."""
    all_reduce_bytes: Efficiency = 1.0
    """Collectives, rate of the links."""

    kernels: Kernels | None = None
    """Measured kernels, which price matrix products, attention and all-reduces instead."""
    gemm_share: Efficiency = 1.0
    """Speed of matrix products in the engine, of that in the tables of kernels."""
    gemm_arithmetic: Efficiency = 1.0
    """The same of their arithmetic alone: tables are timed in bursts, a GPU that computes for long
    meets the limit of its power."""

    idle_start_s: Seconds = 0.0
    """Before the first step after idling: host time that running steps would hide."""
    step_overhead_s: Seconds = 0.0
    """Once per step: scheduling, preparing inputs, sampling."""
    sequence_overhead_s: Seconds = 0.0
    """Once per sequence in a step."""
    sync_step_s: Seconds = 0.0
    """Once per step that is planned when the one before has ended: host time that asynchronous
    scheduling hides behind the GPU."""
    sync_sequence_s: Seconds = 0.0
    """The same for each of its sequences."""
    api_request_s: Seconds = 0.0
    """Once per request on its way in: HTTP, validation, the queue to the engine."""
    api_token_s: Seconds = 0.0
    """The same per token of the prompt: the tokeniser."""
    api_output_s: Seconds = 0.0
    """Once per token on its way out, delaying it: detokeniser and stream."""
    api_loop_request_s: Seconds = 0.0
    """The part of ``api_request_s`` in which an API process works for this request alone."""
    api_loop_output_s: Seconds = 0.0
    """Once per stream and step, one after the other: the API process' work for a token."""
    chunk_overhead_s: Seconds = 0.0
    """Once per prefill chunk."""
    layer_overhead_s: Seconds = 0.0
    """Once per layer: launches and gaps between kernels. With measured kernels: all that norms,
    activations and the like take while they move little."""
    eager_layer_s: Seconds = 0.0
    """Host time of a layer in an engine without CUDA graphs (``enforce_eager``), which launches its
    kernels one by one: a step takes at least as long as its layers' together."""
    eager_experts_s: Seconds = 0.0
    """Host time of a layer of experts in a step that no CUDA graph replays: such a step takes at
    least as long as its layers' together."""
    collective_overhead_s: Seconds = 0.0
    """Once per collective, beyond the hops of the links. With measured kernels: of two ranks, which
    wait for the slower one; of more by the logarithm of their number."""

    covariance: Covariance | None = None
    """Of the fitted parameters."""
    residuals: Residuals | None = None
    """On held-out measurements."""
    covered: CoveredRange | None = None
    """Where the measurements lie; None for no limit."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        rows = [row for row, _ in self.gemm_curve]
        if rows != sorted(set(rows)):
            raise ValueError(f"gemm_curve has rows {rows}, expected ascending ones")
        if self.covariance is not None:
            _check_names(self.covariance.parameters)
            check_covariance(self.covariance.parameters, self.covariance.matrix, self._fitted())
        return self

    def _fitted(self) -> dict[str, float]:
        """Everything that may have an uncertainty, by the name that a covariance has for it."""
        curve = {f"gemm_curve[{place}]": value for place, (_, value) in enumerate(self.gemm_curve)}
        return {name: getattr(self, name) for name in PARAMETERS} | curve

    @property
    def measured(self) -> bool:
        """Whether anything differs from the datasheet's peaks."""
        return any(getattr(self, name) != default for name, default in PARAMETERS.items())

    @property
    def collectives_measured(self) -> bool:
        """Whether the links of a tensor-parallel group were fitted, or are the model's."""
        tables = self.kernels is not None and self.kernels.all_reduce is not None
        return tables or self.all_reduce_bytes != 1.0 or self.collective_overhead_s != 0.0

    def draw(self, rng: np.random.Generator) -> "Calibration":
        """Return a calibration as another measurement of the same device might have given it.

        The logarithms of the fitted parameters are drawn from a normal law with the covariance that
        the fit found; efficiencies stay in their bounds. Errors of the model's form are not in it.
        What is drawn has no covariance of its own.

        Raises:
            ValueError: the calibration holds no covariance.
        """
        if self.covariance is None:
            raise ValueError(f"calibration {self.name} has no covariance to draw from")
        names = self.covariance.parameters
        fields, fitted = self.model_dump(), self._fitted()
        curve = [list(node) for node in self.gemm_curve]
        nodes = {name: int(found[1]) for name in names if (found := CURVE_NODE.fullmatch(name))}
        values = np.array([fitted[name] for name in names])
        of_logs = np.array(self.covariance.matrix) / np.outer(values, values)
        logs = rng.multivariate_normal(np.log(values), of_logs, method="eigh")
        for name, value in zip(names, np.exp(logs).tolist(), strict=True):
            if name in nodes:
                curve[nodes[name]][1] = value
            elif name.endswith("_s"):
                fields[name] = value
            else:
                fields[name] = min(value, 1.0 if name == "gemm_overlap" else 1.5)
        return Calibration.model_validate(fields | {"gemm_curve": curve, "covariance": None})

    def outside(self, max_step_tokens: int, max_context_tokens: int, max_decodes: int) -> list[str]:
        """Say by how much a run leaves the range that the measurements cover.

        Args:
            max_step_tokens: most tokens of one step of the run.
            max_context_tokens: longest context of one sequence.
            max_decodes: most decoding sequences of one step.

        Returns:
            One sentence per limit that is passed; empty when all is covered.
        """
        if self.covered is None:
            return []
        reached = {
            "max_step_tokens": (max_step_tokens, "tokens of a step"),
            "max_context_tokens": (max_context_tokens, "tokens of context"),
            "max_decodes": (max_decodes, "decoding sequences"),
        }
        sentences = []
        for field, (value, noun) in reached.items():
            limit = getattr(self.covered, field)
            if value > limit:
                sentences.append(
                    f"{value} {noun} are {value / limit:.3g} times the {limit} that calibration "
                    f"{self.name} covers"
                )
        return sentences


def _check_names(parameters: Sequence[str]) -> None:
    for name in parameters:
        if name not in PARAMETERS and not CURVE_NODE.fullmatch(name):
            close = closest(name, PARAMETERS)
            hint = f"; did you mean {close!r}?" if close else ""
            raise ValueError(f"covariance: parameter {name!r} is not one of a calibration{hint}")


PARAMETERS: dict[str, float] = {
    name: field.default
    for name, field in Calibration.model_fields.items()
    if isinstance(field.default, float)
}
"""Everything that can be fitted, with its value on the datasheet."""

DATASHEET = Calibration.model_construct(name="none", source="datasheet peaks: not measured")
"""Every efficiency 1 and no overhead: a bound that no kernel passes, not a forecast."""


def calibration_names() -> tuple[str, ...]:
    """Names that ``load_calibration`` knows: "none", and the bundled files."""
    return ("none", *sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_calibration(name_or_path: str | Path) -> Calibration:
    """Return a bundled calibration, the datasheet's ("none"), or one from a file.

    Raises:
        UnknownCalibrationError: neither a bundled name nor a file; names the nearest.
        ValueError: a file with mistakes; lists all of them with line and key.
    """
    text = str(name_or_path)
    if text.lower() in ("none", "datasheet"):
        return DATASHEET
    if text.lower() in calibration_names():
        return _bundled(FOLDER / f"{text.lower()}.yaml")
    path = Path(text)
    if not path.is_file():
        close = closest(text, calibration_names())
        hint = f"; did you mean {close!r}?" if close else ""
        raise UnknownCalibrationError(
            f"calibration = {text!r} is neither a file nor one of "
            f"{', '.join(calibration_names())}{hint}"
        )
    return _own(path, text_of(path))


@lru_cache(maxsize=16)
def _own(path: Path, text: str) -> Calibration:
    """A study asks several times for each of its runs; parsing takes 0.2 s where kernels are in."""
    return validated(Calibration, parsed(path, text), str(path))


@lru_cache(maxsize=16)
def _bundled(path: Path) -> Calibration:
    """A bundled file is part of the code: it does not change while a process runs."""
    return kept(f"calibration-{path.stem}", partial(_read, path))


def _read(path: Path) -> Calibration:
    return validated(Calibration, read_bundled(path), str(path))
