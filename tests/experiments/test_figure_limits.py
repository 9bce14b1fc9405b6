"""Limits of an slo in figures: where the lines are, and what the caption says of points."""

import math
from pathlib import Path
from typing import Any

import pytest

from experiments.reporting import plots
from experiments.reporting.drawing import house_style, save
from experiments.reporting.figure_caption import CAPTION_CHARACTERS, caption_of, entitle
from experiments.reporting.figure_layout import sweep_layout
from experiments.reporting.figure_marks import LIMIT
from experiments.reporting.limits import limit_of, limits_of
from experiments.reporting.plots import FIGURES, draw_plots
from experiments.reporting.records import Records
from sim.measuring.slo import Slo

RATE, GPU = "workload.arrivals.rate_per_s", "cluster.gpu"
SLO = Slo(ttft_s=1.0, tpot_s=0.05)


def point(rate: int, share: float, word: str, **more: Any) -> dict[str, Any]:
    return {
        "point": rate, GPU: "h100-sxm", RATE: rate, "seeds": 1, "saturated": 0.0,
        "measured_requests": 90_000.0, "slo_attainment": share, "slo_verdict": word,
        "output_tokens_per_s": 100.0 * rate, "usd_per_million_output_tokens": 8.0 / rate,
        "usd_per_hour": 9.9, "gpus": 4.0, "ttft_p50_s": 0.2, "ttft_p95_s": 0.3,
        "ttft_p99_s": 0.2 + rate / 10, "tpot_p95_s": 0.01 * rate, "tpot_p99_s": 0.02 * rate,
    } | more  # fmt: skip


KEPT, UNDECIDED, MISSED = (
    point(1, 1.0, "kept"), point(2, 0.992, "undecided"), point(8, 0.5, "missed")
)  # fmt: skip


def panels(rows: list[dict[str, Any]], slo: Slo, name: str = "latency") -> dict[str, Any]:
    """Axes of a figure by what they show."""
    table = Records.of(rows)
    with house_style():
        figure = FIGURES[name](sweep_layout(table, [GPU, RATE]), table, 1, limits_of(slo))
        assert figure is not None
        figure.draw_without_rendering()
    return {axes.get_title(loc="left").split()[0]: axes for axes in figure.axes}


def lines(axes: Any) -> list[float]:
    return [line.get_ydata()[0] for line in axes.lines if line.get_label() == LIMIT]


def test_caption_names_the_cheapest_point_that_keeps_it_with_its_price() -> None:
    rows = [KEPT, point(4, 0.999, "kept", gpus=8.0, usd_per_hour=1234.5), UNDECIDED, MISSED]
    text = caption_of([RATE], rows, SLO)
    assert text == (
        "Limits: 99% of requests with TTFT ≤ 1 s and TPOT ≤ 50 ms. "
        "Of 4 points 2 keep them, 1 is not certain, 1 misses them.\n"
        "Cheapest point that keeps the limits: rate_per_s 4 (8 GPUs, 1,234.50 USD/h), "
        "at USD 2.00 per million output tokens."
    )
    assert all(len(line) <= CAPTION_CHARACTERS for line in text.split("\n"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([UNDECIDED, MISSED], "No point surely keeps the limits; not certain with these seeds"),
        ([MISSED, point(9, 0.1, "missed")], "No point keeps the limits. The nearest is rate"),
        ([MISSED], "The limits are missed."),
        ([point(9, math.nan, "", ttft_p50_s=math.nan)], "No request that is measured had an"),
    ],
)  # fmt: skip
def test_caption_of_points_that_do_not_keep_it_names_no_price(
    rows: list[dict[str, Any]], words: str
) -> None:
    text = caption_of([RATE], rows, SLO)
    assert words in text
    assert "USD" not in text
    assert "GPU" not in text


def test_a_caption_of_long_lines_is_wrapped_as_one_text() -> None:
    from experiments.reporting.figure_library import Figure

    for words, counts in ((2, [2, 2]), (30, [25, 25, 10])):
        figure = Figure(figsize=(7, 3))
        entitle(figure, "title", "\n".join([" ".join(["word"] * words)] * 2))
        lines = figure.texts[-1].get_text().split("\n")
        assert [line.count("word") for line in lines] == counts


def test_caption_of_a_single_point_and_without_an_slo() -> None:
    text = caption_of([], [KEPT], SLO)
    limits, kept = text.split("\n")
    assert limits == "Limits: 99% of requests with TTFT ≤ 1 s and TPOT ≤ 50 ms."
    assert kept == ("The limits are kept. 4 GPUs, 9.90 USD/h, USD 8.00 per million output tokens.")
    assert caption_of([RATE], [KEPT, MISSED], None) == ""


def test_limits_are_lines_at_their_place_in_the_unit_of_the_panel() -> None:
    found = panels([KEPT, UNDECIDED, MISSED], SLO)
    assert found["TTFT"].get_title(loc="left") == "TTFT (ms), limit 1,000"
    assert lines(found["TTFT"]) == [1000.0]
    assert found["TPOT"].get_title(loc="left") == "TPOT (ms), limit 50"
    assert lines(found["TPOT"]) == [50.0]
    legend = [text.get_text() for text in found["TTFT"].figure.legends[0].get_texts()]
    assert LIMIT in legend


def test_a_percentile_has_its_own_limit_and_no_other_has_it() -> None:
    slo = Slo(ttft_p99_s=0.5)
    assert limit_of("ttft_p99_s", limits_of(slo)) == 0.5
    assert limit_of("ttft_p95_s", limits_of(slo)) is None
    assert limit_of("mbu", limits_of(SLO)) is None
    found = panels([KEPT, UNDECIDED, MISSED], slo)
    assert found["TTFT"].get_title(loc="left") == "TTFT (ms), limit 500 of p99"
    assert lines(found["TTFT"]) == [500.0]
    assert lines(found["TPOT"]) == []
    found = panels([KEPT, UNDECIDED, MISSED], slo, "throughput_latency")
    assert lines(found["TTFT"]) == []


def test_a_limit_near_the_data_widens_the_axis_and_a_far_one_is_told() -> None:
    rows = [KEPT, UNDECIDED, MISSED]
    plain = panels(rows, Slo(e2e_s=9.0))["TTFT"].get_ylim()
    near = panels(rows, Slo(ttft_s=1.5))["TTFT"]
    assert plain[1] < 1500 < near.get_ylim()[1] < 2 * plain[1]
    assert lines(near) == [1500.0]
    far = panels(rows, Slo(ttft_s=20.0))["TTFT"]
    assert lines(far) == []
    assert far.get_ylim() == plain
    assert far.get_title(loc="left") == "TTFT (ms), limit 20,000 (higher)"
    below = panels(rows, Slo(tpot_s=0.001))["TPOT"]
    assert lines(below) == []
    assert below.get_title(loc="left") == "TPOT (ms), limit 1 (lower)"


NAMES = ("h100-sxm", "a rather long name of one point, of two keys, and more")


@pytest.mark.parametrize("figure_name", ["throughput_latency", "latency"])
@pytest.mark.parametrize("keys", [(RATE,), (GPU, RATE), (GPU,)])
def test_nothing_overlaps_or_leaves_the_paper(
    keys: tuple[str, ...], figure_name: str, tmp_path: Path
) -> None:
    wide = {"measured_requests": 450.0}
    rows = [point(r, 1.0, "kept", **wide) | {GPU: g} for g in NAMES for r in (1, 4)]
    rows = {1: rows[:2], 2: rows}[len(keys)] if keys != (GPU,) else rows[::2]
    table = Records.of(rows)
    slo = Slo(ttft_s=1000.0, tpot_s=0.05, ttft_p99_s=0.5, tpot_p95_s=0.1, e2e_p99_s=30.0)
    caption = caption_of(keys, rows, slo)
    with house_style():
        figure = FIGURES[figure_name](sweep_layout(table, keys), table, 1, limits_of(slo))
        assert figure is not None
        height = figure.get_size_inches()[1]
        entitle(figure, "study: a figure", caption)
        assert figure.get_size_inches()[1] > height
        save(figure, tmp_path / "figure.png")
        (text,) = figure.texts[-1:]
        box = text.get_window_extent()
        heads = [axes._left_title.get_window_extent() for axes in figure.axes]
    assert len(caption) > CAPTION_CHARACTERS
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    first = text.get_text().split("\n")[0]
    assert caption.startswith(first)
    assert box.y1 < figure.bbox.y1 - 10 * figure.dpi / 72  # below the title
    assert all(head.y1 < box.y0 and head.x1 <= figure.bbox.x1 for head in heads)
    assert not any(a.overlaps(b) for i, a in enumerate(heads) for b in heads[:i])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert all("limit " in title for title in titles if title)
    assert not any(line.endswith("limit") for title in titles for line in title.split("\n"))


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, slo: Slo | None) -> dict[str, Any]:
    """Figures as a study leaves them in its folder, by their file's name."""
    figures: dict[str, Any] = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.update({path.stem: figure}))
    table, runs = Records.of([KEPT, UNDECIDED, MISSED]), Records({"seed": [0]})
    draw_plots("study", [RATE], runs, table, [], folder, slo=slo)
    return figures


def test_files_have_lines_and_caption_only_with_an_slo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_slo, without = (drawn(monkeypatch, tmp_path, slo) for slo in (SLO, None))
    assert {"latency", "throughput_latency"} <= with_slo.keys() == without.keys()
    for name, figure in with_slo.items():
        limits = [line for axes in figure.axes for line in axes.lines if line.get_label() == LIMIT]
        # TTFT p95 of 0.3 s is too far from 1 s for a line
        assert len(limits) == {"latency": 2, "throughput_latency": 1}.get(name, 0)
        assert figure.texts[-1].get_text() == caption_of([RATE], [KEPT, UNDECIDED, MISSED], SLO)
    for name, figure in without.items():
        assert not any(line.get_label() == LIMIT for axes in figure.axes for line in axes.lines)
        assert not any("limit" in axes.get_title(loc="left") for axes in figure.axes)
        assert [text.get_text() for text in figure.texts] == [f"study: {plots.TITLES[name]}"]
