"""Pages of what is timed on this machine, of rows whose right words are known."""

from typing import Any

import pytest

from experiments.calibrating import decoder_sheet, kv_cache_sheet
from experiments.reporting.page.figures import Figure, Series


def generation(prompt: int, output: int, speed_up: float) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt, "output_tokens": output, "speed_up": speed_up,
        "speed_up_predicted": 0.9 * speed_up, "cached_error": 0.05, "uncached_error": -0.07,
    }  # fmt: skip


def test_the_answer_on_the_cache_can_be_quoted() -> None:
    rows = [generation(10, 500, 2.0), generation(1000, 500, 5.6)]
    told = kv_cache_sheet.answer(rows)
    assert told.text == (
        "With the KV cache 500 tokens after a prompt of 1,000 come 5.60 times as fast; 5.04 times "
        "was predicted."
    )
    assert told.more == "Half of the predicted latencies are within 6.0% of the measured ones."


def test_lines_reach_the_last_token() -> None:
    seconds = [0.1 * (place + 1) for place in range(500)]
    names = ("cached", "cached_predicted", "uncached", "uncached_predicted")
    section = kv_cache_sheet.sections([], {1000: dict.fromkeys(names, seconds)})[0]
    for figure in section.figures:
        for line in figure.rows:
            assert isinstance(line, Series)
            assert line.name.startswith("prompt of 1,000")
            assert line.points[0] == (1.0, seconds[0])
            assert line.points[-1] == (500.0, seconds[-1])


def served(load: float, error: float) -> dict[str, Any]:
    return {
        "scheduler": "static", "load": load, "metric": "ttft_p95_s", "error": error,
        "noise": 0.01, "real": 1.0, "real_again": 1.01, "simulated": 1 + error,
    }  # fmt: skip


def test_errors_of_both_signs_are_no_small_error() -> None:
    rows = [served(0.25, -0.04), served(0.5, 0.0), served(0.75, 0.05)]
    (card,) = decoder_sheet.cards(rows)
    assert card["value"] == "4.0%"
    assert card["note"] == "median error; furthest off +5.0%"


def test_bars_of_all_settings_have_one_scale() -> None:
    rows = [served(0.25, -0.04), served(0.5, float("nan")), served(0.75, 0.05)]
    figures: list[Figure] = list(decoder_sheet.sections(rows, {})[0].figures)
    assert len(figures) == 3
    assert [figure.x.domain for figure in figures] == [pytest.approx((-5.2, 5.2))] * 3
