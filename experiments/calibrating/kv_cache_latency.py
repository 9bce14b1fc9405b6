"""Study kind ``kv_cache_latency``: what a KV cache saves, measured and predicted.

A decoder generates tokens after prompts of several lengths, once with a KV cache (each token costs
one decode step) and once without (each token recomputes its whole sequence), and the calibrated
simulator's prices predict both. With the cache latency grows linearly with the tokens generated,
without it quadratically once they outnumber the prompt.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from experiments.calibrating import kv_cache_sheet
from experiments.calibrating.measured import Findings, MeasuredStudy, Tell
from experiments.reporting.records import Records
from model.dataclass import dataclass

if TYPE_CHECKING:
    from pandas import DataFrame

    from experiments.calibrating.fit import Fit
    from hardware.steps.cost import StepCost
    from model.torch.decoder import Decoder

Floats = npt.NDArray[np.float64]


class KvCacheStudy(MeasuredStudy):
    """A decoder, prompts, and how many tokens to generate after each."""

    kind: Literal["kv_cache_latency"] = "kv_cache_latency"
    """What a run is: generation with and without a KV cache."""
    prompt_tokens: tuple[Annotated[int, Field(gt=0, le=10**9)], ...] = Field(
        default=(10, 50, 100, 500, 1000), min_length=1
    )
    """Lengths of the prompts."""
    output_tokens: int = Field(default=64, gt=0, le=10**9)
    """Tokens to generate after each."""
    repeats: int = Field(default=3, gt=0, le=1000)
    """Timings of each generation; the one with the median total counts."""


@dataclass(frozen=True, slots=True)
class Generation:
    """When each token came after one prompt, in seconds from the start: measured, predicted."""

    prompt_tokens: int
    cached: bool
    measured_s: Floats
    predicted_s: Floats


def generations(study: KvCacheStudy, decoder: "Decoder", found: "Fit") -> list[Generation]:
    """Generate with and without a cache after every prompt, and predict both.

    Raises:
        ValueError: a prompt and its answer are longer than the model's positions.
    """
    from experiments.calibrating.fit import Target
    from hardware.gpu import load_gpu
    from hardware.steps.setup import StepSetup, step_cost
    from model.precision import precision

    longest = max(study.prompt_tokens) + study.output_tokens
    if longest > decoder.spec.max_position_embeddings:
        raise ValueError(
            f"prompt_tokens {max(study.prompt_tokens)} + output_tokens {study.output_tokens} "
            f"exceed the {decoder.spec.max_position_embeddings} positions of {decoder.spec.name}"
        )
    calibration = found.calibration
    target = Target(
        decoder.spec, calibration.device or load_gpu(study.gpu or ""), precision(study.dtype)
    )
    price = step_cost(
        StepSetup(
            spec=target.spec,
            gpu=target.gpu,
            precision=target.precision,
            calibration=calibration,
            max_tokens=longest,
            max_seqs=1,
        )
    )
    runs = []
    for prompt in study.prompt_tokens:
        for cached in (True, False):
            measured_s = _measure(study, decoder, prompt, cached)
            predicted_s = predict(price, prompt, study.output_tokens, cached)
            runs.append(Generation(prompt, cached, measured_s, predicted_s))
    return runs


def predict(price: "StepCost", prompt_tokens: int, output_tokens: int, cached: bool) -> Floats:
    """When each token comes, in seconds: one prefill, then decode steps or ever longer prefills."""
    durations = [price.step_s(0, 0, [(prompt_tokens, 0)])]
    for added in range(1, output_tokens):
        length = prompt_tokens + added
        durations.append(
            price.step_s(1, [min(length, window or length) for window in price.windows], ())
            if cached
            else price.step_s(0, 0, [(length, 0)])
        )
    return np.cumsum(durations)


def _measure(study: KvCacheStudy, decoder: "Decoder", prompt_tokens: int, cached: bool) -> Floats:
    import torch

    from model.torch.generation import generate

    generator = torch.Generator().manual_seed(study.seed)
    ids = torch.randint(decoder.spec.vocab_size, (prompt_tokens,), generator=generator).tolist()
    timings = []
    for _ in range(study.repeats + 1):  # the first warms up
        times: list[float] = []
        start_s = time.perf_counter()

        def on_token(times: list[float] = times, start_s: float = start_s) -> None:
            """Note when a token was there, seconds from the start."""
            if decoder.device.type == "cuda":
                torch.cuda.synchronize(decoder.device)
            times.append(time.perf_counter() - start_s)

        generate(decoder, [ids], study.output_tokens, use_cache=cached, on_token=on_token)
        timings.append(np.array(times))
    counted = sorted(timings[1:], key=lambda each: float(each[-1]))
    return counted[len(counted) // 2]


def tabulate(runs: list[Generation], output_tokens: int) -> "DataFrame":
    """One row per prompt and number of tokens: seconds with and without cache, and the speed-up."""
    import pandas as pd

    counts = sorted({count for count in (1, 8, 32, 128, 512) if count < output_tokens})
    rows = []
    for prompt in dict.fromkeys(run.prompt_tokens for run in runs):
        with_cache, without = (
            next(run for run in runs if run.prompt_tokens == prompt and run.cached is cached)
            for cached in (True, False)
        )
        for count in (*counts, output_tokens):
            row: dict[str, float] = {"prompt_tokens": prompt, "output_tokens": count}
            for name, run in (("cached", with_cache), ("uncached", without)):
                measured, predicted = run.measured_s[count - 1], run.predicted_s[count - 1]
                row |= {
                    f"{name}_s": measured,
                    f"{name}_predicted_s": predicted,
                    f"{name}_error": predicted / measured - 1.0,
                }
            row["speed_up"] = row["uncached_s"] / row["cached_s"]
            row["speed_up_predicted"] = row["uncached_predicted_s"] / row["cached_predicted_s"]
            rows.append(row)
    return pd.DataFrame(rows)


def by_prompt(runs: list[Generation]) -> dict[int, dict[str, list[float]]]:
    """Return when each token came, seconds, by prompt and by kind of generation."""
    found: dict[int, dict[str, list[float]]] = {}
    for run in runs:
        kind = "cached" if run.cached else "uncached"
        of_prompt = found.setdefault(run.prompt_tokens, {})
        of_prompt[kind] = run.measured_s.tolist()
        of_prompt[f"{kind}_predicted"] = run.predicted_s.tolist()
    return found


def draw_generations(runs: list[Generation], path: Path) -> None:
    """Draw latency over generated tokens, with and without cache, and the speed-up beside it."""
    from experiments.reporting.drawing import drawing

    prompts = list(dict.fromkeys(run.prompt_tokens for run in runs))
    colors = ("#56B4E9", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#000000")
    with drawing(path, 10.5, 4.4) as figure:
        panels = figure.subplots(1, 3)
        for run in runs:
            color = colors[prompts.index(run.prompt_tokens) % len(colors)]
            axes = panels[0] if run.cached else panels[1]
            tokens = np.arange(1, len(run.measured_s) + 1)
            label = f"{run.prompt_tokens}"
            axes.plot(tokens, run.measured_s, color=color, label=label)
            axes.plot(tokens, run.predicted_s, "--", color=color, linewidth=1.1)
        for prompt in prompts:
            fast, slow = (
                next(run for run in runs if run.prompt_tokens == prompt and run.cached is cached)
                for cached in (True, False)
            )
            tokens = np.arange(1, len(fast.measured_s) + 1)
            color = colors[prompts.index(prompt) % len(colors)]
            panels[2].plot(tokens, slow.measured_s / fast.measured_s, color=color)
            panels[2].plot(
                tokens, slow.predicted_s / fast.predicted_s, "--", color=color, linewidth=1.1
            )
        for axes, title, label in zip(
            panels,
            ("with KV cache", "without", "speed-up"),
            ("latency (s)", "latency (s)", "without / with"),
            strict=True,
        ):
            axes.set(title=title, xlabel="tokens generated", ylabel=label)
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
        handles = [*panels[0].get_lines()[::2]]
        handles.append(panels[0].plot([], [], "--", color="0.15", label="predicted")[0])
        figure.legend(
            handles=handles, title="prompt tokens", loc="outside lower center", ncols=len(handles)
        )
        figure.suptitle("Generation with and without a KV cache, measured and predicted")


FILES = ("latency.csv", "latency.png")
"""What ``run`` finds and draws."""


def run(
    study: KvCacheStudy, decoder: "Decoder", found: "Fit", folder: Path, tell: Tell
) -> Findings:
    """Generate, draw into ``folder``, and return the table."""
    tell(f"generating {study.output_tokens} tokens after {len(study.prompt_tokens)} prompts")
    runs = generations(study, decoder, found)
    table = tabulate(runs, study.output_tokens)
    draw_generations(runs, folder / "latency.png")
    rows = Records.of_frame(table).rows()
    return Findings(
        _lines(table), table, "latency.csv", kv_cache_sheet.answer(rows),
        kv_cache_sheet.cards(rows), kv_cache_sheet.sections(rows, by_prompt(runs)),
    )  # fmt: skip


def _lines(table: "DataFrame") -> list[str]:
    """Write the table for people, in ms."""
    lines = [
        "prompt  output | with cache ms: measured predicted  error | "
        "without: measured predicted  error | speed-up  predicted"
    ]
    lines += [
        f"{row['prompt_tokens']:>6} {row['output_tokens']:>7} | "
        f"{1e3 * row['cached_s']:>23.1f} {1e3 * row['cached_predicted_s']:>9.1f} "
        f"{row['cached_error']:>+6.1%} | "
        f"{1e3 * row['uncached_s']:>17.1f} {1e3 * row['uncached_predicted_s']:>9.1f} "
        f"{row['uncached_error']:>+6.1%} | {row['speed_up']:>7.1f}x "
        f"{row['speed_up_predicted']:>8.1f}x"
        for row in table.astype({"prompt_tokens": int, "output_tokens": int}).to_dict("records")
    ]
    return lines
