"""How long prompts and outputs are, in tokens: laws, and lengths drawn from recorded files.

Continuous laws are rounded to the nearest token and then clipped to ``[min, max]``. ``mean`` and
``cv`` always describe the law before clipping: a tight ``max`` lowers the mean that is simulated.
A law uses the same luck for every parameter value, and a longer sample begins with the shorter.
"""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from workloads import traces
from workloads.config import Config, Count, Positive, Variation
from workloads.counts import count_of
from workloads.requests import Floats, Ints
from workloads.traces.errors import printable

MOST_TOKENS = 10**9  # as a count may be in a study


class Constant(Config):
    """Always the same length."""

    distribution: Literal["constant"] = "constant"
    value: Count
    """Tokens, or how many of what is counted (turns, calls)."""
    is_random: ClassVar[bool] = False

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Return lengths in tokens, shape (count,); ``rng`` is not used."""
        return np.full(count, self.value, dtype=np.int64)


class Uniform(Config):
    """Every whole number from ``min`` to ``max``, both included, equally likely."""

    distribution: Literal["uniform"] = "uniform"
    min: Count
    """The least: tokens, or of what is counted."""
    max: Count
    """The most: tokens, or of what is counted."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max(={self.max}) must be >= min(={self.min})")
        return self

    @property
    def is_random(self) -> bool:
        """Whether lengths depend on the seed."""
        return self.min < self.max

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Return lengths in tokens, shape (count,)."""
        span = self.max - self.min + 1
        return self.min + np.floor(rng.random(count) * span).astype(np.int64)


class _Clipped(Config):
    """The fields of a law with a mean and bounds."""

    mean: Positive
    """Mean of the law before rounding and clipping: tokens, or of what is counted."""
    min: Count = 1
    """Less becomes this: tokens, or of what is counted."""
    max: Count | None = None
    """More becomes this: tokens, or of what is counted; none: no upper bound."""
    is_random: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max(={self.max}) must be >= min(={self.min})")
        if not self.min <= self.mean <= (self.max or math.inf):
            raise ValueError(
                f"mean(={self.mean:g}) must lie between min(={self.min}) and max(={self.max})"
            )
        return self

    def _clipped(self, values: Floats) -> Ints:
        return np.clip(values, self.min, self.max or MOST_TOKENS).astype(np.int64)


class LogNormal(_Clipped):
    """Log-normal, by its own mean and coefficient of variation (not those of the logarithm).

    sigma^2 = ln(1 + cv^2), mu = ln(mean) - sigma^2 / 2.
    """

    distribution: Literal["lognormal"] = "lognormal"
    cv: Variation
    """Standard deviation over mean, before rounding and clipping."""

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Return lengths in tokens, shape (count,)."""
        sigma2 = math.log1p(self.cv**2)
        mu = math.log(self.mean) - sigma2 / 2
        with np.errstate(over="ignore"):  # infinity is clipped like any other long one
            values = np.exp(mu + math.sqrt(sigma2) * rng.standard_normal(count))
        return self._clipped(np.rint(values))


class Exponential(_Clipped):
    """Exponential lengths, which in whole tokens is the geometric law on 1, 2, 3, ...

    P(length > k) = (1 - 1/mean)^k: after each token the answer ends with probability 1/mean.
    Exact (the mean too): an exponential variate of the fitting scale, rounded up.
    """

    distribution: Literal["exponential"] = "exponential"
    mean: Annotated[float, Field(gt=1, le=1e9)]
    """Mean of the law before clipping: tokens, or of what is counted."""

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Return lengths in tokens, shape (count,)."""
        scale = -1 / math.log1p(-1 / self.mean)
        return self._clipped(1 + np.floor(scale * rng.standard_exponential(count)))


class Empirical(Config):
    """Lengths drawn with replacement from a column of a file."""

    distribution: Literal["empirical"] = "empirical"
    path: Annotated[str, Field(min_length=1)]
    """A table (CSV, Parquet), compressed or not, or a trace of any known format."""
    column: Annotated[str, Field(min_length=1)]
    """A column of the file; of a trace also prompt_tokens or output_tokens."""
    is_random: ClassVar[bool] = True

    def anchored(self, base_dir: Path) -> "Empirical":
        """Return the same with its path made absolute from ``base_dir``."""
        return self.model_copy(update={"path": str(base_dir.resolve() / self.path)})

    def values(self) -> Ints:
        """Return what is drawn from, in tokens.

        Raises:
            TraceError: no such file or column, or a value below 1 or not a whole number.
        """
        return traces.read_length_column(self.path, self.column)

    def told(self) -> str:
        """Say what is read. Raises TraceError as ``values`` does."""
        values = self.values()
        return (
            f"{printable(Path(self.path).name)}: column {printable(self.column)}, "
            f"{count_of(len(values), 'value')}, {values.mean(dtype=np.float64):,.1f} tokens in the "
            "mean"
        )

    def sample(self, count: int, rng: np.random.Generator) -> Ints:
        """Return lengths in tokens, shape (count,).

        Raises:
            TraceError: as ``values``.
        """
        values = self.values()
        return values[_rows(count, len(values), rng)]


def _always(given: object) -> object:
    """Read a bare number as the law that always gives it."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return given
    return {"distribution": "constant", "value": given}


_Law = Annotated[
    Constant | Uniform | LogNormal | Exponential | Empirical, Field(discriminator="distribution")
]
LengthLaw = Annotated[_Law, BeforeValidator(_always, json_schema_input_type=_Law | Count)]
"""A law by its name, or a number: always so many tokens."""


ConfigT = TypeVar("ConfigT", bound=Config)


def empirical_laws(config: Config, words: str = "") -> list[tuple[str, Empirical]]:
    """Return every law of a configuration that is read from a file, with its key."""
    found: list[tuple[str, Empirical]] = []
    for name in type(config).model_fields:
        value, key = getattr(config, name), f"{words}{name}"
        if isinstance(value, Empirical):
            found.append((key, value))
        elif isinstance(value, Config):
            found += empirical_laws(value, f"{key}.")
    return found


def anchored_laws(config: ConfigT, base_dir: Path) -> ConfigT:
    """Return a configuration whose laws have absolute paths, made from ``base_dir``."""
    changes: dict[str, object] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Empirical):
            changes[name] = value.anchored(base_dir)
        elif isinstance(value, Config):
            changes[name] = anchored_laws(value, base_dir)
    return config.model_copy(update=changes)


class Lengths(Config):
    """Prompt and output lengths: a law for each, or both from the requests of one trace.

    Prompt and output are independent, with one exception: two empirical columns of one file are
    drawn from the same row, because long prompts and long answers go together (or do not) in a way
    that a simulation must keep. ``joint: false`` draws them apart.
    """

    prompt: LengthLaw | None = None
    """Law of the prompt lengths."""
    output: LengthLaw | None = None
    """Law of the output lengths."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """A trace whose requests are drawn with replacement, instead of prompt and output."""
    joint: bool = True
    """Draw empirical prompt and output lengths of one file from the same row."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        laws = [name for name in ("prompt", "output") if getattr(self, name) is not None]
        if self.trace is not None and laws:
            raise ValueError(f"trace brings both lengths, so it cannot stand beside {laws[0]}")
        if self.trace is None and len(laws) < 2:
            raise ValueError("expected both prompt and output, or trace")
        return self

    @property
    def is_random(self) -> bool:
        """Whether lengths depend on the seed."""
        laws = (law for law in (self.prompt, self.output) if law is not None)
        return self.trace is not None or any(law.is_random for law in laws)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Return prompt and output lengths of ``count`` requests, in tokens.

        Raises:
            TraceError: a file that cannot be used.
        """
        for_prompt, for_output = rng.spawn(2)
        recorded = self._recorded()
        if recorded is not None:
            prompts, outputs = recorded
            rows = _rows(count, len(prompts), for_prompt)
            others = rows if self.joint else _rows(count, len(outputs), for_output)
            return prompts[rows], outputs[others]
        assert self.prompt is not None  # as is output: the validator saw to it
        assert self.output is not None
        return self.prompt.sample(count, for_prompt), self.output.sample(count, for_output)

    def anchored(self, base_dir: Path) -> "Lengths":
        """Return the same with its relative paths made absolute from ``base_dir``."""
        changes: dict[str, object] = {
            name: law.anchored(base_dir)
            for name, law in (("prompt", self.prompt), ("output", self.output))
            if isinstance(law, Empirical)
        }
        if self.trace is not None:
            changes["trace"] = str(base_dir.resolve() / self.trace)
        return self.model_copy(update=changes)

    def told(self) -> list[str]:
        """Say what is read of every file that lengths are drawn from.

        Raises:
            TraceError: a file that cannot be used.
        """
        if self.trace is not None:
            return [f"lengths are drawn from {traces.told_of_lengths(self.trace)}"]
        laws = (("prompt", self.prompt), ("output", self.output))
        return [
            f"{name} lengths are drawn from {law.told()}"
            for name, law in laws
            if isinstance(law, Empirical)
        ]

    def _recorded(self) -> tuple[Ints, Ints] | None:
        """Return the recorded prompt and output lengths of one file, row by row, if it is one."""
        if self.trace is not None:
            return traces.read_lengths(self.trace)
        prompt, output = self.prompt, self.output
        if not isinstance(prompt, Empirical) or not isinstance(output, Empirical):
            return None
        if prompt.path != output.path:
            return None
        pair = prompt.values(), output.values()
        if self.joint and len(pair[0]) != len(pair[1]):
            raise traces.TraceError(
                f"{prompt.path}: {prompt.column} has {len(pair[0])} usable rows but "
                f"{output.column} has {len(pair[1])}, so they cannot be drawn from the same row; "
                "set joint: false"
            )
        return pair


def _rows(count: int, available: int, rng: np.random.Generator) -> Ints:
    """Row numbers drawn with replacement."""
    return np.floor(rng.random(count) * available).astype(np.int64)
